"""Pictures of a record of real traffic, each as PNG and SVG. The same record gives the same SVG, byte for byte."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.controls.plots import BLUE, DPI, GREEN, GREY, ORANGE, STYLE

__all__ = ["BY_SLIDER", "BY_SWITCH", "OUTCOMES", "draw_all"]

OUTCOMES, BY_SLIDER, BY_SWITCH = "quality-outcomes", "quality-sliders", "quality-switches"
"""Names of the pictures, without their endings."""
COLOURS: Mapping[str, str] = {
    "pass": GREEN,
    "fixed": "#7fb685",
    "retried": BLUE,
    "degraded": ORANGE,
    "blocked": "#8c2d2d",
    "unvalidated": GREY,
}
_COLUMNS = 4
_NAMED_FROM = 0.04
"""A narrower piece of a bar has no room for its share."""


def draw_all(record: Mapping[str, Any], folder: Path) -> list[str]:
    """Draws what the record has into ``folder``; returns the names of the pictures, without their endings."""
    figures = record["figures"]
    folder.mkdir(parents=True, exist_ok=True)
    if not figures["answered"]:
        return []
    with plt.rc_context(STYLE):
        names = [_save(_outcomes(figures["outcomes"]), folder, OUTCOMES)]
        sliders = {knob["name"] for knob in record["service"]["controls"] if knob["kind"] == "lp"}
        # A knob that stands in one place has nothing to show.
        knobs = {name: groups for name, groups in figures["by_setting"].items() if len(groups) > 1}
        if moved := {name: groups for name, groups in knobs.items() if name in sliders}:
            names.append(_save(_by_slider(moved), folder, BY_SLIDER))
        if turned := {name: groups for name, groups in knobs.items() if name not in sliders}:
            names.append(_save(_by_switch(turned), folder, BY_SWITCH))
    return names


def _outcomes(figures: Mapping[str, Any]) -> Figure:
    figure, ax = plt.subplots(figsize=(7.6, 2.4))
    kinds = list(figures)
    ends = [0.0] * len(kinds)
    for outcome in dict.fromkeys(name for each in figures.values() for name in each):
        shares = [figures[kind][outcome]["value"] if outcome in figures[kind] else 0.0 for kind in kinds]
        if not any(shares):
            continue
        colour = COLOURS.get(outcome, "black")
        ax.barh(range(len(kinds)), [100 * share for share in shares], left=ends, color=colour, label=outcome)
        for row, share in enumerate(shares):
            if share >= _NAMED_FROM:
                ax.text(ends[row] + 50 * share, row, f"{share:.0%}", ha="center", va="center", color="white")
        ends = [end + 100 * share for end, share in zip(ends, shares, strict=True)]
    ax.set_yticks(range(len(kinds)), kinds)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("answers, %")
    ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(COLOURS))
    figure.tight_layout()
    return figure


def _by_slider(knobs: Mapping[str, Any]) -> Figure:
    rows = -(-len(knobs) // _COLUMNS)
    columns = min(_COLUMNS, len(knobs))
    figure, axes = plt.subplots(rows, columns, figsize=(2.9 * columns + 0.4, 3.0 * rows), squeeze=False, sharey=True)
    for ax, (name, groups) in zip(axes.flat, knobs.items(), strict=False):
        labels = list(groups)
        ax.bar(range(len(labels)), [100 * groups[label]["passed"]["value"] for label in labels], color=BLUE, alpha=0.35)
        _dots(ax, range(len(labels)), [groups[label]["mean_score"] for label in labels], is_across=False)
        ax.set_xticks(range(len(labels)), [f"{label}\n{groups[label]['answers']}" for label in labels], fontsize=6.5)
        ax.set_title(name, fontsize=9)
        ax.set_ylim(0, 103)
    for ax in axes.flat[len(knobs) :]:
        ax.set_visible(False)
    axes[0][0].set_ylabel("% passed (bars), 100 × score (dots)")
    figure.tight_layout()
    return figure


def _by_switch(knobs: Mapping[str, Any]) -> Figure:
    places = [(name, label, group) for name, groups in knobs.items() for label, group in groups.items()]
    figure, ax = plt.subplots(figsize=(7.6, 0.19 * len(places) + 0.9))
    passed = [100 * group["passed"]["value"] for _, _, group in places]
    ax.barh(range(len(places)), passed, color=BLUE, alpha=0.35)
    _dots(ax, range(len(places)), [group["mean_score"] for _, _, group in places], is_across=True)
    names = [f"{name}: {label} ({group['answers']})" for name, label, group in places]
    ax.set_yticks(range(len(places)), names, fontsize=7)
    ax.invert_yaxis()
    ax.set_xlim(0, 103)
    ax.set_ylim(len(places) - 0.4, -0.6)
    ax.set_xlabel("% passed (bars), 100 × score (dots)")
    figure.tight_layout()
    return figure


def _dots(ax: Axes, places: Sequence[int], scores: Sequence[float | None], is_across: bool) -> None:
    known = [(place, 100 * score) for place, score in zip(places, scores, strict=True) if score is not None]
    along, values = [place for place, _ in known], [value for _, value in known]
    ax.plot(*((values, along) if is_across else (along, values)), "o", color=ORANGE, ms=4)


def _save(figure: Figure, folder: Path, name: str) -> str:
    figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    return name
