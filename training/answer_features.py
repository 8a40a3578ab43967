"""What can be seen of an answer without understanding it: the features that a judge learns from. Pure.

Form, length, person, tone and copied words; counts are logarithms and rates, so that one very long answer does not
weigh like a hundred. Persons, hedges and refusals are known in English only. None of them sees whether an answer is
true, safe or to the point beyond shared words, and whoever trains on them can please them on purpose; so what is
learned here decides only between answers, and the gate's guards and the canary come after it.

Called by `judge_fit` and `judges`.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from deployments.validator.words import fold

FEATURES: Mapping[str, str] = MappingProxyType(
    {
        "words": "are long",
        "sentences": "have many sentences",
        "sentence_words": "have long sentences",
        "word_letters": "have long words",
        "ends_question": "end with a question",
        "ends_stop": "end with a full stop",
        "ends_exclamation": "end with an exclamation mark",
        "ends_colon": "end with a colon",
        "ends_emoji": "end with an emoji",
        "ends_open": "end without a mark",
        "questions": "ask questions",
        "exclamations": "exclaim",
        "emoji": "have emoji",
        "commas": "have many commas",
        "paragraphs": "have many paragraphs",
        "bullets": "have bullets",
        "steps": "have numbered steps",
        "headings": "have headings",
        "bold": "have bold words",
        "code": "have code blocks",
        "first_person": "speak of themselves (I, we)",
        "second_person": "speak to the reader (you)",
        "sorry": "excuse themselves or refuse",
        "hedges": "hedge (perhaps, might)",
        "digits": "have many digits",
        "capitals": "have many capitals",
        "repetition": "repeat themselves",
        "prompt_covered": "take up the words of the question",
        "prompt_copied": "consist of the words of the question",
    }
)
"""Each feature, in the order of `answer_features`, and how "people like answers that ..." goes on."""

_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)|[。！？]+|\n+")
_CLOSING = "*_`\"'”’»)]}> \t\n"
_BULLET = re.compile(r"^\s*[-*•+]\s+\S", re.MULTILINE)
_STEP = re.compile(r"^\s*(?:step\s+)?\d{1,3}[.):]\s+\S", re.MULTILINE | re.IGNORECASE)
_HEADING = re.compile(r"^#{1,6}\s+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_PARAGRAPH = re.compile(r"\n\s*\n")
_FIRST = frozenset({"i", "me", "my", "mine", "we", "us", "our", "ours"})
_SECOND = frozenset({"you", "your", "yours", "yourself"})
_SORRY = re.compile(
    r"\b(?:sorry|apologi[sz]e|unfortunately|unable to|as an ai|(?:i|we) (?:can ?not|can['’]t|won['’]t|could not))\b",
    re.IGNORECASE,
)
_HEDGES = frozenset(
    (
        *("perhaps", "maybe", "might", "may", "could", "possibly", "probably", "likely", "seems", "seem", "appears"),
        *("generally", "usually", "often", "sometimes", "roughly", "somewhat"),
    )
)


def answer_features(answer: str, prompt: str) -> tuple[float, ...]:
    """Return the value of each of `FEATURES`, finite for every text.

    Args:
        answer: As it was delivered.
        prompt: The last user turn.
    """
    words = fold(answer)
    count = len(words)
    sentences = [each for each in _SENTENCE_END.split(answer) if fold(each)]
    bare = answer.rstrip(_CLOSING)
    last = bare[-1:]
    asked = set(fold(prompt))
    said = Counter(words)
    emoji = sum(map(_is_emoji, answer))
    letters = sum(map(str.isalpha, answer))
    trigrams = [tuple(words[at : at + 3]) for at in range(count - 2)]
    ends = (last in "?？", last in ".。…", last in "!！", last in ":：", _is_emoji(last)) if last else (False,) * 5
    return (
        math.log1p(count),
        math.log1p(len(sentences)),
        math.log1p(count / max(1, len(sentences))),
        math.log1p(sum(map(len, words)) / max(1, count)),
        *map(float, ends),
        float(bool(last) and not any(ends)),
        math.log1p(len(re.findall(r"[?？]+", answer))),
        math.log1p(len(re.findall(r"[!！]+", answer))),
        math.log1p(emoji),
        _rate(len(re.findall(r"[,，、]", answer)), count),
        math.log1p(len([each for each in _PARAGRAPH.split(answer) if each.strip()])),
        math.log1p(len(_BULLET.findall(answer))),
        math.log1p(len(_STEP.findall(answer))),
        math.log1p(len(_HEADING.findall(answer))),
        math.log1p(len(_BOLD.findall(answer))),
        math.log1p(answer.count("```") // 2),
        _rate(sum(said[word] for word in _FIRST), count),
        _rate(sum(said[word] for word in _SECOND), count),
        _rate(len(_SORRY.findall(answer)), count),
        _rate(sum(said[word] for word in _HEDGES), count),
        math.log1p(100 * sum(map(str.isdigit, answer)) / max(1, len(answer))),
        sum(map(str.isupper, answer)) / max(1, letters),
        1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0,
        len(asked & said.keys()) / max(1, len(asked)),
        sum(number for word, number in said.items() if word in asked) / max(1, count),
    )


def _rate(count: int, words: int) -> float:
    """The logarithm of so many per 100 words."""
    return math.log1p(100 * count / max(1, words))


def _is_emoji(character: str) -> bool:
    return character > "\u203b" and unicodedata.category(character) == "So"
