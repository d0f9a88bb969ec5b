"""The report's sections on a run's data, configuration, cost and versions."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationData
from knowsam_lite.data.records import SPLITS, Record, cases_of
from knowsam_lite.machine import versions as present_versions
from knowsam_lite.report.markup import details, pairs, section, tag
from knowsam_lite.runs.log import most_memory
from knowsam_lite.runs.run import Run

FEW = 30  # up to this many labelled ids are shown at once
UNKNOWN = "not recorded"


def data_set(run: Run, labeled: list[str]) -> str:
    """Name, origin and counts of the scored data, and the ids of the labelled training images."""
    data = run.dataset
    rows: dict[str, object] = {"name": data.name, "training data": run.config.data, **origin(data)}
    rows["classes"] = ", ".join(data.classes)
    rows |= {split: _counts(data.split(split)) for split in SPLITS}
    ids = f'<ul class="ids">{"".join(tag("li", name) for name in labeled)}</ul>'
    title = plural(len(labeled), f"labelled training {plane_name(data)}")
    if not {record.id for record in data.split("train")}.issuperset(labeled):
        title += f" (of {run.config.data}; the scored data set is a different one)"
    return section(
        "Data", pairs(rows), tag("h3", title), ids if len(labeled) <= FEW else details("Show all ids", ids)
    )


def _counts(records: list[Record]) -> str:
    """The number of images, or of slices and volumes, and of groups if a group has several."""
    volumes = len(cases_of(records)) if any(record.volume for record in records) else 0
    text = f"{plural(len(records), 'slice')} of {plural(volumes, 'volume')}" if volumes else ""
    groups = len({record.group for record in records})
    text = text or plural(len(records), "image")
    return f"{text} in {plural(groups, 'group')}" if groups < len(records) else text


def plane_name(data: SegmentationData) -> str:
    """The word for a training record of this data."""
    return "slice" if any(record.volume for record in data.split("train")) else "image"


def plural(count: int, name: str) -> str:
    """1 image, 2 images."""
    return f"{count} {name}" + "s" * (count != 1)


def origin(data: object) -> dict[str, object]:
    """Source and licence as stated in dataset.json; empty for data without a folder."""
    root = getattr(data, "root", None)
    if root is None:
        return {}
    try:
        found: Any = json.loads((Path(root) / "dataset.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {"source": UNKNOWN, "licence": UNKNOWN}
    found = found if isinstance(found, dict) else {}
    return {"source": found.get("source") or UNKNOWN, "licence": found.get("licence") or UNKNOWN}


def cost(run: Run, rows: list[dict[str, Any]], seconds: float, count: int, case: str) -> str:
    """Time, memory and parameters; what an older run did not log is marked as not recorded."""
    parameters = list(run.method.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    train = [row for row in rows if row.get("kind") == "train"]
    starts = [row for row in rows if row.get("kind") == "start"]
    memory = most_memory(rows)
    steps = zip(train, [{"step": 0}, *train], strict=False)
    learning = sum(row["seconds"] * (row["step"] - before["step"]) for row, before in steps)
    total = session_seconds(rows)
    last = starts[-1] if starts else {}
    facts: dict[str, object] = {
        "a step, median": f"{median(row['seconds'] for row in train):.3g} s" if train else UNKNOWN,
        "all steps": duration(learning),
        "with validation and saving": UNKNOWN if total is None else duration(total),
        "peak memory": f"{memory / 2**30:.2f} GiB" if memory else UNKNOWN,
        "trained parameters": f"{trained:,}",
        "frozen parameters": f"{frozen:,}",
        "trained on": f"{last['device']} ({last['model']}, {last['system']})" if starts else UNKNOWN,
        "threads": last.get("threads", UNKNOWN),
        "vector instructions": last.get("instructions", UNKNOWN),
        **({"sessions": len(starts)} if len(starts) > 1 else {}),
        f"scoring {plural(count, case)} with all maps": f"{seconds:.1f} s on {run.device}",
    }
    return section("Cost", pairs(facts))


def session_seconds(rows: list[dict[str, Any]]) -> float | None:
    """Wall time of all sessions together, each up to its last save; None if it was not logged."""
    ends: list[float] = []
    for row in rows:
        if row.get("kind") == "start":
            ends.append(0.0)
        elif row.get("kind") == "saved" and ends:
            ends[-1] = row["seconds"]
    return sum(ends) if any(ends) else None


def duration(seconds: float) -> str:
    """Seconds in words: 12.3 s, 4 min 5 s, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def configuration(config: Config) -> str:
    """Every field; those that differ from the recipe `lesson` are bold and come first."""
    values, usual = (json.loads(c.to_json()) for c in (config, Config()))
    shown = [(name, _text(value), value != usual[name]) for name, value in values.items()]
    changed = [(name, value) for name, value, differs in shown if differs]
    rest = {name: value for name, value, differs in shown if not differs}
    return section(
        "Configuration",
        tag("p", "Choices that differ from the recipe lesson:"),
        pairs(dict(changed)),
        details(f"The other {len(rest)}, as in the recipe", pairs(rest)),
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def versions(rows: list[dict[str, Any]]) -> str:
    """The versions used for scoring, and those used for training where the log shows different ones."""
    now = present_versions()
    starts = [row for row in rows if row.get("kind") == "start"]
    if not starts:
        return section(
            "Versions", tag("p", "Used for scoring; those of the training were not recorded."), pairs(now)
        )
    then = starts[-1]["versions"]
    lines = {
        name: found if then.get(name) == found else f"{found} (trained with {then.get(name, 'none')})"
        for name, found in now.items()
    }
    return section("Versions", pairs(lines))
