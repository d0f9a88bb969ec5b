"""A grid on a cluster: jobs that each join it, sent by submitit, which knows SLURM."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from knowsam_lite.compare.grid import load_grid, run_grid
from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Jobs:
    """What is asked of the cluster: `count` jobs at a time, each for up to `hours`."""

    kind: Literal["slurm", "local"]
    count: int = 1
    hours: float = 24.0
    gpus: int = 1
    cpus: int = 4
    partition: str = ""


class Join:
    """What one job does: it takes cells of the grid in `out`, `workers` at a time, until none is left.

    After preemption SLURM starts it again, and it goes on where the saved cells stand.
    """

    def __init__(self, out: Path, workers: int):
        self.out, self.workers = out.absolute(), workers

    def __call__(self) -> list[str]:
        cells, _ = load_grid(self.out)
        return run_grid(cells, self.workers)

    def checkpoint(self) -> Any:
        """What submitit queues again when a job is preempted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(out: Path, jobs: Jobs) -> list[Any]:
    """Send the jobs, as one array on SLURM; their logs go to `out`/jobs. UserError without submitit."""
    try:
        import submitit
    except ImportError:
        raise UserError(
            "found no submitit, expected it for --cluster: run `pip install 'knowsam-lite[cluster]'`"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=str(out.absolute() / "jobs"), cluster=jobs.kind)
    except RuntimeError as error:
        raise UserError(f"found no SLURM here ({error}), expected sbatch: start it on a login node") from None
    executor.update_parameters(
        name="knowsam-lite",
        timeout_min=round(60 * jobs.hours),
        cpus_per_task=jobs.cpus,
        gpus_per_node=jobs.gpus,
    )
    if jobs.kind == "slurm":
        executor.update_parameters(slurm_array_parallelism=jobs.count)
        if jobs.partition:
            executor.update_parameters(slurm_partition=jobs.partition)
    with executor.batch():
        return [executor.submit(Join(out, max(jobs.gpus, 1))) for _ in range(jobs.count)]
