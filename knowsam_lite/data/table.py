"""Reads index.csv as editors and spreadsheets of all systems save it, and changes one cell of it."""

import codecs
import csv
import io
from pathlib import Path

from knowsam_lite.files import write_aside

DELIMITERS = ",;\t|"
# How programs write a cell that is empty.
EMPTY = {"nan", "none", "null", "<na>", "n/a", "na"}


def read_table(path: Path, columns: tuple[str, ...]) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The column names in lower case, and each row with its last line's number and its cells by column.

    Separated by commas, semicolons, tabs or bars; UTF-8 or, with its mark, UTF-16. `columns` are those
    expected. A cell beyond the columns is under "". ValueError, OSError or csv.Error if it is no table.
    """
    content = path.read_bytes()
    _, text = _without_separator(content.decode(_encoding(content)))
    delimiter = _delimiter(text, columns)
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


def set_cell(path: Path, columns: tuple[str, ...], identity: str, column: str, value: str) -> None:
    """Write `value` into a column of the row whose id is `identity`; all other cells, the separator, the line
    ends and the encoding stay. `columns` are those expected, `column` among them; the table was read before.
    """
    content = path.read_bytes()
    encoding = _encoding(content)
    first_line, text = _without_separator(content.decode(encoding))
    delimiter = _delimiter(text, columns)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    names = _names(next(row for row in rows if any(cell.strip() for cell in row)))
    key, place = names.index("id"), names.index(column)
    for row in rows:
        if len(row) > key and row[key].strip() == identity:
            row += [""] * (place + 1 - len(row))
            row[place] = value
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=delimiter, lineterminator="\r\n" if "\r\n" in text else "\n").writerows(
        rows
    )
    has_mark = encoding == "utf-16" or content.startswith(codecs.BOM_UTF8)
    data = (first_line + written.getvalue()).encode(encoding if has_mark else "utf-8")
    write_aside(path, lambda file: file.write(data))


def _encoding(content: bytes) -> str:
    return "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _without_separator(text: str) -> tuple[str, str]:
    """Excel's own first line, sep=; or the like, if it is there, and the rest."""
    end = text.find("\n") + 1 if text.lower().startswith("sep=") else 0
    return text[:end], text[end:]


def _delimiter(text: str, columns: tuple[str, ...]) -> str:
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    return max(DELIMITERS, key=lambda sign: len(set(_names(first.split(sign))) & set(columns)))


def _names(cells: list[str]) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in cells]


def is_empty(cell: str) -> bool:
    """True for an empty cell, also as programs spell one."""
    return not cell or cell.lower() in EMPTY
