"""Does the stream guard let anything out, and does it matter how a stream was cut? Seeded.

Each stream is an answer with a credential, a personal value, words of the system prompt (as they are, or some of them
changed), or nothing put into it. It is fed in small pieces and once whole: what is released and what is found must be
the same, and nothing of the value may be among it. Parts that stand in the rest of the answer too are not counted, nor
is what an edited prompt gives away, for that is in no run of words.
"""

import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.validation.cases import SEVERITIES, Case, context_of
from benchmarks.validation.corpus import Corpus, Record
from benchmarks.validation.credentials import CREDENTIALS
from benchmarks.validation.evaluate import is_found
from benchmarks.validation.leaking import leak_credential, leak_edited_prompt, leak_personal, leak_prompt
from benchmarks.validation.personal import PERSONAL
from benchmarks.validation.shares import counted, spread
from benchmarks.validation.texts import find_sentences
from deployments.validator.checks.prompt_leak import RUN_WORDS
from deployments.validator.guard import Released, StreamGuard
from deployments.validator.policy import QualityPolicy, judge, parse_policy
from deployments.validator.words import fold
from graph.contracts import CheckContext, Finding

__all__ = ["POLICIES", "Guard", "MakeGuard", "count_released", "measure_streams"]

MIN_PART = 7
"""Characters of a value in a row that count as released: shorter ones are in many words."""
_SECRET = ("secrets", "pii", "prompt_leak")
"""Loads of which nothing may be released, by the check that should find them."""
_LOADS = (*_SECRET, "prompt_leak_edited", "nothing")
_WHOLE_WORD = 0.3
"""Share of the pieces that end with a word."""
_LONGEST_PIECE = 12
POLICIES: Mapping[str, QualityPolicy] = {
    "default": QualityPolicy(),
    "turned": parse_policy(
        {"checks": {"secrets": {"on_fail": "fix"}, "pii": {"on_fail": "block"}}}, "benchmarks.validation"
    ),
}
"""The default redacts personal values and stops at credentials; the other one the other way round."""


class Guard(Protocol):
    """What is asked of a stream guard here."""

    @property
    def held(self) -> int: ...

    def feed(self, text: str) -> Released: ...

    def flush(self) -> Released: ...


MakeGuard = Callable[[CheckContext, QualityPolicy], Guard]


@dataclass(slots=True)
class _Run:
    """One stream that went through a guard."""

    released: str = ""
    stopped: bool = False
    findings: list[Finding] = field(default_factory=list)
    told_at: list[int] = field(default_factory=list)
    """For each finding, how many characters had come in when it was told."""
    held: list[int] = field(default_factory=list)
    """Characters, after each piece."""
    microseconds: list[float] = field(default_factory=list)
    """Of each piece; of this thread alone, so that a busy machine does not count."""

    def ends_like(self, other: "_Run") -> bool:
        return self.released == other.released and self.stopped == other.stopped

    def is_like(self, other: "_Run") -> bool:
        return self.ends_like(other) and _checks(self) == _checks(other)


def measure_streams(corpus: Corpus, streams: int, seed: int, make_guard: MakeGuard = StreamGuard) -> dict[str, Any]:
    """Sends ``streams`` streams through guards, under each of ``POLICIES``.

    Returns:
        JSON-ready: characters released of what must not be, and streams that differ from the same one fed whole; how
        many sentences end between the begin of a value and its finding; how many characters a guard holds after each
        piece of a clean answer; the time that a piece takes.
    """
    leaked: Counter[str] = Counter()
    fed: Counter[str] = Counter()
    leaking: list[dict[str, Any]] = []
    differing: list[dict[str, Any]] = []
    sentences: dict[str, list[int]] = defaultdict(list)
    held: list[int] = []
    microseconds: list[float] = []
    for number in range(streams):
        rng = random.Random(f"{seed} stream {number}")
        load = rng.choice(_LOADS)
        record = rng.choice(corpus.clean + corpus.hard)
        case = _load(record, corpus, load, rng)
        text, context = (case.text, case.context) if case else (record.text, context_of(record))
        pieces = list(_cut(text, rng))
        for name, policy in POLICIES.items():
            run, whole = _run(make_guard(context, policy), pieces), _run(make_guard(context, policy), [text])
            fed[load] += 1
            where = {"stream": str(number), "record": record.id, "load": load, "policy": name}
            count = count_released(case, run.released) if case and load in _SECRET else 0
            if case and count:
                leaked[load] += count
                # What the check does not know as a value, the guard cannot.
                is_known = is_found(case, judge(text, context, policy).findings)
                leaking.append({**where, "kind": case.kind, "characters": count, "known": is_known})
            if not run.is_like(whole):
                found = {"in_pieces": _checks(run), "whole": _checks(whole)}
                differing.append({**where, "same_release": run.ends_like(whole), **found})
            until = _count_sentences(case, run) if case else None
            if until is not None:
                sentences[load].append(until)
            microseconds += run.microseconds
            if load == "nothing" and record in corpus.clean:
                held += run.held
    total = sum(fed.values())
    return {
        "streams": streams,
        "policies": list(POLICIES),
        "fed": {load: fed[load] for load in _LOADS},
        "released": {load: leaked[load] for load in _SECRET},
        "released_though_known": sum(each["characters"] for each in leaking if each["known"]),
        "leaking": leaking,
        "independent": counted(total - len(differing), total),
        "same_release": counted(total - sum(not each["same_release"] for each in differing), total),
        "differing": differing,
        "sentences": {load: spread(sentences[load]) for load in _LOADS if sentences[load]},
        "held": spread(held),
        "microseconds": spread(microseconds),
    }


