"""Pieces of Markdown: tables, and numbers as people read them."""

from collections.abc import Iterable, Mapping, Sequence


def table(head: Sequence[object], rows: Iterable[Sequence[object]], numbers: bool = False) -> str:
    """A table; ``numbers``: all columns but the first to the right."""
    rule = ["---", *(["---:" if numbers else "---"] * (len(head) - 1))]
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, *rows)]
    lines.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join(lines)


def number(value: float | None) -> str:
    """With about three digits; ``-`` for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 20 else f"{value:.1f}" if abs(value) >= 2 else f"{value:.2f}"


def share(value: float | None) -> str:
    """In percent; ``-`` for none."""
    return "-" if value is None else f"{value:.1%}"


def share_with_interval(value: Mapping[str, float]) -> str:
    """A share with what ``figures.wilson`` says of it."""
    return f"{value['value']:.1%} ({value['low']:.0%} to {value['high']:.0%})"


def rho_with_interval(value: Mapping[str, float]) -> str:
    """A correlation with what ``figures.bootstrap`` says of it."""
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
