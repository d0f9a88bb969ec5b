"""What all tests share: one thread (small tensors are slower with more), and where real data lies."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
# A shell without job control starts what runs in the background with Ctrl-C ignored, and so would be the
# processes to which tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: of two workers none is left alone with them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How full the disk is where tests write: a full one fails hundreds of tests, each in its own words."""
    place = tempfile.gettempdir()
    terminalreporter.write_line(f"{shutil.disk_usage(place).free / 1e9:.1f} GB are free in {place}")


def shared(variable: str, default: str) -> Path:
    """A folder that does not come with this repository; the test skips, saying so, where it is absent."""
    path = Path(os.environ.get(variable, ROOT / default))
    if not path.is_dir():
        pytest.skip(f"no {path}: set {variable} to run this test")
    return path


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, one per subfolder."""
    return shared("KNOWSAM_LITE_TEST_DATA", "../shared/data")
