"""Tells whether an answer says nothing: no visible text, or the prompt given back.

An echo is the whole prompt, once or more often, with hardly a word before it. A part of it, as in a proofread
sentence or a sorted list, may be just what was asked for, and a word after it ("Who painted this? Miró.") the answer.
"""

import unicodedata

from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check"]

NAME = "empty"
SEVERITY: Severity = "soft"
_MIN_ECHO_WORDS = 5
"""'Hello!' may well be answered by 'Hello!'; of shorter prompts only questions and requests can be echoed."""
_MIN_QUESTION_WORDS = 3
"""'Everyone ready?' may be answered by 'Ready.', 'Why not?' by itself."""
_REQUESTS = frozenset(
    (
        "calculate", "compare", "compose", "convert", "create", "define", "describe", "design", "draft", "draw",
        "explain", "find", "give", "list", "make", "name", "outline", "paraphrase", "plan", "proofread", "propose",
        "recommend", "rephrase", "rewrite", "show", "solve", "suggest", "summarise", "summarize", "tell",
        "translate", "write",
    )
)  # fmt: skip
"""Verbs with which a request begins."""
_QUESTION_WORDS = frozenset(("what", "when", "where", "which", "who", "whom", "whose", "why", "how"))
_GREETINGS = frozenset(("how are you", "how do you do", "how s it going", "what s up", "how are things"))
"""Questions that greet, and are answered by themselves."""
_QUESTION_MARKS = frozenset("?？؟")
_MAX_ADDED_WORDS = 4
"""'Sure! You asked:' is no answer."""
_MAX_COPIES = 8
"""Longer texts than so many prompts are loops, if anything."""


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an answer without content.

    Returns:
        One finding, or none. Letters, digits and symbols (an emoji, a currency sign) are content; spaces,
        punctuation, zero-width and control characters are not.
    """
    if not any(unicodedata.category(character)[0] in "LNS" for character in text):
        return (Finding(NAME, SEVERITY, "the answer holds no visible text"),)
    if len(context.prompt) <= len(text) + 64 and len(text) <= _MAX_COPIES * len(context.prompt) + 64:
        prompt = fold(context.prompt)
        is_long = len(prompt) >= _MIN_ECHO_WORDS
        # "Fine! How are you?" is an answer: a short question is an echo only by itself.
        if (is_long or _asks(prompt, context.prompt, text)) and _is_echo(
            fold(text), prompt, _MAX_ADDED_WORDS if is_long else 0
        ):
            return (Finding(NAME, SEVERITY, "the answer only gives the prompt back"),)
    return ()


def _asks(words: list[str], prompt: str, text: str) -> bool:
    """Whether a few words want an answer, which they cannot be themselves."""
    if not words or " ".join(words) in _GREETINGS:
        return False
    if words[0] in _REQUESTS:
        return len(words) > 1
    # "All set then?" may be answered by "All set then."
    is_question = not _QUESTION_MARKS.isdisjoint(prompt) and not _QUESTION_MARKS.isdisjoint(text)
    return len(words) >= _MIN_QUESTION_WORDS and (is_question or words[0] in _QUESTION_WORDS)


def _is_echo(words: list[str], prompt: list[str], max_added: int) -> bool:
    # Words hold no angle brackets, so whole words only are found, in linear time.
    text, copy = (f"<{'><'.join(forms)}>" for forms in (words, prompt))
    return text.endswith(copy) and text.replace(copy, "").count("<") <= max_added
