"""The picture of the overload benchmark, as PNG and SVG. The same record gives the same SVG, byte for byte."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.controls.plots import BLUE, DPI, GREY, ORANGE, STYLE

OVERLOAD = "overload"
"""Name of the picture, without its ending."""


def draw_overload(figures: Mapping[str, Any], folder: Path) -> None:
    """Draws goodput and the refusals' latency by load into ``folder``, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    loads = {float(load): one for load, one in figures["loads"].items()}
    peak = figures["peak"]["goodput_per_s"]
    with plt.rc_context(STYLE):
        figure, (answers, refusals) = plt.subplots(1, 2, figsize=(7.6, 3.0))
        answers.axhline(peak, color=GREY, lw=1, ls="--", label="peak")
        answers.plot(list(loads), [one["goodput_per_s"] for one in loads.values()], "o-", color=BLUE, label="goodput")
        answers.set_ylim(0, 1.4 * peak)
        answers.set_ylabel("good answers / s")
        answers.legend(fontsize=8, loc="lower right")
        refused = {load: one for load, one in loads.items() if one["refused_p99_ms"] is not None}
        for share, colour in (("p99", ORANGE), ("p50", BLUE)):
            latencies = [one[f"refused_{share}_ms"] for one in refused.values()]
            refusals.plot(list(refused), latencies, "o-", color=colour, label=share)
        refusals.set_ylim(bottom=0)
        refusals.set_ylabel("until a refusal, ms")
        refusals.legend(fontsize=8)
        for axes in (answers, refusals):
            axes.set_xlabel("calls, times the peak")
            axes.set_xticks(list(loads), [f"{load:g}" for load in loads])
        figure.tight_layout()
        figure.savefig(folder / f"{OVERLOAD}.png", dpi=DPI, metadata={"Software": None})
        figure.savefig(folder / f"{OVERLOAD}.svg", metadata={"Date": None})
        plt.close(figure)
