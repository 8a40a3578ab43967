"""The picture of a run, as PNG and SVG. The same rows give the same SVG, byte for byte."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.controls.plots import BLUE, DPI, GREEN, GREY, ORANGE, STYLE
from benchmarks.overhead.cells import Cell
from benchmarks.rounds import Row, figure

NAME = "overhead"
COLOURS = {
    "rheostat": BLUE,
    "vllm": GREEN,
    "ray-default": ORANGE,
    "ray-direct": GREY,
    "vllm-one-process": "#9a6fb0",
    "rheostat-unguarded": "#7fb3d5",
}


def draw(rows: Sequence[Row], names: Sequence[str], binds: Sequence[str], cells: Sequence[Cell], folder: Path) -> str:
    """Tokens a second by contestant in each cell, with the range over the rounds; one panel a binding."""
    with plt.rc_context(STYLE):
        figure_, axes = plt.subplots(1, len(binds), figsize=(5.4 * len(binds), 3.2), squeeze=False)
        width = 0.8 / len(names)
        for ax, bind in zip(axes[0], binds, strict=True):
            for at, name in enumerate(names):
                for place, cell in enumerate(cells):
                    found = figure(rows, f"{bind}, {cell.name}", name, "tokens_per_s")
                    if found is None:
                        continue
                    error = [[found.median - found.low], [found.high - found.median]]
                    label = name if place == 0 else None
                    ax.bar(
                        place + at * width,
                        found.median,
                        width,
                        yerr=error,
                        color=COLOURS[name],
                        label=label,
                        error_kw={"elinewidth": 0.8},
                    )
            centre = 0.4 - width / 2
            ax.set(title=f"engine: {bind}", ylabel="tokens/s", xticks=[place + centre for place in range(len(cells))])
            ax.set_xticklabels([cell.name.replace(" ", "\n") for cell in cells])
        axes[0][-1].legend(loc="upper left", fontsize=8)
        figure_.tight_layout()
        folder.mkdir(parents=True, exist_ok=True)
        figure_.savefig(folder / f"{NAME}.png", dpi=DPI, metadata={"Software": None})
        figure_.savefig(folder / f"{NAME}.svg", metadata={"Date": None})
        plt.close(figure_)
    return NAME
