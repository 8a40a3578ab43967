"""The report's charts: each takes a part of the report and returns an SVG element. Pure.

What they share: an interval is a thin line or a pale band around its estimate; an estimate of a small cell is
hollow; the number behind each mark shows when the mouse rests on it.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from deployments.feedback.analysis.formats import format_count, format_score, format_share, shorten
from deployments.feedback.analysis.svg import Drawing, Scale, nice_ticks

Points = Sequence[dict[str, Any]]


def estimate_of(cell: dict[str, Any]) -> float | None:
    """The share or mean of a cell."""
    value: float | None = cell["share"] if "share" in cell else cell["mean"]
    return value


def draw_time(points: Points, measure: str, title: str) -> str:
    """A line with its interval band over time. ``measure``: quality, approval or collection of each point."""
    width, height, left, right, top, bottom = 540.0, 210.0, 46.0, 12.0, 14.0, 26.0
    drawing = Drawing(width, height, title)
    shown = [(_seconds(point["start"]), point[measure]) for point in points]
    known = [(time, cell) for time, cell in shown if estimate_of(cell) is not None]
    if not known:
        return _nothing(drawing, width, height)
    y = _share_scale([cell for _, cell in known], height - bottom, top)
    x = Scale(shown[0][0], shown[-1][0], left + 8, width - right - 8)
    for tick in nice_ticks(y.low, y.high):
        drawing.line(left, y(tick), width - right, y(tick), "rule")
        drawing.text(left - 8, y(tick) + 4, _format_tick(tick, measure, y), anchor="end")
    for index in _spread(len(shown), 6):
        drawing.text(x(shown[index][0]), height - 8, _date(points[index]["start"]), anchor="middle")
    for run in _runs(shown):
        band = [(x(t), y(c["high"])) for t, c in run] + [(x(t), y(c["low"])) for t, c in reversed(run)]
        drawing.path(band, f"band {measure}", closed=True)
        drawing.path([(x(t), y(estimate_of(c) or 0.0)) for t, c in run], f"trend {measure}")
    for point, (time, cell) in zip(points, shown, strict=True):
        value = estimate_of(cell)
        if value is not None:
            drawing.circle(x(time), y(value), 3, _dot(measure, cell), f"{point['start'][:16]}  {_hint(cell)}")
    return drawing.markup()


def draw_spark(points: Points, measure: str, title: str) -> str:
    """The bare course of a measure, for a card."""
    width, height = 132.0, 30.0
    drawing = Drawing(width, height, title)
    shown = [(_seconds(point["start"]), point[measure]) for point in points]
    known = [cell for _, cell in shown if estimate_of(cell) is not None]
    if len(known) > 1:
        values = [estimate_of(cell) or 0.0 for cell in known]
        y = Scale(min(values), max(values), height - 4, 4)
        x = Scale(shown[0][0], shown[-1][0], 3, width - 5)
        for run in _runs(shown):
            drawing.path([(x(t), y(estimate_of(c) or 0.0)) for t, c in run], f"trend {measure}")
        time, last = next((t, c) for t, c in reversed(shown) if estimate_of(c) is not None)
        drawing.circle(x(time), y(estimate_of(last) or 0.0), 2.5, f"dot {measure}")
    return drawing.markup()


def draw_settings(setting: dict[str, Any], measure: str, overall: float | None, scale: Scale, title: str) -> str:
    """A dot with its interval for each band of a dial or value of a switch, and a line at the overall estimate."""
    cells = setting["cells"]
    width, row, top = 400.0, 24.0, 6.0
    height = top + row * len(cells) + 24
    drawing = Drawing(width, height, title)
    x = Scale(scale.low, scale.high, 112, width - 66)
    for tick in nice_ticks(scale.low, scale.high):
        drawing.line(x(tick), top, x(tick), height - 22, "rule")
        drawing.text(x(tick), height - 7, _format_tick(tick, measure, scale), anchor="middle")
    if overall is not None:
        drawing.line(x(overall), top, x(overall), height - 22, "overall", f"all: {format_share(overall)}")
    for index, each in enumerate(cells):
        y, cell = top + row * index + row / 2, each[measure]
        drawing.text(102, y + 4, shorten(each["value"], 15), anchor="end")
        drawing.text(width - 4, y + 4, f"n {format_count(cell['n'])}", "label pale", "end")
        _draw_interval(drawing, x, y, cell, measure, f"{each['value']}: {_hint(cell)}")
    return drawing.markup()


def draw_interval(cell: dict[str, Any], measure: str, scale: Scale, title: str) -> str:
    """One interval, for a table's cell."""
    drawing = Drawing(150, 16, title)
    drawing.line(2, 8, 148, 8, "rule")
    _draw_interval(drawing, Scale(scale.low, scale.high, 5, 145), 8, cell, measure, _hint(cell))
    return drawing.markup()


