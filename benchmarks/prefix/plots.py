"""Pictures of the figures, each as PNG and SVG: hits against evenness. The same figures give the same SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.controls.plots import BLUE, DPI, GREY, ORANGE, STYLE
from benchmarks.prefix.aims import LEAST_HITS, MOST_REQUESTS
from benchmarks.prefix.policies import ALL_CACHES, ONE_CACHE, PREFIX

SIMULATED, LIVE = "prefix-simulated", "prefix-live"
"""Names of the pictures, without their endings."""
MARKERS = "sD^vPX*"
Rows = Mapping[str, Mapping[str, Any]]


def draw_simulated(by_mix: Mapping[str, Rows], folder: Path) -> None:
    """One panel a mix, one mark a policy."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(by_mix), figsize=(2.3 * len(by_mix) + 2.2, 3.0), sharey=True, squeeze=False)
        for ax, (mix, rows) in zip(axes[0], by_mix.items(), strict=True):
            _mark(ax, rows)
            ax.set_title(mix, fontsize=9)
        _save(figure, axes[0], folder, SIMULATED)


def draw_live(rows: Rows, folder: Path) -> None:
    """One mark a router."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 1, figsize=(6.2, 3.0), squeeze=False)
        _mark(axes[0][0], rows)
        _save(figure, axes[0], folder, LIVE)


def _mark(ax: Axes, rows: Rows) -> None:
    others = [name for name in rows if name not in (PREFIX, ALL_CACHES, ONE_CACHE)]
    for name, marker in zip(others, MARKERS, strict=False):
        ax.plot(
            rows[name]["busiest"], rows[name]["hits_of_one"], marker, color=ORANGE, mfc="none", ms=6, label=name, ls=""
        )
    ax.plot(rows[PREFIX]["busiest"], rows[PREFIX]["hits_of_one"], "o", color=BLUE, ms=7, label=PREFIX, ls="")
    ax.axhline(LEAST_HITS, color=GREY, linestyle="--", linewidth=1)
    ax.axvline(MOST_REQUESTS, color=GREY, linestyle="--", linewidth=1)
    # A ring may give all requests to one of four replicas: without a logarithm nothing else could be told apart.
    ax.set_xscale("log")
    ax.set_xticks([1, 1.3, 2, 4], labels=["1", "1.3", "2", "4"])
    ax.minorticks_off()
    ax.set(xlim=(0.95, 4.4), ylim=(0.45, 1.03))


def _save(figure: Figure, axes: Sequence[Axes], folder: Path, name: str) -> None:
    axes[0].set_ylabel("hits / one big cache's")
    figure.supxlabel("busiest replica / mean (simulated engine)", fontsize=9)
    figure.tight_layout(rect=(0, 0, 1 - 1.9 / figure.get_figwidth(), 1))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right", fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
