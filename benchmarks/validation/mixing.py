"""Puts the wrong text under a question: another language, another subject, none, the question itself, another form."""

import random
import re
from dataclasses import replace

from benchmarks.validation.cases import Case, Severity, context_of
from benchmarks.validation.corpus import Record
from benchmarks.validation.texts import count_words, find_sentences
from graph.contracts import AnswerFormat, CheckContext

__all__ = [
    "answer_elsewhere",
    "answer_in_another_language",
    "answer_with_nothing",
    "ask_for_a_language",
    "echo",
    "half_in_another_language",
    "ignore_format",
    "one_sentence_in_another_language",
    "written_defect",
]

_MIN_SENTENCE = 25
"""Characters: less of another language is a name or a term."""
_MIN_OFF_TOPIC = 12
"""Words: shorter answers fit many questions."""


def answer_in_another_language(asked: Record, answer: Record) -> Case:
    """Asked in one language, answered in another."""
    kind = "whole, English" if answer.language == "en" else "whole, foreign"
    return _language_case(answer.id, kind, "severe", answer.text, context_of(asked))


def ask_for_a_language(asked: Record, language: str) -> Case:
    """Asked in English for an answer in ``language``, answered in English."""
    context = replace(context_of(asked), language=language)
    return _language_case(asked.id, "whole, not the one asked for", "severe", asked.text, context)


def half_in_another_language(asked: Record, other: Record) -> Case | None:
    """The answer's own first half, then about as much of another language."""
    own, foreign = _sentences(asked), _sentences(other)
    if len(own) < 2 or not foreign:
        return None
    kept = " ".join(own[: (len(own) + 1) // 2])
    added = ""
    for sentence in foreign:
        if len(added) >= len(kept):
            break
        added = f"{added} {sentence}".lstrip()
    text = f"{kept}\n\n{added}"
    kind = "half, English" if other.language == "en" else "half, foreign"
    return _language_case(asked.id, kind, "medium", text, context_of(asked), (len(kept) + 2, len(text)))


def one_sentence_in_another_language(asked: Record, other: Record, rng: random.Random) -> Case | None:
    """The answer with one sentence of another language in it."""
    ends = [end for _, end in find_sentences(asked.text)]
    foreign = [text for text in _sentences(other) if len(text) >= _MIN_SENTENCE]
    if not ends or not foreign:
        return None
    at, sentence = rng.choice(ends), rng.choice(foreign)
    text = f"{asked.text[:at]} {sentence}{asked.text[at:]}"
    span = (at + 1, at + 1 + len(sentence))
    kind = "one sentence, English" if other.language == "en" else "one sentence, foreign"
    return _language_case(asked.id, kind, "mild", text, context_of(asked), span)


def _sentences(record: Record) -> list[str]:
    return [record.text[start:end] for start, end in find_sentences(record.text)]


def _language_case(
    record_id: str,
    kind: str,
    severity: Severity,
    text: str,
    context: CheckContext,
    span: tuple[int, int] | None = None,
) -> Case:
    return Case(record_id, "language", kind, severity, text, context, span, "language")


def answer_elsewhere(asked: Record, other: Record) -> Case | None:
    """The answer to another question: of another domain, or, which is harder to notice, of the same one."""
    if count_words(other.text) < _MIN_OFF_TOPIC:
        return None
    is_near = asked.domain == other.domain
    defect = "off_topic_same_domain" if is_near else "off_topic_random"
    severity: Severity = "mild" if is_near else "severe"
    kind = f"answer of {other.domain}"
    return Case(asked.id, defect, kind, severity, other.text, context_of(asked), None, "relevance")


def answer_with_nothing(record: Record, rng: random.Random) -> Case:
    """Nothing that can be read."""
    kind, text = rng.choice([("nothing", ""), ("space", " "), ("punctuation", "..."), ("punctuation", "…\n\n---")])
    return Case(record.id, "empty", kind, "severe", text, context_of(record), None, "empty")


def echo(record: Record, rng: random.Random) -> Case:
    """The question given back, as it is or in other clothes."""
    kind, text = rng.choice(
        [
            ("as it is", record.question),
            ("in capitals", record.question.upper()),
            ("quoted", f'"{record.question}"'),
            ("twice", f"{record.question}\n\n{record.question}"),
        ]
    )
    severity: Severity = "mild" if kind == "twice" else "severe"
    return Case(record.id, "echo", kind, severity, text, context_of(record), None, "empty")


def ignore_format(record: Record, rng: random.Random) -> Case | None:
    """Prose where bullets or steps were asked for."""
    if re.search(r"^\s*(?:[-*+•–]|\d{1,3}[.)])\s", record.text, re.MULTILINE) or "```" in record.text:
        return None
    wanted: AnswerFormat = rng.choice(["bullets", "steps"])
    context = replace(context_of(record), answer_format=wanted)
    return Case(record.id, "control_miss", f"prose for {wanted}", "severe", record.text, context, None, "structure")


def written_defect(record: Record, defect: str, check: str) -> Case:
    """A record that was written wrong."""
    return Case(record.id, defect, record.kind, "medium", record.text, context_of(record), None, check)