def draw_funnel(stages: Sequence[dict[str, Any]], title: str) -> str:
    """A bar for each stage, and what came through of the one before."""
    width, row, left, right = 1080.0, 30.0, 150.0, 190.0
    drawing = Drawing(width, row * len(stages) + 14, title)
    y, before = 2.0, None
    widest = {unit: max(s["n"] for s in stages if s["unit"] == unit) or 1 for unit in {s["unit"] for s in stages}}
    for stage in stages:
        if before is not None and before["unit"] != stage["unit"]:
            y += 10
            before = None
        length = (width - left - right) * stage["n"] / widest[stage["unit"]]
        drawing.text(left - 12, y + 18, stage["stage"], "label strong", "end")
        drawing.rect(left, y + 3, width - left - right, row - 8, "track")
        drawing.rect(left, y + 3, length, row - 8, f"bar {stage['unit']}", f"{stage['n']:,} {stage['unit']}")
        drawing.text(width - right + 12, y + 18, f"{stage['n']:,} {stage['unit']}", "label strong")
        if before is not None and before["n"]:
            drawing.text(width - 4, y + 18, format_share(stage["n"] / before["n"]), "label pale", "end")
        before = stage
        y += row
    return drawing.markup()


def draw_outcomes(outcomes: dict[str, dict[str, Any]], title: str) -> str:
    """One bar of all answers, cut by outcome, with its key below."""
    width = 1080.0
    drawing = Drawing(width, 52, title)
    x, key = 0.0, 0.0
    for name, cell in outcomes.items():
        style = f"outcome {name if name in _KNOWN_OUTCOMES else 'other'}"
        length = width * (cell["share"] or 0.0)
        drawing.rect(x, 2, max(length - 1.5, 0.5), 18, style, f"{name}: {_hint(cell)}")
        label = f"{name} {format_share(cell['share'])}"
        drawing.rect(key, 34, 10, 10, style)
        drawing.text(key + 15, 43, label)
        x, key = x + length, key + 34 + 7 * len(label)
    return drawing.markup()


def draw_calibration(bins: Sequence[dict[str, Any]], title: str) -> str:
    """Share of thumbs up over the quality score; on the dotted line the score says exactly how many will be."""
    width, height, left, top, bottom = 460.0, 340.0, 50.0, 12.0, 72.0
    drawing = Drawing(width, height, title)
    if not bins:
        return _nothing(drawing, width, height)
    x, y = Scale(0, 1, left, width - 14), Scale(0, 1, height - bottom, top)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        drawing.line(left, y(tick), width - 14, y(tick), "rule")
        drawing.text(left - 8, y(tick) + 4, format_share(tick, 0), anchor="end")
        drawing.text(x(tick), height - 22, f"{tick:g}", anchor="middle")
    drawing.line(x(0), y(0), x(1), y(1), "ideal")
    most = max(each["approval"]["n"] for each in bins)
    drawing.path([(x(b["mean_score"]), y(b["approval"]["share"])) for b in bins], "trend approval")
    for each in bins:
        cell, score = each["approval"], each["mean_score"]
        hint = f"score {each['from']:g} to {each['to']:g}: {_hint(cell)}"
        drawing.line(x(score), y(cell["low"]), x(score), y(cell["high"]), "whisker approval", hint)
        drawing.circle(x(score), y(cell["share"]), 4, _dot("approval", cell), hint)
        tall = 26 * math.sqrt(cell["n"] / most)
        drawing.rect(x(each["from"]) + 2, height - 38 - tall, x(0.1) - x(0) - 4, tall, "mass", hint)
    drawing.text((left + width - 14) / 2, height - 5, "quality score (bars: how many thumbs)", anchor="middle")
    return drawing.markup()


