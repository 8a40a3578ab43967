"""The page's sections, each from its part of the record."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.controls.markdown import share, share_with_interval, table

__all__ = [
    "alarms",
    "checks",
    "defects",
    "delays",
    "kinds",
    "latency",
    "misses",
    "real",
    "repair",
    "served_streams",
    "streams",
]

Figures = Mapping[str, Any]
_SEVERITIES = ("severe", "medium", "mild")


def defects(figures: Figures) -> str:
    """Recall by defect and severity."""
    rows = []
    for name, each in figures["defects"].items():
        recall = each["recall"]
        by_severity = [_hits(each["by_severity"].get(severity)) for severity in _SEVERITIES]
        anywhere = share(each["recall_anywhere"]["value"])
        rows.append((name, each["check"], recall["of"], share_with_interval(recall), anywhere, *by_severity))
    told = (
        "Found: the check named it where it stands. A severe defect is the most noticeable one. An edited leak counts "
        "as found by `prompt_leak`, too."
    )
    head = ("defect", "check", "cases", "found", "found anywhere in the text", *_SEVERITIES)
    return f"## What is found\n\n{told}\n\n{table(head, rows)}"


def kinds(figures: Figures) -> str:
    """Recall by the defect's form, where there are several."""
    rows = [
        (name, kind, each["by_kind"][kind]["of"], share_with_interval(each["by_kind"][kind]))
        for name, each in figures["defects"].items()
        if len(each["by_kind"]) > 1 and not name.startswith("off_topic")
        for kind in each["by_kind"]
    ]
    return f"### By form\n\n{table(('defect', 'form', 'cases', 'found'), rows)}"


def checks(figures: Figures) -> str:
    """Precision, recall and F1 by check."""
    rows = [
        (
            name,
            each["recall"]["of"],
            share_with_interval(each["recall"]),
            each["precision"]["of"] - each["precision"]["hits"],
            share_with_interval(each["precision"]),
            f"{each['f1']:.3f}",
        )
        for name, each in figures["checks"].items()
        if each["recall"]["of"]
    ]
    told = (
        "Each check by itself. Precision: of the texts that it objects to, its own cases and all right answers taken "
        "together, the share that is wrong. There are many more cases than a service has bad answers, so read it with "
        "the false alarms beside it."
    )
    return (
        f"## Check by check\n\n{told}\n\n{table(('check', 'cases', 'recall', 'false alarms', 'precision', 'F1'), rows)}"
    )


def alarms(figures: Figures) -> str:
    """False alarms by group, by category of the hard answers, and every single one."""
    groups = figures["right"]
    names = [name for name in figures["checks"] if any(groups[group]["by_check"][name] for group in groups)]
    rows = [
        (group, each["joint"]["of"], share_with_interval(each["joint"]), *(each["by_check"][name] for name in names))
        for group, each in groups.items()
    ]
    categories = [
        (name, each["of"], each["hits"], share_with_interval(each))
        for name, each in groups["hard"]["by_domain"].items()
    ]
    listed = [(each["record"], each["check"], each["message"]) for each in figures["false_alarms"]]
    told = "Answers that are right, and in which a check found anything that would be acted on."
    parts = [
        f"## False alarms\n\n{told}",
        table(("answers", "of them", "objected to", *names), rows),
        table(("hard category", "answers", "objected to", "share"), categories),
    ]
    if listed:
        parts.append(table(("record", "check", "finding"), listed))
    return "\n\n".join(parts)


def misses(figures: Figures) -> str:
    """Which forms are missed most."""
    counted = Counter((each["defect"], each["kind"], each["severity"]) for each in figures["misses"])
    rows = [(*what, count) for what, count in counted.most_common()]
    told = f"{len(figures['misses'])} cases; the record lists each by its id."
    return f"## Misses\n\n{told}\n\n{table(('defect', 'form', 'severity', 'missed'), rows)}"


def real(figures: Figures) -> str:
    """Labelled outputs of the model: check by check, all together, and every disagreement."""
    rows = [
        (
            name,
            each["recall"]["of"],
            each["precision"]["of"],
            each["recall"]["hits"],
            _share_or_none(each["precision"]),
            _share_or_none(each["recall"]),
            f"{each['f1']:.3f}" if each["recall"]["of"] else "-",
        )
        for name, each in figures["checks"].items()
        if each["recall"]["of"] or each["precision"]["of"]
    ]
    good, bad = figures["joint"]["good_objected_to"], figures["joint"]["bad_objected_to"]
    told = (
        f"{figures['outputs']} outputs of the packaged model as they came out of it, many with settings that bring "
        "defects out, labelled by the authors, one by one, with what the checks promise to find "
        "([rules](../benchmarks/validation/corpus/LABELLING.md)). Bad: has a defect of a check that acts. Of "
        f"{good['of']} good outputs {good['hits']} are objected to, {_share_or_none(good)}; of {bad['of']} bad ones "
        f"{bad['hits']}, {_share_or_none(bad)}."
    )
    head = ("check", "labelled", "found", "both", "precision", "recall", "F1")
    parts = [f"## Real outputs\n\n{told}", table(head, rows)]
    if figures["disagreements"]:
        listed = [
            tuple(map(_in_cell, (each["output"], each["check"], each["way"], each["reason"], each["finding"])))
            for each in figures["disagreements"]
        ]
        parts.append("Where a check and the label differ:")
        parts.append(table(("output", "check", "way", "the label's reason", "finding"), listed))
    return "\n\n".join(parts)


