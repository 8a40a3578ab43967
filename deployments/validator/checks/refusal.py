"""Notes an answer that only refuses, or is an empty phrase; whether refusing was right, it does not say.

Precise before complete: every sentence of a short English answer must refuse, excuse itself, refer to somebody else or
say nothing; only before the refusal one may give a reason. What makes a refusal is not the word "cannot" but what
cannot be done: answering, advising, giving information. "We can't give refunds on opened bags" is an answer.

Evidence: of the roundabout refusals of the development half it notes 23 of 23.
"""

import re

from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check"]

NAME = "refusal"
SEVERITY: Severity = "note"
_MAX_CHARACTERS = 1_000
_MIN_REST_WORDS = 5
"""What follows "but" in a refusal is an answer of its own from so many words on."""
_MIN_PROMPT_WORDS = 4
"""A greeting may be answered by "How can I help you?"."""

_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)*_]*\s+|\n+")


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


# Up to a few words stand between "I" and "can't": "I'm afraid I am simply".
_WHO = (
    r"\b(?:I|we|my (?:systems?|program\w*|instructions|guidelines|training|polic\w+))(?:['’](?:m|ve|d|ll|re))?"
    r" (?:\w+ ){0,4}?"
)
_CANNOT = _any_of(
    r"(?:can|could|wo|would|do|does|should)n?['’]t|can ?not|(?:could|will|would|may|must|do|does|should) not",
    r"unable to",
    r"not (?:able|permitted|allowed|authori[sz]ed|equipped|qualified|prepared|comfortable|in a position|going)(?: to)?",
    r"(?:instructed|asked|told|programmed|designed|rather|prefer|choose) not(?: to)?",
    r"(?:decline|refuse) to|(?:not|n['’]t) (?:permit|allow) me to",
).pattern
_ANSWERING = _any_of(
    r"answer|respond|reply|assist|advise|comply|fulfil{1,2}|engage|comment|discuss|process|explain|translate",
    r"talk about|speak (?:about|on)|take part in|carry out|be of (?:use|help|assistance)",
    r"help\b(?! \w+ing\b| but\b)",  # "I can't help laughing"
    r"tell (?:you|any)|say (?:what|anything|more)|show (?:you|how)|do (?:that|this|so)\b",
    r"recommend (?:a|any|one|anything|specific)\b(?![^.!?]*\benough\b)|suggest (?:a|any|one|anything)\b",
    r"(?:write|create|generate|tell|make up) (?:a|an|any|this|that)\b",
    r"(?:giv|offer|provid|shar|supply|show)(?:e|ing)? (?:\w+ ){0,3}?(?:advice|information|instructions?|details?"
    r"|guidance|suggestions?|help|assistance|steps|answers?|opinions?|recommendations?|recipes?|support|that|this)\b",
).pattern
_REFUSES = _any_of(
    rf"{_WHO}(?:{_CANNOT}) (?:\w+ ){{0,3}}?(?:{_ANSWERING})",
    r"\b(?:I|we) (?:\w+ ){0,4}?(?:decline|refuse)(?: to\b|[.!]|$)",
    r"\bI(?:['’](?:m|ll|d))? (?:\w+ ){0,4}?(?:pass on (?:this|that)|have to say no)\b",
    r"\bI (?:do not|don['’]t) feel comfortable",
    r"\bI (?:do not|don['’]t) have (?:access to|an answer|the ability|permission to|any information)",
    r"\bI (?:do not|don['’]t) have (?:enough (?:information|context)|personal (?:preferences|opinions|feelings))",
    r"\b(?:some|any|no)thing (?:that )?I(?:['’]m| am)? (?:can|could|unable to|not able to|allowed to|permitted to)\b",
    r"\b(?:falls|is|lies) (?:outside|beyond)(?: of)? (?:the scope of )?(?:what I|my (?:abilities|knowledge|scope))\b",
    r"\bagainst my (?:guidelines|polic\w+|programming|principles|rules)\b|\bI lack the (?:\w+ )?(?:to|information)",
    r"\b(?:would(?: not|n['’]t)|might not) be (?:appropriate|right|responsible|proper) (?:of|for) me\b",
    r"\bwould be (?:irresponsible|inappropriate|wrong|improper) (?:of|for) me\b|\bno way for me to\b",
    r"\bno (?:comment|answer|advice|help|information) (?:can|could|may) be\b",
)
# Beside a refusal these are no answer; alone some of them are ("You should consult a doctor after three days").
_REFERS = _any_of(
    r"^\W*(?:(?:i['’]?m|i am|we are) (?:\w+ )?sorry\b[^,.;:]{0,40}|(?:sorry|(?:my )?apologies|unfortunately))\W*$",
    r"\b(?:please|kindly) (?:consult|contact|look|refer|ask|try|seek|speak|check|visit|reach out|turn|see)\b",
    r"\b(?:you (?:may|might|should|could)|i(?:['’]d| would)? (?:suggest|recommend|advise)) (?:\w+ ){0,3}?"
    r"(?:consult|contact|speak|talk|ask|seek|look|refer|turn|reach out)",
    r"\bthe right (?:person|people|place) to (?:ask|turn)|\bif you(?: are|['’]re) struggling\b|\bapologi[sz]e\b",
    r"\bI(?:['’]m| am) (?:just|only|merely) an? (?:AI|language model|\w* ?assistant|program)\b|\bas an AI\b",
)
_EMPTY = _any_of(
    r"^\W*(?:(?:what|that['’]s|that is|this is) )?(?:an? )?(?:\w+ ){0,2}(?:question|topic)\W*$",
    r"\byour (?:question|request|query) is (?:very )?(?:important|interesting|valuable)\b",
    r"\bthank you for (?:reaching out|asking|understanding|your (?:question|message|request|understanding|interest))\b",
    r"\b(?:is|was) there (?:any|some)thing else\b|\bfeel free to (?:ask|reach|contact|share|let me)\b",
    r"\b(?:happy|glad|here) to help(?: you)?\b|\bhow (?:can|may) i (?:help|assist)\b",
    r"\blet me know (?:if|how|what) (?:i|you)\b",
    r"\bthere are many (?:different )?(?:ways|opinions|views) (?:to (?:look at|see|approach|think about)|on|about)"
    r" (?:it|this|that)\b",
    r"^\W*(?:well,? )?it (?:really |all )*depends(?: on (?:\w+ ){0,5}(?:factors|things|circumstances|situation))?\W*$",
    r"\b(?:that|it)(?:['’]s| is) (?:entirely |completely |totally )?up to you\b",
    r"\b(?:everyone|everybody|every person) (?:is different|has (?:their|his or her) own)\b",
)
_GOES_ON = re.compile(r"[,;:.]? ?\b(?:but|however|though|yet|instead)\b,?|[;:–—]")


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Notes a short answer that is a refusal or an empty phrase and nothing else.

    Returns:
        One note, or none; always none for JSON.
    """
    if len(text) > _MAX_CHARACTERS or context.json_schema is not None or context.answer_format == "json":
        return ()
    if not 0 < len(fold(text)) <= thresholds.refusal_max_words:
        return ()
    sentences = [sentence for sentence in _SENTENCE_END.split(_QUOTED.sub("x", text)) if fold(sentence)]
    refusals = [at for at, sentence in enumerate(sentences) if _REFUSES.search(sentence)]
    if any(map(_goes_on, sentences)):
        return ()
    others = [at for at, sentence in enumerate(sentences) if not _is_no_answer(sentence)]
    if refusals and len(others) <= 1 and (not others or others[0] < refusals[0]):
        return (Finding(NAME, SEVERITY, "the whole answer is a refusal"),)
    if len(fold(context.prompt)) >= _MIN_PROMPT_WORDS and all(map(_EMPTY.search, sentences)):
        return (Finding(NAME, SEVERITY, "the whole answer is an empty phrase"),)
    return ()


def _is_no_answer(part: str) -> bool:
    return any(pattern.search(part) for pattern in (_REFUSES, _REFERS, _EMPTY))


def _goes_on(sentence: str) -> bool:
    """Whether a sentence says something after "but" or a colon."""
    turn = _GOES_ON.search(sentence)
    if turn is None:
        return False
    rest = sentence[turn.end() :]
    return len(fold(rest)) >= _MIN_REST_WORDS and not _is_no_answer(rest)
