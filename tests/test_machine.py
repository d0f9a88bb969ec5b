"""Where a number was measured, and an environment in which other processors compute its digits."""

import os
import subprocess
import sys

import pytest
import torch

from knowsam_lite.machine import describe, same_digits

CONVOLUTION = """
import torch
from knowsam_lite.machine import describe, same_digits
torch.nn.Conv2d(8, 8, 3)(torch.ones(4, 8, 64, 64))
print(describe(torch.device("cpu"))["instructions"], same_digits())
"""


def test_a_run_says_which_instructions_computed_it():
    assert describe(torch.device("cpu"))["instructions"] == torch.backends.cpu.get_cpu_capability()


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="a processor with AVX-512")
def test_same_digits_keep_pytorch_and_onednn_from_avx512():
    """oneDNN names the kernel of a convolution only in what ONEDNN_VERBOSE prints."""

    def kernels(environment: dict[str, str]) -> str:
        env = {**os.environ, "ONEDNN_VERBOSE": "1", **environment}
        return subprocess.check_output([sys.executable, "-c", CONVOLUTION], env=env, text=True)

    usual, same = kernels({}), kernels(same_digits())
    assert "avx512" in usual and usual.splitlines()[-1].startswith("AVX512")
    assert "avx512" not in same and "avx2" in same and same.splitlines()[-1] == "AVX2 {}"
