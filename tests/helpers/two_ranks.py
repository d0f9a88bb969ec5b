"""What one of several processes does in tests/test_parallel.py: trains and writes what it ended with.

Run by torchrun: two_ranks.py FOLDER METHOD..., where a method named "plain:NAME" draws no noise, and one
named "apart:NAME" begins with other weights in each process.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import torch
from torch import nn

from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic
from knowsam_lite.methods import method_named, with_sam
from knowsam_lite.parallel import ranks
from knowsam_lite.parallel.start import joined
from knowsam_lite.training import Trainer


def without_noise(method: nn.Module) -> None:
    """No dropout, and BatchNorms that use their stored statistics: then parts of a batch do not matter."""
    for part in method.modules():
        if isinstance(part, nn.Dropout | nn.Dropout2d):
            part.p = 0.0
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
            part.train = lambda mode=True, part=part: part  # type: ignore[method-assign]
    with_sam.roughen = lambda z: z  # type: ignore[assignment]


def train(name: str, out: Path) -> dict[str, torch.Tensor]:
    """The trained tensors after a few steps on tiny images.

    Without noise the optimizer is SGD: Adam makes a whole step of a gradient that is nothing but rounding.
    """
    plain, apart = (name.startswith(kind) for kind in ("plain:", "apart:"))
    name = name.split(":")[-1]
    steps = 4 if plain else 1
    config = Config(
        method=name,
        image_size=32,
        steps=steps,
        labeled="4",
        out=out,
        val_every=steps,
        device="cpu",
        optimizer="published" if plain else "adamw",
        teacher_learning_rate=1e-5,
        largest_component=False,
    )
    data = Synthetic("dermoscopy", n=16, size=32)
    torch.manual_seed(ranks.rank() if apart else 0)
    trainer = Trainer(data, config, method_named(name).with_random_weights(config, data.num_classes))
    roughen = with_sam.roughen
    try:
        if plain:
            without_noise(trainer.method)
        trainer.start()
        assert trainer.fit(progress=False)
    finally:
        with_sam.roughen = roughen
    return {key: tensor.clone() for key, tensor in trainer.method.trained_state().items()}


def digests(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """SHA-256 of the bytes of each tensor: what 40 methods end with would fill a small disk."""
    return {key: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for key, tensor in tensors.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with joined():
        for method in sys.argv[2:]:
            run = folder / method.replace(":", "_")
            ended = train(method, run)
            Path(f"{run}.{ranks.rank()}.json").write_text(json.dumps(digests(ended)), encoding="utf-8")
            if ranks.rank() == 0:  # which alone writes runs
                shutil.rmtree(run)
                if method.startswith("plain:"):
                    torch.save(ended, f"{run}.pt")
