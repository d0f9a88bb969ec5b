"""Small charts as inline SVG: sharp at every width, and legible on a phone and in dark mode."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 360, 236
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 38
POINTS = 240  # largest number of points per line, more than a screen can resolve


@dataclass(frozen=True)
class Axis:
    """A range and its label; on a logarithmic axis both ends are above 0."""

    label: str
    low: float
    high: float
    log: bool = False

    def fraction(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round numbers within the range: 1, 2 and 5 times a power of ten; over many decades the powers."""
        if self.log:
            low, high = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            decades = range(low, high + 1, math.ceil((high - low + 1) / 6))
            parts = (1, 2, 5) if high - low <= 1 else (1,)
            found = [10.0**k * part for k in decades for part in parts]
            return [tick for tick in found if tick <= self.high * 1.0001]
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def log_axis(label: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis from the decade under the smallest positive value to the one above the largest."""
    shown = [value for value in values if 0 < value < math.inf]
    low, high = (min(shown), max(shown)) if shown else (0.1, 1.0)
    bottom = 10.0 ** math.floor(math.log10(low))
    return Axis(label, bottom, max(10.0 ** math.ceil(math.log10(high)), bottom * 10), log=True)


@dataclass
class Chart:
    """Axes to which marks are added, then `svg`."""

    x: Axis
    y: Axis
    _marks: list[str] = field(default_factory=list, init=False)

    def line(self, xs: Sequence[float], ys: Sequence[float], paint: str, look: str = "") -> None:
        """A line through the points that can be drawn, broken where one cannot; `look`: "bold", "dashed"."""
        every = max(math.ceil(len(xs) / POINTS), 1)
        kept = sorted({*range(0, len(xs), every), len(xs) - 1}) if len(xs) else []
        runs: list[list[str]] = [[]]
        for i in kept:
            if self._drawable(ys[i]):
                runs[-1].append("{:.1f},{:.1f}".format(*self._place(xs[i], ys[i])))
            elif runs[-1]:
                runs.append([])
        for run in runs:
            points = " ".join(run if len(run) != 1 else run * 2)
            if points:
                self._marks.append(f'<polyline class="line {look}" {colors(paint)} points="{points}"/>')

    def dots(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        paint: str,
        names: Sequence[str] = (),
        radius: float = 3,
    ) -> None:
        """A dot per point; its name appears when the mouse is over it."""
        for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
            if self._drawable(y):
                place = 'cx="{:.1f}" cy="{:.1f}"'.format(*self._place(x, y))
                name = f"<title>{escape(names[i])}</title>" if names else ""
                self._marks.append(
                    f'<circle class="dot" {colors(paint)} {place} r="{radius}">{name}</circle>'
                )

    def bars(self, edges: Sequence[float], heights: Sequence[float], paint: str) -> None:
        """A bar between each two edges, from the bottom of the axis."""
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if self._drawable(height):
                left, top = self._place(low, height)
                width = self._place(high, height)[0] - left
                box = f'x="{left + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}"'
                tall = f'height="{HEIGHT - BOTTOM - top:.1f}"'
                self._marks.append(f'<rect class="bar" {colors(paint)} {box} {tall}/>')

    def svg(self, alt: str) -> str:
        """The whole chart; `alt` is its text for screen readers."""
        view = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
        frame = f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
        inner = "".join([*self._grid(), *self._marks])
        return f'<svg class="chart" role="img" aria-label="{escape(alt)}" {view}>{inner}{frame}</svg>'

    def _grid(self) -> list[str]:
        parts = []
        for value in self.y.ticks():
            y = self._place(self.x.low, value)[1]
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(_text(LEFT - 5, y + 4, _number(value), "end"))
        for value in self.x.ticks():
            x = self._place(value, self.y.low)[0]
            parts.append(_text(x, HEIGHT - BOTTOM + 15, _number(value), "middle"))
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, self.x.label, "middle"))
        turned = f'transform="rotate(-90 11 {middle:.0f})"'
        parts.append(_text(11, middle, self.y.label, "middle", turned))
        return parts

    def _place(self, x: float, y: float) -> tuple[float, float]:
        across = LEFT + self.x.fraction(x) * (WIDTH - RIGHT - LEFT)
        return across, HEIGHT - BOTTOM - self.y.fraction(y) * (HEIGHT - BOTTOM - TOP)

    def _drawable(self, y: float) -> bool:
        return math.isfinite(y) and (y > 0 or not self.y.log)


def colors(paint: str) -> str:
    """A style attribute with a colour #RRGGBB for a light page and a paler one for a dark page."""
    channels = [int(paint[i : i + 2], 16) for i in (1, 3, 5)]
    pale = "".join(f"{round(0.6 * channel + 0.4 * 255):02x}" for channel in channels)
    return f'style="--light:{paint};--dark:#{"e8eaed" if max(channels) < 0x30 else pale}"'


def legend(entries: Sequence[tuple[str, str, str]]) -> str:
    """A list under a chart: (text, colour, look of the line)."""
    items = []
    for text, paint, look in entries:
        stroke = f'<path class="line {look}" {colors(paint)} d="M0 4H18"/>'
        swatch = f'<svg class="chart" viewBox="0 0 18 8" aria-hidden="true">{stroke}</svg>'
        items.append(f"<li>{swatch}{escape(text)}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _number(value: float) -> str:
    """A tick's label: 0.001, 0.2, 500, 20k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{round(value, 9):g}"
