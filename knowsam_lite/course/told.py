"""What a check or a quiz says: plain lines, and in a notebook that a person runs a card in colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from knowsam_lite.course.audience import by_a_person

Kind = Literal["", "good", "bad", "quiet"]
KINDS: dict[str, Kind] = {"done": "good", "to mend": "bad", "not started": "quiet"}  # of an exercise's states
# Legible on white and on black; the words say the same without them.
COLORS = {"good": "#009E73", "bad": "#D55E00", "quiet": "#8A8A8A"}


@dataclass(frozen=True)
class Line:
    """A line, and whether it says that something is right, wrong, or open; "" for all else."""

    text: str
    kind: Kind = ""


def tell(
    lines: Sequence[Line], badge: Line | None = None, place: str | None = None, again: bool = False
) -> None:
    """Print lines; where a person runs the notebook show them as a card, with the first as its head beside
    `badge` if there is one. What was shown with a name, its `place`, is replaced when told `again`.
    """
    text = "\n".join(line.text for line in lines)
    if not by_a_person():
        print(text)
        return
    from IPython.display import display

    content = {"text/plain": text, "text/html": card(lines, badge)}
    display(content, raw=True, display_id=place, update=again)


def card(lines: Sequence[Line], badge: Line | None = None) -> str:
    """The lines as HTML."""
    head = ""
    if badge is not None:
        first, *lines = lines
        head = f'<div style="display:flex;gap:2em"><b>{escape(first.text)}</b><b>{_colored(badge)}</b></div>'
    edge = COLORS[(badge and badge.kind) or "quiet"]
    body = "\n".join(map(_colored, lines))
    return (
        f'<div style="border-left:3px solid {edge};padding-left:10px">{head}'
        f'<pre style="margin:4px 0;white-space:pre-wrap">{body}</pre></div>'
    )


def _colored(line: Line) -> str:
    text = escape(line.text)
    return f'<span style="color:{COLORS[line.kind]}">{text}</span>' if line.kind else text