def draw_drift(drift: dict[str, Any], title: str) -> str:
    """The stability index of each item, with what chance alone gives and the customary limits."""
    items = [item for item in drift["items"] if item["psi"] is not None]
    width, row, left, top = 540.0, 24.0, 120.0, 20.0
    height = top + row * max(len(items), 2) + 8
    drawing = Drawing(width, height, title)
    if not items:
        return _nothing(drawing, width, height)
    x = Scale(0, max(1.15 * max(item["psi"] for item in items), 0.3), left, width - 60)
    for limit, name in ((drift["notable"], "look"), (drift["large"], "large")):
        drawing.line(x(limit), top - 4, x(limit), height - 6, "ideal")
        drawing.text(x(limit), 11, f"{name} {limit:g}", "label pale", "middle")
    for index, item in enumerate(items):
        y, psi = top + row * index, item["psi"]
        level = "large" if psi >= drift["large"] else "notable" if psi >= drift["notable"] else "calm"
        hint = f"{item['name']}: {psi:.4f}; by chance up to {item['by_chance']:.4f}"
        drawing.text(left - 10, y + 15, shorten(item["name"], 16), anchor="end")
        drawing.rect(left, y + 4, x(psi) - left, row - 9, f"drift {level}", hint)
        drawing.line(x(item["by_chance"]), y + 2, x(item["by_chance"]), y + row - 3, "chance", hint)
        drawing.text(x(psi) + 8, y + 15, f"{psi:.3f}")
    return drawing.markup()


def common_scale(cells: Sequence[dict[str, Any]]) -> Scale:
    """A scale on which all these cells can be compared; positions are set where it is drawn."""
    return _share_scale(cells, 0, 1)


_KNOWN_OUTCOMES = ("pass", "fixed", "retried", "degraded", "blocked", "unvalidated")


def _nothing(drawing: Drawing, width: float, height: float) -> str:
    drawing.text(width / 2, height / 2, "nothing to show yet", "label pale", "middle")
    return drawing.markup()


def _draw_interval(drawing: Drawing, x: Scale, y: float, cell: dict[str, Any], measure: str, hint: str) -> None:
    value = estimate_of(cell)
    if value is not None:
        drawing.line(x(max(cell["low"], x.low)), y, x(min(cell["high"], x.high)), y, f"whisker {measure}", hint)
        drawing.circle(x(min(max(value, x.low), x.high)), y, 4, _dot(measure, cell), hint)


def _dot(measure: str, cell: dict[str, Any]) -> str:
    return f"dot {measure}{' small' if cell['small'] else ''}"


def _hint(cell: dict[str, Any]) -> str:
    if estimate_of(cell) is None:
        return "no data"
    show = format_share if "share" in cell else format_score
    return f"{show(estimate_of(cell))} ({show(cell['low'])} to {show(cell['high'])}), n {cell['n']:,}"


def _format_tick(tick: float, measure: str, scale: Scale) -> str:
    if measure == "quality":
        return f"{tick:.2f}"
    return format_share(tick, 0 if scale.high - scale.low > 0.03 else 1)


def _share_scale(cells: Sequence[dict[str, Any]], start: float, end: float) -> Scale:
    """From the lowest to the highest bound, with room, in 0 to 1; small cells do not widen it if others are there."""
    known = [cell for cell in cells if estimate_of(cell) is not None]
    decisive = [cell for cell in known if not cell["small"]] or known
    if not decisive:
        return Scale(0, 1, start, end)
    low, high = min(cell["low"] for cell in decisive), max(cell["high"] for cell in decisive)
    room = max(0.08 * (high - low), 0.01)
    return Scale(max(low - room, 0.0), min(high + room, 1.0), start, end)


def _runs(shown: Sequence[tuple[float, dict[str, Any]]]) -> list[list[tuple[float, dict[str, Any]]]]:
    """Neighbours that have an estimate; a line must not be drawn through what is not known."""
    runs: list[list[tuple[float, dict[str, Any]]]] = [[]]
    for time, cell in shown:
        if estimate_of(cell) is not None:
            runs[-1].append((time, cell))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _spread(n: int, most: int) -> list[int]:
    """Indices of at most ``most`` of n labels, evenly, the first included."""
    return list(range(0, n, max(math.ceil(n / most), 1)))


def _seconds(start: str) -> float:
    return datetime.fromisoformat(start).timestamp()


def _date(start: str) -> str:
    moment = datetime.fromisoformat(start)
    return f"{moment:%d %b}" if moment.hour == 0 else f"{moment:%H:%M}"
