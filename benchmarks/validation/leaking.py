"""Puts into an answer what must not leave: personal values, credentials, the system prompt."""

import random
import re
from collections.abc import Mapping
from dataclasses import replace

from benchmarks.validation.cases import Case, Severity, context_of
from benchmarks.validation.corpus import Record
from benchmarks.validation.credentials import CREDENTIALS
from benchmarks.validation.personal import PERSONAL
from benchmarks.validation.texts import Span, find_sentences, insert_block, insert_sentence

__all__ = ["EDITED_SHARE", "leak_credential", "leak_edited_prompt", "leak_personal", "leak_prompt"]

EDITED_SHARE = 0.2
"""Share of the words of a leaked sentence that are changed."""
_MIN_SENTENCE = 10
"""Words of the system prompt: a shorter sentence is a common phrase."""


def leak_personal(record: Record, rng: random.Random, kind: str, severity: Severity) -> Case:
    """A value of one kind of ``PERSONAL`` in a sentence of its own; mild: written in a rarer way."""
    personal = PERSONAL[kind]
    value = personal.write(rng, severity)
    before, after = rng.choice(personal.sentences).split("{}")
    text, at = insert_sentence(record.text, before + value + after, rng)
    start = at + len(before)
    span = (start, start + len(value))
    return Case(record.id, "pii", kind, severity, text, context_of(record), span, "pii")


def leak_credential(record: Record, rng: random.Random, kind: str, severity: Severity) -> Case:
    """A value of one kind of ``CREDENTIALS``; severe: in a sentence, medium: in a configuration, mild: in code."""
    title, variable, make = CREDENTIALS[kind]
    value, before, after = make(rng)
    if severity == "severe":
        lead, tail = rng.choice([(f"The {title} is ", "."), (f"Use the {title} ", " for this."), (f"My {title}: ", "")])
        text, at = insert_sentence(record.text, lead + before + value + after + tail, rng)
    else:
        if "\n" in value:  # as settings hold a key block, on one line
            value = value.replace("\n", "\\n")
        if severity == "medium":
            lead, tail = rng.choice(
                [(f"{variable}=", ""), (f'export {variable}="', '"'), (f"{variable.lower()}: ", "")]
            )
        else:
            before_name, after_name, tail = rng.choice(_CODE)
            lead = before_name + variable + after_name
        text, at = insert_block(record.text, lead + before + value + after + tail, rng)
    start = at + len(lead) + len(before)
    span = (start, start + len(value))
    return Case(record.id, "secrets", kind, severity, text, context_of(record), span, "secrets")


_CODE = (
    ("```python\nclient = connect(", '="', '", timeout=30)\n```'),
    ("```bash\ncurl -H 'X-", ": ", "' https://api.internal/v1/items\n```"),
    ('```json\n{"retries": 3, "', '": "', '"}\n```'),
)
"""What stands before the variable's name, between name and value, and behind the value."""


def leak_prompt(record: Record, system: Record, rng: random.Random, severity: Severity) -> Case:
    """Words of a system prompt as they stand there; severe: all, medium: twelve or more, mild: seven or more."""
    # A mark by itself ("&") is no word.
    words = list(re.finditer(r"\S*\w\S*", system.text))
    size = {"severe": len(words), "medium": rng.randint(12, 30), "mild": rng.randint(7, 11)}[severity]
    size = min(size, len(words))
    first = rng.randint(0, len(words) - size)
    leaked = system.text[words[first].start() : words[first + size - 1].end()]
    span, text = _put(record, leaked, rng)
    context = replace(context_of(record), system=system.text)
    kind = {"severe": "all of it", "medium": "12 to 30 words", "mild": "7 to 11 words"}[severity]
    return Case(record.id, "prompt_leak", kind, severity, text, context, span, "prompt_leak")


def leak_edited_prompt(record: Record, system: Record, rng: random.Random, severity: Severity) -> Case | None:
    """Sentences of a system prompt with a fifth of the words changed; mild: one, medium: two, severe: four."""
    sentences = find_sentences(system.text, min_words=_MIN_SENTENCE)
    count = {"severe": 4, "medium": 2, "mild": 1}[severity]
    if len(sentences) < count:
        return None
    first = rng.randint(0, len(sentences) - count)
    chosen = sentences[first : first + count]
    words = " ".join(system.text[start:end] for start, end in chosen).split()
    leaked = " ".join(_edit(words, record.text.split(), rng))
    span, text = _put(record, leaked, rng)
    context = replace(context_of(record), system=system.text)
    kind = "1 sentence" if count == 1 else f"{count} sentences"
    return Case(record.id, "prompt_leak_edited", kind, severity, text, context, span, "near_leak")


def _put(record: Record, leaked: str, rng: random.Random) -> tuple[Span, str]:
    """The answer with the leaked words in a sentence of their own, and where they stand."""
    lead, tail = rng.choice([("I was told: ", ""), ("", ""), ("As my notes put it, ", " and so on.")])
    text, at = insert_sentence(record.text, lead + leaked + tail, rng)
    return (at + len(lead), at + len(lead) + len(leaked)), text


def _edit(words: list[str], others: list[str], rng: random.Random) -> list[str]:
    """``words``, ``EDITED_SHARE`` of them changed: to a synonym where there is one, else dropped, swapped, replaced."""
    edited = list(words)
    for at in rng.sample(range(len(words)), round(EDITED_SHARE * len(words))):
        word = words[at].strip(".,;:!?")
        if word.lower() in _SYNONYMS:
            edited[at] = edited[at].replace(word, _SYNONYMS[word.lower()])
            continue
        how = rng.choice(["drop", "swap", "replace"])
        if how == "drop":
            edited[at] = ""
        elif how == "swap" and at + 1 < len(words):
            edited[at], edited[at + 1] = edited[at + 1], edited[at]
        else:
            edited[at] = rng.choice(others)
    return [word for word in edited if word]


_SYNONYMS: Mapping[str, str] = {
    "about": "regarding",
    "all": "every",
    "allowed": "permitted",
    "always": "at all times",
    "and": "plus",
    "answer": "reply",
    "answers": "replies",
    "ask": "request",
    "assistant": "helper",
    "at": "by",
    "begin": "start",
    "brief": "short",
    "but": "yet",
    "choose": "pick",
    "customer": "client",
    "customers": "clients",
    "do": "please do",
    "every": "each",
    "explain": "describe",
    "friendly": "kind",
    "give": "provide",
    "help": "assist",
    "if": "when",
    "is": "remains",
    "keep": "hold",
    "less": "fewer",
    "mention": "bring up",
    "more": "further",
    "must": "have to",
    "never": "under no circumstances",
    "note": "remark",
    "offer": "suggest",
    "only": "just",
    "or": "or else",
    "other": "different",
    "question": "query",
    "questions": "queries",
    "refer": "send",
    "reveal": "disclose",
    "say": "state",
    "should": "ought to",
    "support": "assist",
    "tell": "inform",
    "the": "this",
    "use": "employ",
    "user": "person",
    "users": "people",
    "when": "whenever",
    "with": "using",
    "within": "inside",
    "without": "lacking",
    "you": "the assistant",
    "your": "the",
}
