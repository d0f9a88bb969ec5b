"""The training loop, the same for every method."""

import json
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from knowsam_lite import interrupt
from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationData, choose_labeled
from knowsam_lite.data.check import check_for_training
from knowsam_lite.data.fingerprint import Fingerprint
from knowsam_lite.data.layout import has_data
from knowsam_lite.data.sampler import Batch, StepBatches, all_alive, preparing, read_ahead
from knowsam_lite.data.tiles import Tiles
from knowsam_lite.deprecated import old_names
from knowsam_lite.encoders.nets import share_batchnorm
from knowsam_lite.errors import UserError
from knowsam_lite.evaluation import mean_dice, score_split
from knowsam_lite.fast.training import (
    compile_students,
    prepare_same_bits,
    same_bits,
    speed_up,
    while_training,
)
from knowsam_lite.files import in_shell, write_text, writing
from knowsam_lite.machine import describe, peak_memory
from knowsam_lite.methods import Method
from knowsam_lite.methods.base import rate_factor
from knowsam_lite.parallel import ranks
from knowsam_lite.runs import log
from knowsam_lite.runs.checkpoints import Progress, load_last, random_state, save_best, save_last
from knowsam_lite.runs.loggers import row_logger
from knowsam_lite.runs.provenance import require_same, store
from knowsam_lite.runs.run import Run, build_method, choose_device, use_bf16
from knowsam_lite.subnets import check_size

__getattr__ = old_names(__name__)


