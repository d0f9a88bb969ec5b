"""`knowsam-lite push RUN OWNER/NAME` and `pull OWNER/NAME FOLDER`: a trained model on a model hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class PushOptions:
    """Send the weights of a run, its settings and a model card to a hub: no image, no mask, no file name."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="folder that `train` wrote")]
    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="OWNER/NAME", metavar="REPOSITORY")]
    which: Literal["last", "best"] = "last"  # last checkpoint, or the best on val
    public: bool = False  # for everyone to see; else a new repository is private
    dry_run: bool = False  # send nothing: write what would be sent into the folder REPOSITORY


@dataclass(frozen=True)
class PullOptions:
    """Bring a model from a hub into a folder from which `predict --which best` works."""

    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="OWNER/NAME", metavar="REPOSITORY")]
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="new folder", metavar="FOLDER")]


def push(arguments: Sequence[str]) -> int:
    """send a trained model to a model hub"""
    options = tyro.cli(PushOptions, args=arguments, prog="knowsam-lite push")
    from knowsam_lite.files import new_folder
    from knowsam_lite.predict import hub

    if options.dry_run:
        out = Path(options.repository)
        with new_folder(out) as folder:
            hub.pack(options.run, options.which, folder)
        print(f"sent nothing; would send {out}: {_listing(out)}")
        return 0
    with TemporaryDirectory() as name:
        hub.pack(options.run, options.which, Path(name))
        print(f"sending {_listing(Path(name))}", flush=True)
        print(f"sent: {hub.push(Path(name), options.repository, private=not options.public)}")
    return 0


def pull(arguments: Sequence[str]) -> int:
    """bring a trained model from a model hub"""
    options = tyro.cli(PullOptions, args=arguments, prog="knowsam-lite pull")
    from knowsam_lite.files import in_shell
    from knowsam_lite.predict import hub

    hub.pull(options.repository, options.out)
    print(f"wrote {options.out}: knowsam-lite predict {in_shell(options.out)} IMAGES OUT --which best")
    return 0


def _listing(folder: Path) -> str:
    """The files of a folder with their sizes."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in files)
