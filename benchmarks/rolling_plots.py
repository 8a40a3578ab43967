"""The picture of the rolling change, as PNG and SVG. The same record gives the same SVG, byte for byte."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.controls.plots import BLUE, DPI, GREY, ORANGE, STYLE

ROLLING = "rolling"
"""Name of the picture, without its ending."""


def draw_rolling(figures: Mapping[str, Any], folder: Path) -> None:
    """Draws whole and failed answers by second, and when the changes were, into ``folder``; makes it if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = range(len(figures["by_second"]))
    whole, failed = zip(*figures["by_second"], strict=True)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.6, 2.8))
        axes.bar(seconds, whole, width=1.0, align="edge", color=BLUE, label="whole")
        axes.bar(seconds, failed, width=1.0, align="edge", bottom=whole, color=ORANGE, label="failed")
        top = 1.3 * max(map(sum, figures["by_second"]))
        for name, at_s in figures["changes_at_s"].items():
            axes.axvline(at_s, color=GREY, lw=1, ls="--")
            axes.annotate(name, (at_s, top), xytext=(3, -9), textcoords="offset points", fontsize=8)
        axes.set_ylim(0, top)
        axes.set_xlabel("seconds")
        axes.set_ylabel("answers / s")
        axes.legend(fontsize=8, loc="upper right", ncols=2)
        figure.tight_layout()
        figure.savefig(folder / f"{ROLLING}.png", dpi=DPI, metadata={"Software": None})
        figure.savefig(folder / f"{ROLLING}.svg", metadata={"Date": None})
        plt.close(figure)
