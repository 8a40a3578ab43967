"""The picture of a run, as PNG and SVG. The same rows give the same SVG, byte for byte."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.controls.plots import BLUE, DPI, GREY, ORANGE, STYLE
from benchmarks.rounds import Row, figure

NAME = "graph-alone"
PANELS = (
    ("whole", "requests_per_s", "requests/s, not streamed", 300),
    ("64 streams", "tokens_per_s", "tokens/s, 64 streams", 3100),
    ("128 streams", "tokens_per_s", "tokens/s, 128 streams", 5000),
    ("64 streams", "cpu_ms_per_1000_tokens", "CPU-ms per 1,000 tokens, 64 streams", None),
)


def draw(rows: Sequence[Row], folder: Path) -> str:
    """Bars by contestant, with the range over the rounds and the aim as a line; returns the name without its ending."""
    contestants = list(dict.fromkeys(row["contestant"] for row in rows))
    with plt.rc_context(STYLE):
        figure_, axes = plt.subplots(1, len(PANELS), figsize=(12.5, 2.4 + 0.2 * len(contestants)), sharey=True)
        for ax, (cell, name, title, aim) in zip(axes, PANELS, strict=True):
            for at, contestant in enumerate(contestants):
                found = figure(rows, cell, contestant, name)
                if found is None:
                    continue
                error = [[found.median - found.low], [found.high - found.median]]
                colour = ORANGE if contestant.startswith("ray") else BLUE
                ax.barh(at, found.median, xerr=error, color=colour, error_kw={"elinewidth": 0.8})
            if aim is not None:
                ax.axvline(aim, color=GREY, lw=0.8, ls="--")
            ax.set(title=title, yticks=range(len(contestants)), yticklabels=contestants)
        axes[0].invert_yaxis()
        figure_.tight_layout()
        folder.mkdir(parents=True, exist_ok=True)
        figure_.savefig(folder / f"{NAME}.png", dpi=DPI, metadata={"Software": None})
        figure_.savefig(folder / f"{NAME}.svg", metadata={"Date": None})
        plt.close(figure_)
    return NAME
