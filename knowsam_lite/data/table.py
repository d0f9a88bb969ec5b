"""Reads index.csv as editors and spreadsheets of all systems save it."""

import csv
import io
from pathlib import Path

DELIMITERS = ",;\t|"
# How programs write a cell that is empty.
EMPTY = {"nan", "none", "null", "<na>", "n/a", "na"}


def read_table(path: Path, columns: tuple[str, ...]) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The column names in lower case, and each row with its last line's number and its cells by column.

    Separated by commas, semicolons, tabs or bars; UTF-8 or, with its mark, UTF-16. `columns` are those
    expected. A cell beyond the columns is under "". ValueError, OSError or csv.Error if it is no table.
    """
    content = path.read_bytes()
    is_utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    if text.lower().startswith("sep="):  # Excel's own first line
        text = text.split("\n", 1)[-1]
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    delimiter = max(DELIMITERS, key=lambda sign: len(set(_names(first.split(sign))) & set(columns)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names: list[str] = []
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if not names:
            names = _names(cells)
            continue
        row = {name: cell.strip() for name, cell in zip(names, cells, strict=False)}
        row[""] = delimiter.join(cells[len(names) :]).strip()
        rows.append((reader.line_num, row))
    return names, rows


def _names(cells: list[str]) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in cells]


def is_empty(cell: str) -> bool:
    """True for an empty cell, also as programs spell one."""
    return not cell or cell.lower() in EMPTY
