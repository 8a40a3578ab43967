"""Tells whether an answer is about something else than its question.

The cosine of their sentence embeddings comes with the context: the pool measures it, since a check loads no model.
How low it may be depends on what the words say: an answer that names what the question names may be further from it,
and one that shares none of its words must be nearer. A text that was asked for (a poem, a drill, a chat) seldom says
what it is, and an answer that begins with "It's" leaves to the question what it is about.
"""

import re
from functools import cache, lru_cache
from itertools import islice

from deployments.validator.grades import SOFT, grade_between
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold, iterate_words
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "grade", "needs_cosine"]

NAME = "relevance"
SEVERITY: Severity = "soft"
_GOOD = 0.25
"""So far above the threshold lie three quarters of the right answers; how much further says nothing of an answer."""
_NOTHING_SHARED, _ONE_SHARED, _MORE_SHARED = 0.03, 0.0, -0.1
"""Added to the threshold, by how many of the question's content words the answer has.
A wrong answer has one of them in 4 to 9% of cases by chance, a right one three times in four."""
_NAMED, _NAMED_SHARE = 2, 1 / 3
"""Content words of the question that an answer must have to count as being about it, and how many of all at least: one
about a long text has two of its words by chance. Of 2,038 right answers 44% do, and their cosines would be graded 0.99;
of 2,932 to another question 13 do, of which the cosine tells 2."""
_TOLD, _FORMAL, _REFERS_BACK = 0.0, -0.1, -0.1
"""Added at most: for a story or a letter that was asked for, for another form of text, and for "It's" without a name.
A story or a letter names its matter more often, and is asked for so often that more would let pass what is wrong."""
_COMMON = 1e-4
"""A word that makes up more than this of all English text ("people", "work", "make") says nothing of the subject."""
_STEM = 5
"""Characters of a word that are compared: "gardener" and "gardening" are one, without a table of endings."""
_READ = 8_000
"""Characters: the model sees no more of a text either."""
_FORMAL_VERBS = (
    "rewrite|rephrase|reword|paraphrase|translate|transcribe|transliterate|sort|alphabeti[sz]e|convert|continue|"
    "correct|proofread|shorten|conjugate|recite|improvise|invent|make up|make (?:it|this|them)|come up with|"
    "turn|put|fill in|finish|complete|unscramble|repeat|say|pretend|imagine|act as"
)
_FORMS = (
    # Sung or spoken.
    "poems?|poetry|verses?|haikus?|tankas?|limericks?|sonnets?|couplets?|stanzas?|ballads?|odes?|acrostics?|"
    "villanelles?|pantoums?|pentameters?|songs?|lyrics|refrains?|chorus|shant(?:y|ies)|rap|rhymes?|hymns?|"
    "lullab(?:y|ies)|chants?|mantras?|"
    "litan(?:y|ies)|prayers?|blessings?|spells?|speech(?:es)?|toasts?|eulog(?:y|ies)|sermons?|"
    "slogans?|mottos?|taglines?|"
    # Played or laughed at.
    "tales?|fables?|openings?|scenes?|dialogues?|monologues?|chats?|conversations?|scripts?|skits?|"
    "jokes?|puns?|riddles?|twisters?|parod(?:y|ies)|headlines?|captions?|blurbs?|horoscopes?|"
    # Practised, filled in or chosen from.
    "drills?|exercises?|quiz(?:zes)?|worksheets?|crosswords?|puzzles?|dictations?|bingo|clues?|starters?|"
    "lines|sentences|paragraphs?|checklists?|"
    "templates?|versions?|names|nicknames|usernames|passwords?"
)
_TOLD_FORMS = (
    "stor(?:y|ies)|anecdotes?|diar(?:y|ies)|letters?|e-?mails?|mails?|postcards?|notes?|invitations?|messages?|"
    "greetings?"
)
_NOT_ASKED_FOR = (
    "how|what|whats|why|who|whom|whose|which|when|where|whether|if|is|are|was|were|am|do|does|did|has|have|had|"
    "can|could|would|should|shall|may|might|must|will|get|got|the|my|your|his|her|its|our|their|this|these|"
    "those|that|it|he|she|they|explain|describe|define|discuss|compare|about|after|as|at|because|before|between|"
    "but|by|during|from|in|into|of|on|"
    "than|then|to|with|without"
)
"""Words after which a form of text is not what is asked for: "how to write a speech", "a book about jokes"."""


