"""A step of `knowsam_plus` by the library and by a plain loop, in turn, on this machine.

    python tests/extra/plain_step.py

The plain loop computes the same losses as a user of segmentation_models_pytorch and segment_anything would
write it: nets as they come, SAM asked for one image and one class after another, one backward pass over the
sum of all terms, nothing of `knowsam_lite.fast`. Seconds are those that one thread computed (CPU time), so
other work on the machine disturbs them little; weights are random, which takes the same time.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from knowsam_lite.bench import WARM_UP, Noise
from knowsam_lite.config import LAPTOP, Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.fast.allocator import freed_memory_kept
from knowsam_lite.machine import describe
from knowsam_lite.methods import KnowSAMPlus
from knowsam_lite.sam import SamTeacher
from knowsam_lite.sam.teacher import TeacherOutput
from knowsam_lite.training import Trainer

CLASSES = 2


@dataclass(frozen=True)
class Options:
    """Time a training step and a plain loop's, in turn."""

    rounds: int = 5  # steps of each that count
    plain_size: int = 256  # pixels a side at which the plain loop's SAM looks
    threads: int = 1


class OneByOne(SamTeacher):
    """A SAM that answers one image and one class at a time."""

    def forward(self, x: Tensor, z_f: Tensor) -> TeacherOutput:
        embedding = self.encode(x)
        tokens, prompts = self.learnable_prompts(embedding), self.mask_prompts(z_f)
        answers = []
        for i in range(len(x)):
            for c in range(tokens.shape[1]):
                dense = self.embed_masks(prompts[i : i + 1, c : c + 1])
                answers.append(self.decode(embedding[i : i + 1], tokens[i : i + 1, c : c + 1], dense))
        low = torch.cat(answers).view(len(x), tokens.shape[1], *answers[0].shape[-2:])
        z = F.interpolate(low, x.shape[-2:], mode="bilinear", align_corners=False)
        return TeacherOutput(z, low, tokens, embedding)


def plain(config: Config, batch: Batch) -> Callable[[], None]:
    """A step of the plain loop."""
    torch.manual_seed(0)
    net_a = smp.Unet("timm-tf_efficientnet_lite0", encoder_weights=None, classes=CLASSES)
    net_b = smp.FPN("timm-tf_efficientnet_lite1", encoder_weights=None, classes=CLASSES)
    teacher = OneByOne(config.teacher, CLASSES, config.teacher_size or config.image_size)
    method = KnowSAMPlus(config, CLASSES, net_a, net_b, teacher)
    method.train()
    optimizers = method.optimizers()

    def step() -> None:
        terms = method.losses(batch, config.steps // 2)
        sum(terms.values()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        method.after_step(config.steps // 2)

    return step


def ours(config: Config, data: Noise) -> tuple[Callable[[], None], Batch]:
    """A step of the library's loop, and a batch for both."""
    torch.manual_seed(0)
    trainer = Trainer(data, config, KnowSAMPlus.with_random_weights(config, CLASSES))
    trainer.method.train()
    batch = trainer.batches[0]

    def step() -> None:
        trainer.step = config.steps // 2
        trainer.train_step(batch)

    return step, batch


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    config = replace(LAPTOP, device="cpu", labeled="8")
    data = Noise(CLASSES, config.image_size, 24)
    step, batch = ours(config, data)
    same_size, _ = ours(replace(config, teacher_size=options.plain_size), data)
    runs = {
        f"SMP and SAM one by one, {options.plain_size} px": plain(
            replace(config, teacher_size=options.plain_size), batch
        ),
        f"knowsam_lite, SAM at {options.plain_size} px": freed_memory_kept()(same_size),
        f"knowsam_lite, SAM at {config.teacher_size} px (laptop)": freed_memory_kept()(step),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WARM_UP + options.rounds):
        for name, run in runs.items():
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    first, *_ = (statistics.median(each[WARM_UP:]) for each in seconds.values())
    machine = describe(torch.device("cpu"))["model"]
    print(f"{machine}, {options.threads} threads, {config.image_size} px, 4 + 4 images")
    for name, each in seconds.items():
        median = statistics.median(each[WARM_UP:])
        print(f"{name:40} {median:6.2f} s a step   x{median / first:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Options))
