"""Exercise 10.4, an exact save."""

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from knowsam_lite.course.chapters.ch10.shared import walk
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import takes

Save = Callable[[Path, Any, Any, int], object]


def right_content(net: Any, optimizer: Any, step: int) -> dict[str, Any]:
    """Everything an exact resume needs."""
    return {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "random": torch.get_rng_state(),
    }


def restore(path: Path, net: nn.Module, optimizer: Optimizer) -> int:
    """Restore "net", "optimizer" and "random" from the file and return "step"."""
    content = torch.load(path, weights_only=True)
    net.load_state_dict(content["net"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["random"])
    return content["step"]


def small_net() -> tuple[nn.Module, Optimizer]:
    """A network with BatchNorm and dropout, always started the same way, and its optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    return net, torch.optim.Adam(net.parameters(), 0.05)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _weights(net: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in net.state_dict().values()]


def _undisturbed() -> list[Tensor]:
    torch.manual_seed(1)
    net, optimizer = small_net()
    walk(net, optimizer, 0, 10)
    return _weights(net)


def _resumed(f: Save) -> list[Tensor]:
    """Six steps, a save, four more that are thrown away, then resume from the file with new objects."""
    with _folder() as folder:
        torch.manual_seed(1)
        net, optimizer = small_net()
        walk(net, optimizer, 0, 6)
        f(folder / "last.pt", net, optimizer, 6)
        walk(net, optimizer, 6, 10)
        net, optimizer = small_net()
        step = restore(folder / "last.pt", net, optimizer)
        walk(net, optimizer, step, 10)
        return _weights(net)


def _content(f: Save) -> dict[str, Any]:
    with _folder() as folder:
        net, optimizer = small_net()
        walk(net, optimizer, 0, 3)
        f(folder / "last.pt", net, optimizer, 3)
        return torch.load(folder / "last.pt", weights_only=True)


class _FullDisk:
    """An object that cannot be written, as if the disk were full."""

    def state_dict(self) -> dict[str, Any]:
        return {"state": self}

    def __reduce__(self) -> str:
        raise OSError("no space left on device")


def _broken_save(f: Save) -> tuple[bool, bool, bool]:
    """After a failed save: whether it raised, the old file is there, and it is intact."""
    with _folder() as folder:
        path = folder / "last.pt"
        net, optimizer = small_net()
        torch.save(right_content(net, optimizer, 1), path)
        before, heard = path.read_bytes(), False
        try:
            f(path, _FullDisk(), _FullDisk(), 2)
        except NotImplementedError:
            raise
        except Exception:
            heard = True
        there = path.is_file()
        return heard, there, there and path.read_bytes() == before


def _survives(f: Save) -> bool:
    return all(_broken_save(f))


def _untouched(f: Save) -> bool:
    """Whether the old file, kept under a second name, is unchanged after a successful save."""
    with _folder() as folder, _folder() as elsewhere:
        path, kept = folder / "last.pt", elsewhere / "old.pt"
        net, optimizer = small_net()
        torch.save(right_content(net, optimizer, 1), path)
        before = path.read_bytes()
        try:
            os.link(path, kept)
        except OSError:  # a file system without hard links
            return True
        f(path, net, optimizer, 2)
        return kept.read_bytes() == before and path.read_bytes() != before


def _left(f: Save) -> list[str]:
    """The files in the folder after two successful saves."""
    with _folder() as folder:
        net, optimizer = small_net()
        for step in (1, 2):
            f(folder / "last.pt", net, optimizer, step)
        return sorted(path.name for path in folder.iterdir())


def _attempt(act: Callable[[], list[Tensor]]) -> list[Tensor]:
    """What `act` returns, or the error's type as a tensor, so the rest of a probe still counts."""
    try:
        return act()
    except NotImplementedError:
        raise
    except Exception as error:
        return [torch.tensor([*type(error).__name__.encode()])]


def _save_probe(f: Save) -> list[Tensor]:
    names = ("net", "optimizer", "step", "random")

    def held() -> list[Tensor]:
        content = _content(f)
        return [torch.tensor([name in content for name in names]), torch.tensor(len(content))]

    return [
        *_attempt(held),
        *_attempt(lambda: _resumed(f)),
        torch.tensor([*_broken_save(f), _left(f) == ["last.pt"], _untouched(f)]),
    ]


def _written(change: Callable[[dict[str, Any]], object]) -> Save:
    """A safe save of content that `change` has modified in place."""

    def save(path: Path, net: Any, optimizer: Any, step: int) -> None:
        content = right_content(net, optimizer, step)
        change(content)
        aside = path.with_name(f"{path.name}.part")
        torch.save(content, aside)
        os.replace(aside, path)

    return save


def _in_place(path: Path, net: Any, optimizer: Any, step: int) -> None:
    torch.save(right_content(net, optimizer, step), path)


def _in_one_go(path: Path, net: Any, optimizer: Any, step: int) -> None:
    memory = io.BytesIO()
    torch.save(right_content(net, optimizer, step), memory)
    path.write_bytes(memory.getvalue())


def _copied(path: Path, net: Any, optimizer: Any, step: int) -> None:
    aside = path.with_name(f"{path.name}.part")
    torch.save(right_content(net, optimizer, step), aside)
    shutil.copy(aside, path)


def _gap(path: Path, net: Any, optimizer: Any, step: int) -> None:
    path.unlink(missing_ok=True)
    _written(lambda content: None)(path, net, optimizer, step)


def _empty(content: dict[str, Any]) -> None:
    """Remove the optimizer's saved state, if it has any."""
    if "param_groups" in content["optimizer"]:
        content["optimizer"] = {**content["optimizer"], "state": {}}


def _parameters_only(path: Path, net: Any, optimizer: Any, step: int) -> None:
    named = dict(net.named_parameters())
    _written(lambda content: content.update(net={k: v.detach() for k, v in named.items()}))(
        path, net, optimizer, step
    )


def _whole_net(path: Path, net: Any, optimizer: Any, step: int) -> None:
    _written(lambda content: content.update(net=net))(path, net, optimizer, step)


SAVE = Exercise(
    "10.4",
    "an exact and safe save",
    _save_probe,
    (
        Property(
            "interface",
            "save(path, net, optimizer, step) writes a file with net, optimizer, step and random",
            lambda f: takes(f, 4) and set(_content(f)) == {"net", "optimizer", "step", "random"},
        ),
        Property(
            "networks",
            "all of the network is in it, BatchNorm's statistics included",
            lambda f: list(_content(f)["net"]) == list(small_net()[0].state_dict()),
        ),
        Property(
            "resume",
            "a resumed training ends bit for bit where an undisturbed one ends",
            lambda f: all(map(torch.equal, _resumed(f), _undisturbed())),
        ),
        Property("survives", "a save that fails is heard, and leaves the old file whole", _survives),
        Property(
            "renamed", "the new file takes the old one's place; nothing is written into the old", _untouched
        ),
        Property(
            "clean", "after a save the file lies alone in its folder", lambda f: _left(f) == ["last.pt"]
        ),
    ),
    (
        Mistake(
            "no random state",
            "the random state is not the one of the save, so dropout draws other numbers after it.",
            "hint 1: torch.get_rng_state() at the time of the save.",
            _written(lambda content: content.update(random=torch.Generator().get_state())),
        ),
        Mistake(
            "no random entry",
            "the file holds no random state, so nothing can put it back.",
            "hint 1: four entries, one of them is random.",
            _written(lambda content: content.pop("random")),
        ),
        Mistake(
            "no optimizer entry",
            "the file holds no optimizer, so its memory cannot be put back.",
            "hint 1: four entries, one of them is optimizer.",
            _written(lambda content: content.pop("optimizer")),
        ),
        Mistake(
            "an empty optimizer",
            "the optimizer's memory is lost: Adam begins anew with no moments.",
            "hint 1: the optimizer has a state_dict, too.",
            _written(_empty),
        ),
        Mistake(
            "step 0",
            "the step is not saved, so the batches and the schedule begin anew.",
            "hint 1: step is the fourth argument.",
            _written(lambda content: content.update(step=0)),
        ),
        Mistake(
            "one step on",
            "the saved step is one too large: after a resume one batch is never seen.",
            "hint 1: save the step as it was given.",
            _written(lambda content: content.update(step=content["step"] + 1)),
        ),
        Mistake(
            "parameters alone",
            "only parameters are saved; BatchNorm's running statistics are buffers and missing.",
            "hint 1: state_dict() holds parameters and buffers.",
            _parameters_only,
        ),
        Mistake(
            "the whole module",
            "the module itself was pickled: such a file can run code when loaded, and load refuses it.",
            "hint 1: save net.state_dict(), not net.",
            _whole_net,
        ),
        Mistake(
            "written in place",
            "the file is written in place: a save that breaks off destroys the last good one.",
            "hint 2: write another name in the same folder.",
            _in_place,
        ),
        Mistake(
            "made in memory",
            "the content was made in memory and then written in place: the power can go while it is written.",
            "hint 2: write another name in the same folder.",
            _in_one_go,
        ),
        Mistake(
            "copied",
            "the file was copied over the old one, which is writing in place again, and two files are left.",
            "hint 3: os.replace renames, and a rename is all or nothing.",
            _copied,
        ),
        Mistake(
            "a gap",
            "the old file is removed first, so there is a time without any.",
            "hint 3: os.replace takes the place of the old file by itself.",
            _gap,
        ),
    ),
    _written(lambda content: None),
)