class Trainer:
    """Trains one method on one data set into one run folder.

    `dataset`: anything with the members of `SegmentationData`. `method`: by default the one that `config`
    names, which is the one that `load_run` and `Predictor.from_run` make again; it follows this `config`.
    `on_row`: called with every row of the log, for a logger of your own. After `fit`, `method` holds the last
    weights and the run folder `config.json`, `log.jsonl`, `last.pt` and, where there are val masks,
    `best.safetensors`. Raises UserError for data that cannot be trained on and for an output folder that is
    in use.

    With several processes (`knowsam_lite.parallel`) each takes its part of every batch; the first one writes.
    """

    def __init__(
        self,
        dataset: SegmentationData,
        config: Config,
        method: Method | None = None,
        on_row: Callable[[dict[str, Any]], None] | None = None,
    ):
        self.dataset, self.config, self.run = dataset, config, Path(config.out)
        self.on_row = on_row or row_logger(config.logger, self.run)
        check_size(config.image_size, config.image_size)
        self.device = choose_device(config.device)
        prepare_same_bits(config.deterministic)
        self.bf16 = use_bf16(config.precision, self.device)
        self.labeled_ids = sorted(choose_labeled(dataset.records, config.labeled, config.seed))
        self.method = (build_method(config, dataset.num_classes) if method is None else method).to(
            self.device
        )
        self.method.config = config  # its ramps end with this run, whatever it was made for
        if ranks.size() > 1 and self.device.type == "cuda":
            self.method = share_batchnorm(self.method)
        if config.compile:
            compile_students(self.method)
        speed_up(self.method, config.image_size, self.device, self.bf16)
        self.method.require_batch(
            config.batch_labeled // ranks.size(), config.batch_unlabeled // ranks.size()
        )
        cut = Tiles(dataset, config.tile) if config.tile else None
        self.batches = StepBatches(
            cut or dataset,
            cut.ids_of(self.labeled_ids) if cut else self.labeled_ids,
            seed=config.seed,
            batch_labeled=config.batch_labeled,
            batch_unlabeled=config.batch_unlabeled if self.method.uses_unlabeled else 0,
            size=config.image_size,
            labeled_aug=config.labeled_aug,
            unlabeled_aug=config.unlabeled_aug,
            extra_views=self.method.extra_views,
            share=(ranks.rank(), ranks.size()),
        )
        self.optimizers = self.method.optimizers()
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        self.learned = list(dict.fromkeys(p for group in groups for p in group["params"]))
        self.base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.step, self.best, self.window = 0, -1.0, log.Window()
        self.began = time.perf_counter()  # of this session, see `fit`

    @property
    def precision(self) -> str:
        """What the networks compute in here, which `config.precision` may have left to the device."""
        return "bf16" if self.bf16 else "fp32"

    @cached_property
    def seen(self) -> Fingerprint:
        """What the data set holds, read once. Raises UserError if something needed is bad."""
        return check_for_training(self.dataset, self.labeled_ids)

    def start(self) -> None:
        """Make a new run folder. Raises UserError if it cannot be written, holds a run or holds data."""
        torch.manual_seed(ranks.own_seed(self.config.seed))
        if ranks.rank():
            return
        if (self.run / "last.pt").exists():
            raise UserError(
                f"found a run in {self.run}, expected a new folder: give another --out, or go on with "
                f"knowsam-lite train --resume {in_shell(self.run)}"
            )
        if has_data(self.run) and not (self.run / "config.json").exists():
            raise UserError(
                f"found a data set in {self.run}, expected a new folder for the run: give another --out"
            )
        with writing(self.run):
            self.run.mkdir(parents=True, exist_ok=True)
        write_text(self.run / "config.json", self.config.to_json())
        store(self.run, self.dataset, self.config, self.seen)
        write_text(self.run / "log.jsonl", "")

    def resume(self) -> None:
        """Resume exactly from `last.pt`; later rows of the log are dropped, as they will be written again.

        Raises UserError naming every setting and everything in the data that is not as it was.
        """
        if ranks.rank() == 0:
            require_same(self.run, self.dataset, self.config, self.seen)
        saved = load_last(self.run / "last.pt", self.method, self.optimizers)
        if saved.labeled != self.labeled_ids:
            raise UserError(
                f"found other labelled images in {self.dataset.name} than {self.run} began with, "
                "expected the same data: restore it or start again"
            )
        self.step, self.best = saved.step, saved.best
        if ranks.rank():
            return
        rows = log.read_log(self.run)
        before = {row.get("precision", self.precision) for row in rows if row["kind"] == "start"}
        if before - {self.precision}:
            print(f"Note: {self.run} was in {', '.join(before)} before, and goes on in {self.precision}.")
        kept = [json.dumps(row) for row in rows if row["step"] <= self.step]
        write_text(self.run / "log.jsonl", "".join(f"{row}\n" for row in kept))

    def fit(self, progress: bool = True) -> bool:
        """Train to the end of the run; returns False if Ctrl-C stopped it early (all is saved then)."""
        config = self.config
        self.began = time.perf_counter()
        ranks.as_first(() if self.step else self.method.state_dict().values())
        about = {"precision": self.precision, **describe(self.device)}
        self.write_row({"kind": "start", "step": self.step, **about})
        steps = range(self.step, config.steps)
        cuda = self.device.type == "cuda"
        workers = preparing(config.workers, cuda)
        ahead = read_ahead(self.batches, steps, workers, pin=cuda)
        self.method.train()
        hidden = not progress or ranks.rank() > 0
        with (
            while_training(self.method),
            all_alive(workers),
            same_bits(config.deterministic),
            interrupt.Interrupt().listening() as stop,
            tqdm(ahead, self.method.name, len(steps), disable=hidden, dynamic_ncols=True) as bar,
        ):
            began = time.perf_counter()
            for batch in bar:
                self.train_step(batch)
                if self.step % config.log_every == 0 or self.step == config.steps:
                    row = self.log(time.perf_counter() - began)
                    bar.set_postfix(loss=f"{row:.3f}", best=f"{max(self.best, 0):.3f}")
                    began = time.perf_counter()
                planned = self.step % config.val_every == 0 or self.step == config.steps
                if planned:
                    paused = time.perf_counter()
                    self.validate()
                    self.save()
                    began += time.perf_counter() - paused  # a step's time is that of training alone
                if ranks.any_of(stop.asked):
                    if not planned:
                        self.save(between=True)
                    return False
        return True

    def train_step(self, batch: Batch) -> None:
        """One step: the losses part by part, each with its backward pass, then all optimizers.

        The terms stay on the device. Each learning rate is its base times `rate_factor`.
        """
        factor = rate_factor(self.step, self.config.steps, self.config.warm_up)
        for optimizer, rates in zip(self.optimizers, self.base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        batch = batch.to(self.device)
        terms: dict[str, Tensor] = {}
        parts = self.method.parts(batch, self.step)
        while (part := self.next_part(parts)) is not None:
            learned = [term for term in part.values() if term.requires_grad]
            if learned:
                torch.stack(learned).sum().backward()
            terms |= part
        if not any(term.requires_grad for term in terms.values()):
            raise UserError(
                f"found no loss of {self.method.name} with a gradient at step {self.step}, expected one: do "
                "not detach what is to be learned"
            )
        ranks.average_gradients(self.learned)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.method.after_step(self.step)
        self.window.add(self.step, batch.ids, terms)
        self.step += 1

    def next_part(self, parts: Iterator[dict[str, Tensor]]) -> dict[str, Tensor] | None:
        """The next terms of a step, computed in bf16 if that was chosen; None after the last."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return next(parts, None)

    def write_row(self, row: dict) -> None:
        if ranks.rank():
            return
        path = self.run / "log.jsonl"
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.on_row(row)

    def log(self, seconds: float) -> float:
        """Read the window, write it to the log and return the mean total loss."""
        count = len(self.window.steps)
        shares = ranks.gathered(self.window.read())
        losses = {name: sum(share[name] for share in shares) / len(shares) for name in shares[0]}
        self.window = log.Window()
        total = sum(losses.values())
        rate = self.optimizers[0].param_groups[0]["lr"]
        row = {"kind": "train", "step": self.step, "losses": losses, "total": total}
        self.write_row({**row, "lr": rate, "seconds": seconds / count})
        return total

    def validate(self) -> None:
        """Score the val images, if there are any, and keep the best weights."""
        if not self.dataset.split("val"):
            return
        ranks.average_buffers(self.statistics().values())
        share = score_split(
            self.method,
            self.dataset,
            "val",
            self.config.image_size,
            self.device,
            self.bf16,
            distances=False,
            share=(ranks.rank(), ranks.size()),
            tile=self.config.tile,
        )
        shares = ranks.gathered(share)
        scores = {view: ranks.interleaved([each.get(view, []) for each in shares]) for view in shares[0]}
        dice = {view: mean_dice(cases) for view, cases in scores.items()}
        self.write_row({"kind": "val", "step": self.step, "dice": dice})
        chosen = dice[self.method.prediction_view]
        if chosen > self.best:
            self.best = chosen
            if ranks.rank() == 0:
                save_best(self.run / "best.safetensors", self.method, self.step)

    def statistics(self) -> dict[str, Tensor]:
        """The BatchNorms' statistics, which each process has of its part of the images."""
        trained = self.method.trained_state()
        return {name: b for name, b in self.method.named_buffers() if name in trained}

    def save(self, between: bool = False) -> None:
        """Save the state after the last step, once every loss so far is known to be finite.

        `between` validations, where a run that goes on would not share them, each process's statistics are
        saved beside their mean. Logs this session's time and peak memory so far.
        """
        self.window.read()
        own = random_state()
        if between and ranks.size() > 1:
            own["statistics"] = {name: b.cpu().clone() for name, b in self.statistics().items()}
        ranks.average_buffers(self.statistics().values())
        states = ranks.gathered(own)  # and no rank has met a loss that is not finite
        if ranks.rank():
            return
        progress = Progress(self.step, self.best, self.labeled_ids)
        save_last(self.run / "last.pt", self.method, self.optimizers, progress, states)
        seconds, memory = time.perf_counter() - self.began, peak_memory(self.device)
        row = {"kind": "saved", "step": self.step, "seconds": seconds, "peak_memory_bytes": memory}
        self.write_row(row)

    def result(self) -> Run:
        """This training as a `Run`, for evaluation and prediction."""
        return Run(
            self.run,
            self.config,
            self.dataset,
            self.method,
            self.device,
            self.bf16,
            self.step,
            self.labeled_ids,
        )


def fit(
    dataset: SegmentationData, config: Config, method: Method | None = None, progress: bool = True
) -> Method:
    """Train `method` (by default the one that `config` names) on `dataset` and return it, ready to predict.

    Writes the run folder `config.out` as the command line does. Raises UserError as `Trainer` does.
    """
    trainer = Trainer(dataset, config, method)
    trainer.start()
    trainer.fit(progress)
    return trainer.method.eval()
