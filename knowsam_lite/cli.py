"""The command line: `knowsam-lite COMMAND ...` or `python -m knowsam_lite COMMAND ...`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from knowsam_lite.deprecated import old_names
from knowsam_lite.errors import exit_code

__getattr__ = old_names(__name__)


@dataclass(frozen=True)
class Command:
    """A command: its summary and its function in `knowsam_lite.commands`, imported on use for a fast help."""

    summary: str
    module: str
    function: str

    def __call__(self, arguments: Sequence[str]) -> int:
        module = import_module(f"knowsam_lite.commands.{self.module}")
        code: int = getattr(module, self.function)(arguments)
        return code


COMMANDS = {
    "train": Command("train a method and score it on the test images", "train", "train"),
    "evaluate": Command("score a run on a split", "evaluate", "evaluate"),
    "predict": Command("write masks for pictures and volumes", "predict", "predict"),
    "suggest": Command("choose the images to label next, and draft their masks", "suggest", "suggest"),
    "import-labels": Command("take corrected masks into a data set", "import_labels", "import_labels"),
    "export": Command("write a trained model as ONNX, for use without Python", "export", "export"),
    "demo": Command("write a page that runs a trained model in the browser", "demo", "demo"),
    "push": Command("send a trained model to a model hub", "hub", "push"),
    "pull": Command("bring a trained model from a model hub", "hub", "pull"),
    "annotate": Command("draw masks in the browser, helped by SAM and a trained run", "annotate", "annotate"),
    "compare": Command("train methods x data sets x seeds and print one table", "compare", "compare"),
    "ablate": Command("add one part of KnowSAM at a time and print one table", "ablate", "ablate"),
    "check-data": Command("list every fault of a data folder", "check", "check_data"),
    "data": Command("bring a published data set, or your own images, into one folder", "data", "data"),
    "figure": Command("draw a figure for a lecture", "figure", "figure"),
    "parity": Command("compare the official variant with recorded cases", "parity", "parity"),
    "bench": Command("time a training step, a prediction or the data on this machine", "bench", "bench"),
    "weights": Command("download a teacher's pretrained weights", "weights", "weights"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what the user can mend is one line on standard error, see `errors.exit_code`."""
    return exit_code(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    listing = "\n".join(f"  {name:13} {command.summary}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "knowsam-lite",
        description=f"KnowSAM: learn to segment medical images from few labels.\n\ncommands:\n{listing}",
        epilog="knowsam-lite COMMAND --help lists a command's options",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...")
    given = parser.parse_args(arguments)
    return COMMANDS[given.command](given.options)


if __name__ == "__main__":
    sys.exit(main())
