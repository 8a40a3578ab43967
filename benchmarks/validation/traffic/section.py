"""The page's section about real traffic, from its record."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.controls.markdown import number, share, share_with_interval, table
from benchmarks.validation.traffic.figures import EXTRA_GENERATIONS
from benchmarks.validation.traffic.plots import BY_SLIDER, BY_SWITCH, OUTCOMES

__all__ = ["PICTURES", "traffic_section"]

PICTURES = "pictures"
"""Folder of the pictures, beside the page."""
_LONGEST_LIST = 20

Figures = Mapping[str, Any]


def traffic_section(record: Figures, pictures: Sequence[str]) -> str:
    """The section.

    Args:
        record: As the run wrote it, read back.
        pictures: Names of those that were drawn.
    """
    figures = record["figures"]
    parts = [
        _opening(record),
        _picture(OUTCOMES, "outcomes of the answers", pictures),
        _outcomes(figures),
        _findings(figures),
        _failures(figures),
        _settings(figures, pictures),
    ]
    return "\n\n".join(part for part in parts if part)


def _opening(record: Figures) -> str:
    figures, service, asked = record["figures"], record["service"], record["configuration"]
    simulated = "" if service["engine"] == "vllm" else " **A simulated engine answered: nothing is said of a model.**"
    return f"""## Real traffic

{figures["asked"]} questions of the corpus to `{service["model"]}` through the running graph, half of them
streamed, with random dials and switches at any depth, {asked["concurrency"]} at a time.{simulated}
{figures["answered"]} were answered.

```sh
python -m benchmarks.validation.traffic --count {asked["count"]} --seed {asked["seed"]} \\
  --concurrency {asked["concurrency"]}
```"""


def _outcomes(figures: Figures) -> str:
    outcomes, extra, scores = figures["outcomes"], figures["extra_generations"], figures["mean_score"]
    rows: list[tuple[object, ...]] = [
        (name, *(f"{each[name]['hits']} ({each[name]['value']:.1%})" for each in outcomes.values()))
        for name in outcomes["all"]
    ]
    rows.append(("mean score", *map(number, scores.values())))
    rows.append(("extra generations a request", *map(number, extra.values())))
    met = extra["whole"] is not None and extra["whole"] <= EXTRA_GENERATIONS
    told = (
        f"Extra generations must be at most {EXTRA_GENERATIONS} a request, here of whole answers: "
        f"**{'met' if met else 'missed'}**. A stream that has begun is never written again, so what may be mended in a "
        "whole answer leaves a stream degraded."
    )
    return f"{table(('answers', *outcomes), rows, numbers=True)}\n\n{told}"


def _findings(figures: Figures) -> str:
    if not figures["findings"]:
        return "No check found anything."
    rows = [
        (
            name,
            each["answers"]["hits"],
            share_with_interval(each["answers"]),
            _list(each["by_severity"]),
            _list(each["by_action"]),
        )
        for name, each in figures["findings"].items()
    ]
    told = (
        "Findings of the answers that were delivered or blocked; those of an attempt that was thrown away are not told."
    )
    head = ("check", "answers", "share", "severity", "what was done")
    return f"### What is found\n\n{told}\n\n{table(head, rows)}"


def _failures(figures: Figures) -> str:
    failures = figures["failures"]
    if not failures:
        return "No request was refused or broken off."
    listed = [
        (
            each["record"],
            "streamed" if each["streamed"] else "whole",
            " ".join(each["failure"].replace("|", "\\|").split()),
        )
        for each in failures[:_LONGEST_LIST]
    ]
    more = "" if len(failures) <= _LONGEST_LIST else f" The first {_LONGEST_LIST}; the record has all."
    head = ("question", "asked", "what was said")
    return f"### Not answered\n\n{len(failures)} requests.{more}\n\n{table(head, listed)}"


def _settings(figures: Figures, pictures: Sequence[str]) -> str:
    rows = [
        (name, label, group["answers"], number(group["mean_score"]), share(group["passed"]["value"]), _interval(group))
        for name, groups in figures["by_setting"].items()
        if len(groups) > 1
        for label, group in groups.items()
    ]
    told = (
        "Passed: nothing had to be done. Settings were drawn independently of each other, questions too, so a row is "
        "over all others. A preset counts as having moved what it moves."
    )
    parts = [
        f"### By setting\n\n{told}",
        _picture(BY_SLIDER, "quality by slider", pictures),
        _picture(BY_SWITCH, "quality by switch", pictures),
        table(("dial", "set to", "answers", "mean score", "passed", "95%"), rows),
    ]
    return "\n\n".join(part for part in parts if part)


def _interval(group: Figures) -> str:
    return f"{group['passed']['low']:.0%} to {group['passed']['high']:.0%}"


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _picture(name: str, title: str, pictures: Sequence[str]) -> str:
    return f"![{title}]({PICTURES}/{name}.png)" if name in pictures else ""