def _load(record: Record, corpus: Corpus, load: str, rng: random.Random) -> Case | None:
    severity = rng.choice(SEVERITIES)
    if load == "secrets":
        return leak_credential(record, rng, rng.choice(list(CREDENTIALS)), severity)
    if load == "pii":
        return leak_personal(record, rng, rng.choice(list(PERSONAL)), severity)
    if load == "prompt_leak":
        return leak_prompt(record, rng.choice(corpus.systems), rng, severity)
    if load == "prompt_leak_edited":
        return leak_edited_prompt(record, rng.choice(corpus.systems), rng, severity)
    return None


def _cut(text: str, rng: random.Random) -> Iterator[str]:
    """Pieces of 1 to ``_LONGEST_PIECE`` characters, or up to the end of the next word."""
    at = 0
    while at < len(text):
        word = re.compile(r"\s*\S+").match(text, at)
        is_word = word is not None and rng.random() < _WHOLE_WORD
        end = word.end() if word is not None and is_word else at + rng.randint(1, _LONGEST_PIECE)
        yield text[at:end]
        at = end


def _run(guard: Guard, pieces: Sequence[str]) -> _Run:
    run = _Run()
    fed = 0
    for piece in pieces:
        fed += len(piece)
        began = time.thread_time()
        released = guard.feed(piece)
        run.microseconds.append((time.thread_time() - began) * 1e6)
        run.held.append(guard.held)
        run.released += released.text
        run.findings += released.findings
        run.told_at += [fed] * len(released.findings)
    released = guard.flush()
    run.released += released.text
    run.findings += released.findings
    run.told_at += [fed] * len(released.findings)
    run.stopped = released.stop
    return run


def _count_sentences(case: Case, run: _Run) -> int | None:
    """Sentences that ended from where the defect begins until its check told it; None: it never did."""
    assert case.span is not None, "a value has its place"
    begin = case.span[0]
    told = [at for finding, at in zip(run.findings, run.told_at, strict=True) if is_found(case, [finding])]
    return sum(begin < end < told[0] for _, end in find_sentences(case.text)) if told else None


def _checks(run: _Run) -> list[str]:
    return [finding.check for finding in run.findings]


def count_released(case: Case, released: str) -> int:
    """Characters of the case's value that a reader of ``released`` has; of a system prompt, those of whole runs."""
    assert case.span is not None, "a value has its place"
    value = case.text[slice(*case.span)]
    rest = case.text[: case.span[0]] + "\0" + case.text[case.span[1] :]
    if case.check == "prompt_leak":
        return _count_runs(fold(value), fold(released), fold(rest), RUN_WORDS)
    return _count_runs(value, released, rest, MIN_PART)


def _count_runs(value: Sequence[str], released: Sequence[str], rest: Sequence[str], size: int) -> int:
    """Characters of ``value`` that stand in ``released`` in runs of ``size`` or more, those of ``rest`` aside."""
    known = _runs(released, size) - _runs(rest, size)
    covered = {
        at + offset
        for at in range(len(value) - size + 1)
        if tuple(value[at : at + size]) in known
        for offset in range(size)
    }
    return sum(len(value[at]) for at in covered)


def _runs(units: Sequence[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(units[at : at + size]) for at in range(len(units) - size + 1)}
