"""Every case of one half of the corpus: each answer that is right, spoilt in each way that fits it.

Each case has randomness of its own, seeded with the run's seed, the defect and the record, so that a new record or
defect leaves the others as they are.
"""

import random
from collections.abc import Iterator

from benchmarks.validation.breaking import JSON_KINDS, break_json, cut_code, cut_text
from benchmarks.validation.cases import SEVERITIES, Case
from benchmarks.validation.corpus import Corpus, Record
from benchmarks.validation.credentials import CREDENTIALS
from benchmarks.validation.leaking import leak_credential, leak_edited_prompt, leak_personal, leak_prompt
from benchmarks.validation.looping import LOOP_KINDS, repeat
from benchmarks.validation.mixing import (
    answer_elsewhere,
    answer_in_another_language,
    answer_with_nothing,
    ask_for_a_language,
    echo,
    half_in_another_language,
    ignore_format,
    one_sentence_in_another_language,
    written_defect,
)
from benchmarks.validation.personal import PERSONAL
from benchmarks.validation.texts import count_words

__all__ = ["make_cases"]

_Cases = Iterator[Case | None]
_MIN_ENGLISH = 12
"""Words: "Lisbon" is an answer in many languages."""


def make_cases(corpus: Corpus, seed: int) -> list[Case]:
    """All cases of ``corpus``, which is one half; the same for the same seed."""
    cases: list[Case | None] = []
    for record in corpus.clean:
        cases += [*_broken(record, seed), *_leaking(record, corpus, seed), *_mismatched(record, corpus, seed)]
    cases += [cut_code(record, _rng(seed, "code", record)) for record in corpus.hard]
    for record in corpus.languages:
        cases += _in_other_languages(record, corpus, seed)
    cases += [written_defect(record, "nonsense", "nonwords") for record in corpus.nonsense]
    cases += [written_defect(record, "refusal", "refusal") for record in corpus.refusals]
    return [case for case in cases if case is not None]


def _rng(seed: int, defect: str, record: Record) -> random.Random:
    return random.Random(f"{seed} {defect} {record.id}")


def _broken(record: Record, seed: int) -> _Cases:
    for severity in SEVERITIES:
        yield cut_text(record, _rng(seed, f"truncation {severity}", record), severity)
    yield cut_code(record, _rng(seed, "code", record))
    for kind in LOOP_KINDS:
        yield repeat(record, _rng(seed, kind, record), kind)
    for kind in JSON_KINDS:
        yield break_json(record, _rng(seed, f"json {kind}", record), kind)


def _leaking(record: Record, corpus: Corpus, seed: int) -> _Cases:
    for severity in SEVERITIES:
        rng = _rng(seed, f"leak {severity}", record)
        yield leak_personal(record, rng, rng.choice(list(PERSONAL)), severity)
        yield leak_credential(record, rng, rng.choice(list(CREDENTIALS)), severity)
        yield leak_prompt(record, rng.choice(corpus.systems), rng, severity)
        yield leak_edited_prompt(record, rng.choice(corpus.systems), rng, severity)


def _mismatched(record: Record, corpus: Corpus, seed: int) -> _Cases:
    rng = _rng(seed, "mismatch", record)
    yield answer_with_nothing(record, rng)
    yield echo(record, rng)
    yield ignore_format(record, rng)
    yield answer_elsewhere(record, rng.choice([other for other in corpus.clean if other.domain != record.domain]))
    near = [other for other in corpus.clean if other.domain == record.domain and other != record]
    yield answer_elsewhere(record, rng.choice(near)) if near else None


def _in_other_languages(record: Record, corpus: Corpus, seed: int) -> _Cases:
    rng = _rng(seed, "language", record)
    english = rng.choice([other for other in corpus.clean if count_words(other.text) >= _MIN_ENGLISH])
    yield answer_in_another_language(english, record)
    yield answer_in_another_language(record, english)
    yield ask_for_a_language(english, record.language)
    yield half_in_another_language(english, record)
    yield half_in_another_language(record, english)
    yield one_sentence_in_another_language(english, record, rng)
    yield one_sentence_in_another_language(record, english, rng)
    others = [other for other in corpus.languages if other.language != record.language]
    if others:
        yield answer_in_another_language(rng.choice(others), record)
