"""Pictures of a record: one a slider, the cross-talk and the prefix cache, each as PNG and SVG.

The same record gives the same SVG, byte for byte.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.controls.calibration_file import fitted_levels
from benchmarks.controls.plan import SLIDERS
from benchmarks.controls.samples import CURVES, MEASURES, YARDSTICKS

DPI = 110
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#d1600a", "#2c7a3f", "#8a8a8a"
AXES: Mapping[str, str] = {
    "words": "words",
    "variety": "1 − mean cosine",
    "distinct_2": "distinct-2",
    "cefr": "CEFR level (1 = A1, 6 = C2)",
    "fkgl": "Flesch-Kincaid grade",
    "casual": "casual marks per 100 words",
}
STYLE: Any = {
    "svg.hashsalt": "rheostat",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def draw_all(record: Mapping[str, Any], folder: Path) -> list[str]:
    """Draws what the record has into ``folder``; returns the names of the pictures, without their endings."""
    figures = record["figures"]
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    with plt.rc_context(STYLE):
        for knob in SLIDERS:
            if knob in figures:
                names.append(_save(_slider(knob, figures[knob]), folder, f"controls-{knob}"))
        if figures.get("crosstalk", {}).get("cells"):
            names.append(_save(_crosstalk(figures["crosstalk"]), folder, "controls-crosstalk"))
        if figures.get("prefix", {}).get("arms"):
            names.append(_save(_prefix(figures["prefix"]), folder, "controls-prefix"))
    return names


def _slider(knob: str, figures: Mapping[str, Any]) -> Figure:
    curves = CURVES[knob]
    figure, axes = plt.subplots(1, len(curves), figsize=(4.2 * len(curves) + 0.6, 3.2), squeeze=False)
    for name, ax in zip(curves, axes[0], strict=True):
        _curve(ax, figures[name], rises=MEASURES[knob][1] > 0)
        if name == "words":
            targets = {int(level): words for level, words in figures["targets"].items() if words}
            ax.plot(list(targets), list(targets.values()), color=GREEN, lw=1, ls="--", label="target")
            ax.set_yscale("log")
        rho = figures[name]["rho"]
        ax.set_title(f"ρ {rho['value']:.2f} per {'prompt' if knob == 'creativity' else 'answer'}", fontsize=9)
        ax.set_xlabel(knob)
        ax.set_ylabel(AXES[name])
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    return figure


def _curve(ax: Axes, curve: Mapping[str, Any], rises: bool) -> None:
    levels = [int(level) for level in curve["levels"]]
    boxes = [
        {
            "whislo": values["quantiles"]["5"],
            "q1": values["quantiles"]["25"],
            "med": values["quantiles"]["50"],
            "q3": values["quantiles"]["75"],
            "whishi": values["quantiles"]["95"],
            "fliers": [],
        }
        for values in curve["levels"].values()
    ]
    line = {"color": GREY, "lw": 0.8}
    ax.bxp(
        boxes,
        positions=levels,
        widths=8,
        showfliers=False,
        manage_ticks=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops=line,
    )
    means = [values["mean"] for values in curve["levels"].values()]
    ax.plot(levels, means, "o", color=BLUE, ms=4, label="mean")
    ax.plot(levels, list(fitted_levels(curve, rises).values()), color=ORANGE, lw=1.4, label="isotonic fit")
    ax.set_xticks(levels)


def _crosstalk(figures: Mapping[str, Any]) -> Figure:
    yardsticks = [name for name in YARDSTICKS if name in figures["units"]]
    cells = {(cell["slider"], cell["yardstick"]): cell for cell in figures["cells"]}
    sliders = [name for name in SLIDERS if any(slider == name for slider, _ in cells)]
    shifts = [[_at(cells, slider, name) for name in yardsticks] for slider in sliders]
    figure, ax = plt.subplots(figsize=(6.4, 3.4))
    image = ax.imshow(shifts, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
    for row, slider in enumerate(sliders):
        for column, name in enumerate(yardsticks):
            if (cell := cells.get((slider, name))) is None:
                continue
            mark = "own" if cell["own"] else "declared" if cell["declared"] else ""
            text = f"{cell['shift_sd']:+.2f}\nd {cell['cohens_d']:+.2f}" + (f"\n{mark}" if mark else "")
            is_dark = abs(cell["shift_sd"]) > 1.2
            ax.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if is_dark else "black")
    ax.set_xticks(range(len(yardsticks)), yardsticks)
    ax.set_yticks(range(len(sliders)), sliders)
    ax.set_xlabel("yardstick")
    ax.set_ylabel("slider, 0 to 100")
    ax.spines[:].set_visible(False)
    figure.colorbar(image, ax=ax, label="SD of the yardstick's own sweep")
    figure.tight_layout()
    return figure


def _prefix(figures: Mapping[str, Any]) -> Figure:
    figure, ax = plt.subplots(figsize=(6.4, 3.4))
    styles = {"unmoved": (GREEN, "-"), "moved": (BLUE, "-"), "alternative": (ORANGE, "--")}
    marks: Sequence[str] = "osv^D<>phX"
    for index, (name, arm) in enumerate(figures["arms"].items()):
        turns = {int(turn): share for turn, share in arm["by_turn"].items() if share is not None}
        color, dashes = styles[arm["kind"]]
        ax.plot(
            list(turns),
            [100 * share for share in turns.values()],
            color=color,
            ls=dashes,
            marker=marks[index % len(marks)],
            ms=3.5,
            lw=1,
            zorder=3 if arm["kind"] == "unmoved" else 2,
            label=name,
        )
    ax.axhline(85, color=GREY, lw=0.8, ls=":")
    ax.set_ylim(-3, 103)
    ax.set_xlabel("turn")
    ax.set_ylabel("earlier turns' tokens from the cache, %")
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def _at(cells: Mapping[tuple[str, str], Mapping[str, Any]], slider: str, yardstick: str) -> float:
    return float(cells.get((slider, yardstick), {}).get("shift_sd", 0.0))


def _save(figure: Figure, folder: Path, name: str) -> str:
    figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    return name
