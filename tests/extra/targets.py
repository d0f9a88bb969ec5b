"""How good the targets of a `knowsam_plus` run are, on training images whose masks it did not see.

    python tests/extra/targets.py RUN [--data FOLDER] [--images 200]

Dice of the moving average, SAM, of what the students learn (the target) and of the mean of both; rows by r.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from knowsam_lite.evaluation import predicted
from knowsam_lite.methods import KnowSAMPlus
from knowsam_lite.methods.knowsam_plus import agreement, handover
from knowsam_lite.runs.run import load_run

EDGES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.01)


class Asked(KnowSAMPlus):
    """A method that shows what its targets are made of."""

    def views(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        z_ema = self.average(x).logits_f
        return {"EMA": z_ema, "SAM": self.teacher(x, z_ema).logits, "now": self.students(x).logits_f}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", help="the run's data set, if it is not where it was")
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = load_run(options.run, options.data)
    run.method.__class__ = Asked
    config, dataset = run.config, run.dataset
    hidden = [record for record in dataset.split("train") if record.id not in run.labeled_ids]
    order = np.random.default_rng(0).permutation(len(hidden))[: options.images]
    rows = []
    for _, _, truth, views in predicted(
        run.method, dataset, [hidden[i] for i in order], config.image_size, run.device
    ):
        z_ema, z_s, z = (views[name].unsqueeze(0).float().cpu() for name in ("EMA", "SAM", "now"))
        y = torch.as_tensor(truth).long().unsqueeze(0)
        r = handover(z, z_ema, z_s)
        p_ema, p_s = z_ema.softmax(dim=1), z_s.softmax(dim=1)
        maps = (p_ema, p_s, (1 - r) * p_s + r * p_ema, (p_ema + p_s) / 2)
        native = (F.interpolate(p, y.shape[-2:], mode="bilinear").argmax(dim=1) for p in maps)
        rows.append([r.item(), *(agreement(one, y, z.shape[1]).item() for one in native)])
    table = np.array(rows)
    print("r              images     EMA     SAM  target    mean")
    for low, high in [*pairwise(EDGES), (0.0, 1.01)]:
        here = table[(table[:, 0] >= low) & (table[:, 0] < high)]
        if len(here):
            dice = here[:, 1:].mean(axis=0)
            print(f"{low:.2f} to {min(high, 1):.2f}   {len(here):>6}", *(f"{one:>7.3f}" for one in dice))


if __name__ == "__main__":
    main()