def _compile_request(verbs: str, forms: str) -> re.Pattern[str]:
    """Matches a sentence that begins with one of the verbs, or with a noun phrase that one of the forms ends."""
    return re.compile(
        r"(?:\A|[.!?:;\n])[^\w\n]{0,8}"
        r"(?:(?:please|kindly|hi|hey|(?:can|could|would) (?:you|i|we)|do you (?:know|have)|i would|i['’]d|i|need|want|"
        r"like|help|me|us|let['’]?s),? ){0,6}"
        rf"(?:(?:{verbs})\b|"
        rf"(?:(?!(?:{_NOT_ASKED_FOR})\b)[\w'’-]{{1,30}},? |the (?:end|start|beginning|rest) of ){{0,6}}(?:{forms})\b"
        r"(?!['’]| (?:is|are|was|were|do|does|did|has|have|can|should|will)\b))",
        re.IGNORECASE,
    )


_ASKS_FOR_FORM = _compile_request(_FORMAL_VERBS, _FORMS)
_ASKS_FOR_TOLD = _compile_request("write|compose|draft", _TOLD_FORMS)
_ASKS_WHAT_IT_IS = re.compile(r"\s{0,8}what(?:['’]?s| is| are) [^.?!;:\n]{1,40}\W{0,8}\Z", re.IGNORECASE)
_BEGINS_WITH_IT = re.compile(r"\W{0,8}(?:it|they)(?:['’](?:s|re)| is| are| means?)\b", re.IGNORECASE)


def needs_cosine(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> bool:
    """Whether a model has to tell: not of an answer that is not judged by it, nor of one that names its subject."""
    if not _is_judged(text, context, thresholds):
        return False
    stems, shared = _find_shared(text[:_READ], context.prompt[:_READ])
    return shared < _NAMED or shared < _NAMED_SHARE * stems


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an answer whose cosine with its question is too low for the words that they share.

    Returns:
        One finding, or none; none where it was not measured (see `needs_cosine`), for short answers and for JSON.
    """
    cosine = context.relevance
    if cosine is None or not _is_judged(text, context, thresholds):
        return ()
    limit = _find_limit(text, context, thresholds)
    if cosine >= limit:
        return ()
    message = f"question and answer have a cosine of {cosine:.2f}; at least {limit:.2f} is expected"
    return (Finding(NAME, SEVERITY, message),)


def grade(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> float | None:
    """1 from 0.25 above the threshold on, falling with the cosine, and above SOFT only where there is no finding.

    None: not measured, or not judged by it.
    """
    cosine = context.relevance
    if cosine is None or not _is_judged(text, context, thresholds):
        return None
    measured = grade_between(cosine, thresholds.relevance + _GOOD, thresholds.relevance)
    return max(SOFT, measured) if cosine >= _find_limit(text, context, thresholds) else min(SOFT, measured)


def _is_judged(text: str, context: CheckContext, thresholds: Thresholds) -> bool:
    if context.json_schema is not None or context.answer_format == "json":
        return False
    least = thresholds.relevance_min_words
    return sum(1 for _ in islice(iterate_words(text), least)) == least


def _find_limit(text: str, context: CheckContext, thresholds: Thresholds) -> float:
    """The cosine from which on this answer passes."""
    highest = thresholds.relevance + _NOTHING_SHARED
    # Nine answers in ten are above every limit, and their words need not be read.
    if context.relevance is None or context.relevance >= highest:
        return highest
    return thresholds.relevance + _weigh_words(text[:_READ], context.prompt[:_READ])


# For ``grade``, which follows ``check``.
@lru_cache(maxsize=1)
def _weigh_words(text: str, question: str) -> float:
    """What the words of question and answer add to the threshold."""
    _, shared = _find_shared(text, question)
    added = (_NOTHING_SHARED, _ONE_SHARED, _MORE_SHARED)[min(shared, 2)]
    if added > _FORMAL and _ASKS_FOR_FORM.search(question):
        return _FORMAL
    if added > _REFERS_BACK and _ASKS_WHAT_IT_IS.match(question) and _BEGINS_WITH_IT.match(text):
        return _REFERS_BACK
    if added > _TOLD and _ASKS_FOR_TOLD.search(question):
        return _TOLD
    return added


def _find_shared(text: str, question: str) -> tuple[int, int]:
    """How many words say what the question is about, and how many of them the text has."""
    stems = _find_stems(question)
    return len(stems), len(stems.intersection(word[:_STEM] for word in fold(text)))


def _find_stems(question: str) -> set[str]:
    """The beginnings of the words that say what a question is about: the rarer ones, names and numbers too."""
    frequencies = _load_frequencies()
    return {word[:_STEM] for word in fold(question) if len(word) > 1 and frequencies.get(word, 0.0) <= _COMMON}


@cache
def _load_frequencies() -> dict[str, float]:
    # The ingress imports the checks too and runs only the hard ones. wordfreq keeps one table for all that ask.
    from wordfreq import get_frequency_dict

    return get_frequency_dict("en")