def repair(figures: Figures) -> str:
    """What fixes take away and what they change without need."""
    rows = []
    for defect, each in figures["by_defect"].items():
        rows.append((f"**{defect}**", each["all"]["of"], share_with_interval(each["all"])))
        rows += [(kind, part["of"], share_with_interval(part)) for kind, part in each["by_kind"].items()]
    rows.append(("**all**", figures["repaired"]["of"], share_with_interval(figures["repaired"])))
    harmed = figures["harmed"]
    named = ": " + ", ".join(figures["harmed_records"]) if figures["harmed_records"] else ""
    told = (
        "With every fix switched on. Repaired: the check passes the mended text. "
        f"{harmed['hits']} of {harmed['of']} right answers are changed{named}."
    )
    return f"## Repair\n\n{told}\n\n{table(('defect', 'cases', 'repaired'), rows)}"


def streams(figures: Figures) -> str:
    """What streams let out, whether their cuts mattered, what they cost."""
    released, fed = figures["released"], figures["fed"]
    sentences = figures["sentences"]
    rows = [
        (load, count, released.get(load, ""), f"{sentences[load]['p95']:.0f}" if load in sentences else "")
        for load, count in fed.items()
    ]
    same, released_alike = figures["independent"], figures["same_release"]
    held, cost = figures["held"], figures["microseconds"]
    told = (
        f"{figures['streams']} answers, each under {len(figures['policies'])} policies, in pieces of 1 to 12 "
        f"characters or a word, and once whole. {same['hits']} of {same['of']} were judged the same both ways, "
        f"and of {released_alike['hits']} the same was released. "
        f"{figures['released_though_known']} of the characters released are of values that the check finds in the "
        "whole text: what a check does not know, no guard can hold."
    )
    head = ("put in", "streams", "characters of it released", "sentences until it is told, p95")
    costs = [
        ("characters held, clean answers", *(f"{held[name]:.0f}" for name in ("p50", "p95", "max"))),
        ("µs a piece", *(f"{cost[name]:.0f}" for name in ("p50", "p95", "max"))),
    ]
    return (
        f"## Streams\n\n{told}\n\n{table(head, rows)}\n\n"
        f"{table(('after each piece', 'p50', 'p95', 'max'), costs, numbers=True)}"
    )


def served_streams(figures: Figures) -> str:
    """What clients of the whole service got, and what they were told."""
    rows = [
        (
            load,
            count,
            figures["released"].get(load, ""),
            ", ".join(f"{outcome} {choices}" for outcome, choices in figures["outcomes"][load].items()),
        )
        for load, count in figures["fed"].items()
    ]
    told = (
        f"{figures['streams']} streamed requests to the chat service, in one process with the judge and without an "
        "engine; each asks for plain text, a formal tone, logprobs and two choices or not, by chance. Counted is what "
        "is in the frames. Where a rendering can bring a value about, half are written that way: contracted, or "
        f"with Markdown marks in them. Logprobs gave away {figures['released_in_logprobs']} characters. "
        f"{figures['without_verdict']} requests had a choice without a verdict, {figures['without_ending']} had no "
        f"ending, and of {figures['unlike_log']} choices the log had another text than the client."
    )
    head = ("put in", "requests", "characters of it released", "choices by outcome")
    return f"### From the engine to the client\n\n{told}\n\n{table(head, rows)}"


def delays(figures: Figures) -> str:
    """What the guard adds to the time at which text leaves."""
    rows = [
        (
            name,
            *(f"{each['first_ms'][quantile]:.1f}" for quantile in ("p50", "p95")),
            *(f"{each['token_ms'][quantile]:.1f}" for quantile in ("p50", "p95", "max")),
            share(each["at_once"]),
        )
        for name, each in figures["by_check"].items()
    ]
    told = (
        f"{figures['streams']} right answers in {figures['tokens']} tokens of the packaged model, "
        f"{figures['tokens_per_second']:.0f} a second, each under a system prompt: milliseconds from a token's coming "
        "until all of it has left, and of the first one until any of it has. At once: before the next token comes."
    )
    head = ("what watches", "first text, p50", "p95", "token, p50", "p95", "max", "at once")
    return f"### How long text is held\n\n{told}\n\n{table(head, rows, numbers=True)}"


def latency(figures: Figures) -> str:
    """What judging costs."""
    quantiles = ("p50", "p95", "p99")
    rows = [
        (name, *(f"{each[quantile]:.2f}" for quantile in quantiles)) for name, each in figures["milliseconds"].items()
    ]
    told = (
        f"{figures['texts']} texts of {figures['words']:.0f} words, one thread's own time in milliseconds; each check "
        "with the others disabled. Of a check with a model that is the time without the model, which is in all tiers."
    )
    return f"## Cost\n\n{told}\n\n{table(('check', *quantiles), rows, numbers=True)}"


def _share_or_none(counted: Mapping[str, float]) -> str:
    return share_with_interval(counted) if counted["of"] else "-"


def _in_cell(text: str) -> str:
    """A person's words may hold what ends a cell."""
    return " ".join(text.replace("|", "\\|").split())


def _hits(counted: Mapping[str, float] | None) -> str:
    return "" if counted is None else f"{counted['hits']:.0f} of {counted['of']:.0f}"
