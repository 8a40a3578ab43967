"""What a hard check says of a text that may go on: the contract between the checks and the stream guard."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from graph.contracts import CheckContext, Finding

__all__ = ["LEFT_CONTEXT", "Hit", "Sight", "Watch", "drop_overlaps"]

LEFT_CONTEXT = 64
"""Characters before a value that a hard check may look at to decide about it. The longest is the search for
the word 'aws' before a bare 40-character key."""


class Sight(NamedTuple):
    """What a hard check sees.

    The promise that makes verdicts independent of how a stream was cut: whatever text follows, the findings
    that start before ``open_from`` stay exactly these; a finding that is reported at or after ``open_from`` is
    sure to stay too, only its end may still move.
    """

    findings: tuple[Finding, ...]
    """In order of their start; every one has a span."""
    open_from: int
    """First character that may still become part of a finding that is not told yet; len(text): none."""


Watch = Callable[[str, CheckContext, int, bool], Sight]
"""``watch(text, context, start, is_final)``: what stands in ``text`` from character ``start`` on. The text
before ``start`` is left context (at least LEFT_CONTEXT characters of it, or all there is). With ``is_final``
nothing follows, and ``open_from`` is len(text)."""


class Hit(NamedTuple):
    """One value that a pattern found: [start, end) in characters, and what kind of value it is."""

    start: int
    end: int
    kind: str


def drop_overlaps(hits: Iterable[Hit]) -> list[Hit]:
    """The hits in order of their start, without those that begin inside another of the same kind.

    Without it a hostile run of overlapping values would be one endless finding, held for ever. It keeps the
    promise of Sight: a stream is never cut inside a hit that is kept, so it never begins inside one.
    """
    kept: list[Hit] = []
    ends: dict[str, int] = {}
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end, hit.kind)):
        if hit.start >= ends.get(hit.kind, 0):
            kept.append(hit)
            ends[hit.kind] = hit.end
    return kept
