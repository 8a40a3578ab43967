"""Just enough SVG for the report's charts: marks with a class each, scales and ticks.

Colours come from the page's style sheet, by class, so that a chart follows light and dark; texts are texts. Whatever
is drawn is escaped here. Not matplotlib: its import alone takes longer than all charts, and its colours are
fixed when it draws.
"""

import math
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from values to positions in px."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.end) / 2
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


class Drawing:
    """One chart. Coordinates are px of the view box; it grows and shrinks with the page.

    Args:
        width, height: Of the view box.
        title: What it shows, for screen readers.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self._parts = [f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">']

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str, hint: str = "") -> None:
        self._mark(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"', hint)

    def rect(self, x: float, y: float, width: float, height: float, style: str, hint: str = "") -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        self._mark(f'<rect {place} rx="2" class="{style}"', hint)

    def circle(self, x: float, y: float, radius: float, style: str, hint: str = "") -> None:
        self._mark(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{style}"', hint)

    def path(self, points: list[tuple[float, float]], style: str, *, closed: bool = False) -> None:
        steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._mark(f'<path d="M{steps}{"Z" if closed else ""}" class="{style}"', "")

    def text(self, x: float, y: float, text: str, style: str = "label", anchor: str = "start") -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def markup(self) -> str:
        """The chart as an element."""
        return "".join(self._parts) + "</svg>"

    def _mark(self, element: str, hint: str) -> None:
        name = element[1 : element.index(" ")]
        self._parts.append(f"{element}><title>{escape(hint)}</title></{name}>" if hint else f"{element}/>")


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about ``count`` round values within [low, high]: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]
