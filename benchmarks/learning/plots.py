"""Pictures of a record of the learning loop, each as PNG and SVG. The same record gives the same SVG, byte for byte."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from benchmarks.controls.plots import BLUE, DPI, GREY, ORANGE, STYLE

WIN_RATES, CANARY = "learning-win-rates", "learning-canary"
"""Names of the pictures, without their endings."""


def draw_all(figures: Mapping[str, Any], folder: Path) -> list[str]:
    """Draws what there is into ``folder``; returns the names of the pictures, without their endings."""
    names = []
    with plt.rc_context(STYLE):
        if rows := figures.get("planted"):
            names.append(_save(_win_rates(rows), folder, WIN_RATES))
        if part := figures.get("canary"):
            names.append(_save(_canary(part["runs"]), folder, CANARY))
    return names


def _win_rates(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Of each run, with its interval: as it was meant, and as the judge that was learned from feedback sees it."""
    figure, ax = plt.subplots(figsize=(7.6, 2.8))
    for shift, key, colour, label in (
        (-0.12, "true_win_rate", BLUE, "by the planted preference"),
        (0.12, "win_rate", ORANGE, "by the judge learned from feedback"),
    ):
        seen = [(row["seed"], *row[key]) for row in rows if row[key] is not None]
        at = [seed + shift for seed, *_ in seen]
        rates = [rate for _, rate, _, _ in seen]
        lows = [rate - low for _, rate, low, _ in seen]
        highs = [high - rate for _, rate, _, high in seen]
        ax.errorbar(at, rates, [lows, highs], fmt="o", color=colour, capsize=3, label=label)
    for level, style in ((0.6, "--"), (0.5, ":")):
        ax.axhline(level, color=GREY, linestyle=style, linewidth=1)
    ax.set(xlabel="seed", ylabel="held-out win rate, 95%", ylim=(0.4, 1.0), xticks=[row["seed"] for row in rows])
    ax.legend(loc="lower right")
    figure.tight_layout()
    return figure


def _canary(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """How many answers of both arms each run took until the canary was taken back."""
    figure, ax = plt.subplots(figsize=(7.6, 2.2))
    taken = sorted(run["answers"] for run in runs if run["rolled_back"])
    ax.bar(range(1, len(taken) + 1), taken, color=BLUE)
    ax.axhline(200, color=GREY, linestyle="--", linewidth=1)
    ax.set(xlabel="run, sorted", ylabel="answers until rolled back", xticks=range(1, len(taken) + 1))
    figure.tight_layout()
    return figure


def _save(figure: Figure, folder: Path, name: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    return name
