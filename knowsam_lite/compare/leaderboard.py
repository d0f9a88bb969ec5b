"""The table of a grid, as Markdown, as one page of HTML and as CSV, and its pictures."""

import base64
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from knowsam_lite.compare.causes import failures
from knowsam_lite.compare.results import Block, Entry
from knowsam_lite.compare.verdicts import differences, gains_by_sam
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_text

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 75rem; margin: 0 auto; padding: 1rem }
div { overflow-x: auto } img { max-width: 100%; height: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: left }
"""


def rows(block: Block, baselines: Sequence[str]) -> list[dict[str, str]]:
    """The block's table, column -> text: Dice, each seed, best on val, differences, HD95, calibration,
    cost. Time and memory also as multiples of the first row's.
    """
    found = []
    first = next(iter(block.entries.values()))
    against = {name: differences(block, name) for name in baselines if name in block.entries}
    if gains := gains_by_sam(block):
        against["itself without SAM"] = gains
    for entry in block.entries.values():
        seeds = entry.last.mean(axis=1)
        spread = f" +- {seeds.std(ddof=1):.3f}" if len(seeds) > 1 else ""
        row = {
            "method": entry.variant,
            "Dice, last step": f"{seeds.mean():.3f}{spread}",
            "each seed": " ".join(f"{value:.3f}" for value in seeds),
            f"best on {block.val} val images": "" if entry.best is None else f"{entry.best.mean():.3f}",
        }
        row |= {f"against {name}": said.get(entry.variant, "") for name, said in against.items()}
        distance, unit = entry.distance
        row[f"median HD95, {unit}"] = f"{distance:.1f}"
        if entry.calibration is not None:
            row["calibration error"] = f"{entry.calibration:.3f}"
        found.append(row | cost(entry, first))
    names = list(dict.fromkeys(name for row in found for name in row))
    return [{name: row.get(name, "") for name in names} for row in found]


def cost(entry: Entry, unit: Entry) -> dict[str, str]:
    """Trained parameters, time per step and peak memory, the last two also as multiples of `unit`'s."""
    seconds, memory = entry.cost("seconds_per_step"), entry.cost("peak_memory_bytes")
    return {
        "parameters": f"{entry.cost('parameters') / 1e6:.1f} M",
        "s a step": f"{seconds:.2f} (x{seconds / unit.cost('seconds_per_step'):.1f})",
        "memory": f"{memory / 2**30:.1f} GiB (x{memory / unit.cost('peak_memory_bytes'):.1f})",
    }


def heading(block: Block) -> str:
    """A block's labels, test cases and seeds, in one line."""
    number = block.labeled.removesuffix("groups")
    labels = f"{number} labels" if number == block.labeled else f"{number} labelled groups"
    text = f"{labels}, {block.images} test {block.case}s, seeds "
    text += ", ".join(map(str, block.seeds))
    return text + (f"; {block.waiting} runs are not done" if block.waiting else "")


def markdown(blocks: Sequence[Block], baselines: Sequence[str]) -> str:
    """The tables of each data set."""
    lines = []
    for block in blocks:
        for says, table in tables(block, baselines).items():
            lines += [f"**{block.title}**, {says}", ""]
            lines += ["| " + " | ".join(table[0]) + " |", "|" + "---|" * len(table[0])]
            lines += ["| " + " | ".join(row.values()) + " |" for row in table] + [""]
    return "\n".join(lines)


def tables(block: Block, baselines: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """A block's tables by their headings: the results, and where methods fail if its images are known."""
    found = {heading(block): rows(block, baselines)}
    if failed := failures(block):
        found["Dice by trait (how many images)"] = failed
    return found


def html(blocks: Sequence[Block], baselines: Sequence[str], pictures: Mapping[str, Path]) -> str:
    """A self-contained page: tables and pictures (caption -> file)."""
    parts = []
    for block in blocks:
        parts.append(f"<h2>{escape(block.title)}</h2>")
        for says, table in tables(block, baselines).items():
            head = "".join(f"<th>{escape(name)}</th>" for name in table[0])
            body = "".join(
                "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row.values()) + "</tr>"
                for row in table
            )
            parts.append(f"<p>{escape(says)}</p>")
            parts.append(f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")
    for says, path in pictures.items():
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append(f"<h2>{escape(says)}</h2>")
        parts.append(f'<img alt="{escape(says)}" src="data:image/png;base64,{data}">')
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Comparison</title><style>{CSS}</style><h1>Comparison</h1>"
        "<p>Dice on test images with the last checkpoint, mean +- standard deviation over seeds. Brackets: "
        "95 % interval over test cases and seeds, as if both were drawn from many; 3/3: ahead with three of "
        "three seeds; d: Cohen's, of the paired cases. Better and worse hold for a whole column (Holm, 5 %); "
        "tie (Holm): alone it would not be one. A tie is undecided, not equal.</p>"
        + "\n".join(parts)
        + "</html>\n"
    )


def csv_text(blocks: Sequence[Block]) -> str:
    """All numbers: a line for each cell and checkpoint, metrics averaged over cases and classes."""
    out = io.StringIO()
    names = ["dice", "iou", "hd95", "asd"]
    kept = ["seconds_per_step", "peak_memory_bytes", "parameters"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["data", "labeled", "method", "seed", "checkpoint", "view", "cases", *names, "unit", *kept]
    )
    for block in blocks:
        for entry in block.entries.values():
            for cell, scores in zip(entry.cells, entry.scores, strict=True):
                for which in ("last", "best"):
                    for view, cases in scores.get(which, {"cases": {}})["cases"].items():
                        means = [f"{np.mean([case[name] for case in cases]):.6g}" for name in names]
                        about = [block.data, block.labeled, entry.variant, cell.config.seed, which, view]
                        cost_of = [scores["cost"][name] for name in kept]
                        writer.writerow([*about, len(cases), *means, scores[which]["unit"], *cost_of])
    return out.getvalue()


def write_leaderboard(blocks: Sequence[Block], baselines: Sequence[str], folder: Path) -> list[Path]:
    """Write results.csv, table.md, leaderboard.html and pictures of the data sets whose runs still exist;
    returns the paths. A line on standard error says why there are no pictures of predictions.
    """
    from knowsam_lite.compare.pictures import (  # matplotlib is not needed to train
        draw_curves,
        draw_failures,
        draw_sheet,
        has_runs,
    )

    pictures = {}
    shown = [block for block in blocks if has_runs(block)]
    for i, block in enumerate(shown):
        path = folder / f"curves_{i}.png"
        if draw_curves(block, path):
            pictures[f"{block.title}: Dice on val over the steps, mean over seeds"] = path
    try:
        for i, block in enumerate(shown):
            path = folder / f"failures_{i}.png"
            if draw_failures(block, baselines, path):
                pictures[f"{block.title}: where they fail, the worst image of each cause"] = path
        if shown:
            sheet = folder / "predictions.png"
            draw_sheet(shown, sheet)
            pictures["Predictions: one test image per data set (rows), one method per column"] = sheet
    except UserError as error:  # the images, or a teacher's weights, are not on this machine
        print(f"Note: without pictures of predictions: {error}", file=sys.stderr)
    texts = {
        "results.csv": csv_text(blocks),
        "table.md": markdown(blocks, baselines),
        "leaderboard.html": html(blocks, baselines, pictures),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *pictures.values()]
