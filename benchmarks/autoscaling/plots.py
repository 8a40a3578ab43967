"""The picture of a day under two policies, as PNG and SVG. The same record gives the same SVG, byte for byte."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.controls.plots import BLUE, DPI, GREY, ORANGE, STYLE

DAY = "autoscaling-day"
"""Name of the picture, without its ending."""
HOURS = 24


def draw_day(courses: Mapping[str, Mapping[str, Any]], ttft_s: float, folder: Path) -> None:
    """Draws traffic, replicas and share in time into ``folder``.

    Args:
        courses: By policy, ours first, the fields of ``Course``; of one day.
        ttft_s: The service level.
        folder: Made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure, (traffic, replicas, shares) = plt.subplots(3, 1, figsize=(7.6, 5.6), sharex=True)
        for (name, course), colour in zip(courses.items(), (BLUE, ORANGE), strict=True):
            requests = np.asarray(course["requests"])
            hours = np.arange(requests.size) * HOURS / requests.size
            if colour == BLUE:
                traffic.fill_between(hours, requests, step="post", color=GREY, alpha=0.5, linewidth=0)
            replicas.step(hours, course["replicas"], where="post", color=colour, label=name)
            late = 100 * (1 - np.asarray(course["in_time"]) / np.maximum(1, requests))
            shares.step(hours, late, where="post", color=colour)
        part_min = 60 * HOURS / len(next(iter(courses.values()))["requests"])
        traffic.set_ylabel(f"requests\nin {part_min:g} min")
        replicas.set_ylabel("replicas")
        replicas.legend(loc="upper right")
        shares.set(
            ylabel=f"% later\nthan {ttft_s:g} s", xlabel="hour of the day", xlim=(0, HOURS), xticks=range(0, 25, 3)
        )
        shares.set_ylim(bottom=0)
        figure.tight_layout()
        figure.savefig(folder / f"{DAY}.png", dpi=DPI, metadata={"Software": None})
        figure.savefig(folder / f"{DAY}.svg", metadata={"Date": None})
        plt.close(figure)
