"""A trained model on a model hub (huggingface.co, or a server of the same kind): what predicts, and its card.

No image, no mask, no name of either and no address of this machine is sent.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from knowsam_lite.errors import UserError
from knowsam_lite.files import new_folder, write_text
from knowsam_lite.predict.model_card import model_card
from knowsam_lite.predict.predictor import Predictor
from knowsam_lite.runs.checkpoints import save_best
from knowsam_lite.runs.run import load_for_prediction

WEIGHTS = "best.safetensors"  # the name that `--which best` looks for
FILES = ("config.json", "dataset.json", WEIGHTS, "README.md")
HEAD = """---
library_name: knowsam_lite
pipeline_tag: image-segmentation
tags: [medical, semi-supervised]
---

"""


def pack(run: Path, which: str, folder: Path) -> None:
    """Write FILES of a run, its "last" weights or the "best" on val, into an existing folder."""
    method, config, classes, step = load_for_prediction(run, which)
    about: dict[str, Any] = classes.description("")
    if (run / "dataset.json").is_file():
        about["name"] = json.loads((run / "dataset.json").read_text(encoding="utf-8")).get("name", "")
    plain = replace(config, data=about["name"], out=Path(), checkpoint=None, device="auto")
    write_text(folder / "config.json", plain.to_json())
    write_text(folder / "dataset.json", json.dumps(about, indent=1))
    save_best(folder / WEIGHTS, method, step)
    card = model_card(run, Predictor.from_run(run, which, "cpu"), f"`{WEIGHTS}`: the networks' weights", {})
    write_text(folder / "README.md", HEAD + card)


def push(folder: Path, repository: str, private: bool) -> str:
    """Send what `pack` wrote to "OWNER/NAME", which is made if there is none; returns the address.

    Uses the token of `hf auth login` or HF_TOKEN, and the server HF_ENDPOINT. Raises UserError if that fails.
    """
    with asking(repository) as hub:
        hub.HfApi().create_repo(repository, private=private, exist_ok=True)
        done = hub.HfApi().upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="A trained model",
        )
    return str(done.commit_url)


def pull(repository: str, out: Path) -> None:
    """Download what `push` sent into the new folder `out`, and see that it predicts. Raises UserError."""
    with new_folder(out) as folder:
        with asking(repository) as hub:
            for name in FILES:
                hub.hf_hub_download(repository, name, local_dir=folder)
        load_for_prediction(folder, "best")


@contextmanager
def asking(repository: str) -> Iterator[Any]:
    """huggingface_hub; what goes wrong with the server is a UserError."""
    try:
        import huggingface_hub as hub
    except ImportError:
        raise UserError(
            "found no huggingface_hub, expected it for a model hub: run `pip install 'knowsam-lite[hub]'`"
        ) from None
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

    try:
        yield hub
    except (HTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise UserError(
            f"found {repository} not reachable ({reason}), expected OWNER/NAME on a model hub: check the "
            "name and the network, and run `hf auth login`"
        ) from None
