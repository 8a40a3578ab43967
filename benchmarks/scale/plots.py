"""The picture of a run, as PNG and SVG. The same rows give the same SVG, byte for byte."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.controls.plots import BLUE, DPI, GREY, ORANGE, STYLE
from benchmarks.rounds import Row, figure
from benchmarks.scale.__main__ import contestant, ideal_tokens_per_s

NAME = "scale"


def draw(rows: Sequence[Row], replicas: Sequence[int], nodes: Sequence[int], folder: Path) -> str:
    """Tokens a second by replicas, beside what the engines could give; returns the name without its ending."""
    with plt.rc_context(STYLE):
        figure_, ax = plt.subplots(figsize=(5.4, 3.2))
        ax.plot(replicas, [ideal_tokens_per_s(n) for n in replicas], color=GREY, ls="--", label="ideal")
        for number, colour in zip(nodes, (BLUE, ORANGE), strict=False):
            found = [(n, figure(rows, f"{n} replicas", contestant(number), "tokens_per_s")) for n in replicas]
            seen = [(n, each) for n, each in found if each is not None]
            medians = [each.median for _, each in seen]
            errors = [[each.median - each.low for _, each in seen], [each.high - each.median for _, each in seen]]
            at = [n for n, _ in seen]
            ax.errorbar(at, medians, errors, fmt="o-", color=colour, capsize=3, label=contestant(number))
        ax.set(xlabel="replicas of the generator", ylabel="tokens/s (simulated)", xticks=list(replicas))
        ax.legend()
        figure_.tight_layout()
        folder.mkdir(parents=True, exist_ok=True)
        figure_.savefig(folder / f"{NAME}.png", dpi=DPI, metadata={"Software": None})
        figure_.savefig(folder / f"{NAME}.svg", metadata={"Date": None})
        plt.close(figure_)
    return NAME
