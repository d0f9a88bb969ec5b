"""Shows a figure of the library in a notebook, with its alternative text."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from knowsam_lite.course.alts import spelled

if TYPE_CHECKING:
    from PIL import Image

Data = TypeVar("Data")


def show(draw: Callable[..., Data], *arguments: Any, alt: str, **options: Any) -> Data:
    """Display what `draw(*arguments, path=..., **options)` draws and return the data that it returns.

    `draw` is a function of `knowsam_lite.figures`. `alt` says in words what the picture shows, for screen
    readers and for places where only text can be shown; in a learner's notebook it is the text's number.
    """
    from IPython.display import display

    data, content, metadata = picture(draw, *arguments, alt=spelled(alt), **options)
    display(content, raw=True, metadata=metadata)
    return data


def picture(
    draw: Callable[..., Data], *arguments: Any, alt: str, **options: Any
) -> tuple[Data, dict[str, Any], dict[str, Any]]:
    """What `draw` returns, and its picture in a notebook's form: content by type, and metadata."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        data = draw(*arguments, path=path, **options)
        with Image.open(path) as drawn:
            width = drawn.width // 2  # drawn at twice the screen's resolution
            small(drawn).save(path, optimize=True)
        png = path.read_bytes()
    return data, {"image/png": png, "text/plain": alt}, {"image/png": {"alt": alt, "width": width}}


def small(picture: "Image.Image") -> "Image.Image":
    """The picture in 256 colours, a third of the size: the library's own exact, the rest chosen to fit."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    from knowsam_lite.figures.look import CLASSES, COLORS, QUIET

    kept = [
        round(255 * part) for name in (*COLORS.values(), *CLASSES, QUIET, "white") for part in to_rgb(name)
    ]
    whole = picture.convert("RGB")
    fitted = whole.quantize(256 - len(kept) // 3, kmeans=8, dither=Image.Dither.NONE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette((kept + fitted)[: 3 * 256])
    return whole.quantize(palette=palette, dither=Image.Dither.NONE)
