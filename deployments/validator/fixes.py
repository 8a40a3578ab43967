"""Local fixes: pure functions that mend a text without asking the model again.

Which check offers which fix is declared in FIXES; a check that is not there cannot be set to ``fix``.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import json_repair

from deployments.validator.checks import json_schema, pii, repetition, secrets, truncation
from deployments.validator.code_blocks import find_open_fence
from graph.contracts import CheckContext, Finding

__all__ = ["FIXES", "cut_repeated_tail", "redact", "repair_json", "trim_to_sentence"]

_MIN_KEPT = 1 / 3
"""Share of the text that a trim must leave: less is not the answer any more."""
_MAX_REPAIRED = 65_536
"""Characters. Repair is a courtesy; a longer broken document is regenerated."""
_MAX_DEPTH = 64
"""json-repair 0.64.6 takes seconds on tens of thousands of open brackets before it gives up."""

_SENTENCE_END = re.compile(r"[.!?…][\"')\]”’»*_`]*(?=\s|$)|[。！？।][」』”）]*")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|vs|no|fig|approx|dr|mr|mrs|ms|prof|st|jr|sr|z\.\s?b|bzw|u\.a|d\.h)|\b[A-Za-z]|^\s*\d{1,3})\.$",
    re.IGNORECASE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LIST_ITEM = re.compile(r"\s*(?:[-*+•‣◦]\s|\d{1,3}[.)]\s|\|)")


def redact(text: str, findings: Iterable[Finding]) -> str:
    """``text`` with ``[redacted KIND]`` in place of every span; KIND is what stands before the message's colon.

    Spans that overlap become one redaction, named after the one that starts first. Findings without a span
    change nothing.
    """
    pieces: list[str] = []
    at = 0
    spanned = [(finding.span, finding.message) for finding in findings if finding.span is not None]
    for (start, end), message in sorted(spanned, key=lambda hit: (hit[0][0], -hit[0][1], hit[1])):
        if start >= at:
            pieces += [text[at:start], f"[redacted {message.partition(':')[0]}]"]
        at = max(at, end)
    return "".join([*pieces, text[at:]])


def trim_to_sentence(text: str) -> str | None:
    """``text`` up to its last full sentence or list item; None: that would leave under a third of it.

    An open code block goes too. A text that already ends with a full sentence is returned without its
    trailing space.
    """
    fence = find_open_fence(text)
    kept = (text if fence is None else text[:fence]).rstrip()
    end = len(kept) if fence is not None else _find_last_end(kept)
    trimmed = kept[:end].rstrip()
    return trimmed if trimmed and len(trimmed) >= _MIN_KEPT * len(text.rstrip()) else None


def _find_last_end(text: str) -> int:
    ends = [0]
    for match in _SENTENCE_END.finditer(text):
        before = text[max(0, match.start() - 24) : match.start() + 1]
        line_start = before.rfind("\n") + 1
        after = text[match.end() :][:4].lstrip(" ")
        if after[:1].islower() or (match.end() < len(text) and _ABBREVIATION.search(before[line_start:])):
            continue
        ends.append(match.end())
    last_line = text.rfind("\n") + 1
    if ends[-1] <= last_line and _LIST_ITEM.match(text, last_line):
        # An unfinished item after whole ones: the items before it are the last complete part.
        ends.append(len(text[:last_line].rstrip()))
    return max(ends)


def cut_repeated_tail(text: str) -> str | None:
    """``text`` with one copy of what its end repeats; None: the end does not repeat itself."""
    tail = repetition.find_repeated_tail(text)
    return None if tail is None else text[: tail[0]].rstrip()


def repair_json(text: str, schema: Mapping[str, object] | None) -> str | None:
    """The JSON that ``text`` was meant to be, written anew; None: no repair meets the schema.

    Takes prose and code fences around the JSON away, closes what is open, sets missing commas and quotes.
    """
    if len(text) > _MAX_REPAIRED or _is_deep(text):
        return None
    try:
        value = json_repair.loads(text, skip_json_loads=False)
    except (ValueError, RecursionError):
        return None
    # json-repair makes '' of anything without JSON in it, and several values of prose with several in it.
    if value == "" or json_schema.explain_mismatch(value, schema) is not None:
        return None
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return None  # 1e999, which Python reads as infinity
    # Half a surrogate pair, which JSON can spell and UTF-8 cannot hold, stays spelled.
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def _is_deep(text: str) -> bool:
    depth = 0
    for mark in re.findall(r"[\[\]{}]", text):
        depth += 1 if mark in "[{" else -1
        if depth > _MAX_DEPTH:
            return True
        depth = max(depth, 0)
    return False


Fix = Callable[[str, tuple[Finding, ...], CheckContext], str | None]
"""``fix(text, findings of its check on that text, context)``: the mended text, or None when it cannot."""

FIXES: Mapping[str, Fix] = MappingProxyType(
    {
        json_schema.NAME: lambda text, findings, context: repair_json(text, context.json_schema),
        repetition.NAME: lambda text, findings, context: cut_repeated_tail(text),
        truncation.NAME: lambda text, findings, context: trim_to_sentence(text),
        secrets.NAME: lambda text, findings, context: redact(text, findings),
        pii.NAME: lambda text, findings, context: redact(text, findings),
    }
)
"""By the name of the check, in the order in which they are applied: what changes the shape first, redaction
last, so that nothing that a repair brings to light is left."""
