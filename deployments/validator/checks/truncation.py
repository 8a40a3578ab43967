"""Tells whether an answer was cut: by the token limit, inside a code block, or in the middle of a sentence.

The text alone is weak evidence, so its last line is read as what it is, and measured by the lines before it: where
every sentence, list item or stanza has an end mark, the last one has one, too. Lists, tables, headings, code, verse,
signatures, values and short answers may end without. A cut that the caller asked for is a note.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

from deployments.validator.code_blocks import blank_code, find_open_fence
from deployments.validator.end_marks import ends_sentence, has_full_stop, is_whole, strip_blank
from deployments.validator.forced_ends import find_forced_end
from deployments.validator.letters import closes_letter, is_letter, is_valediction
from deployments.validator.loose_ends import (
    ends_in_dangling_word,
    ends_in_fragment,
    ends_in_stranded_word,
    has_unclosed_pair,
    is_english,
)
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check"]

NAME = "truncation"
SEVERITY: Severity = "soft"

_MAX_LINE = 4_000
"""Characters of the last line that are looked at."""
_MAX_BEFORE = 20_000
"""Characters before the last line that are looked at."""

_DANGLING_MARKS = ",;:([{“«-–—=×&"
_NEAR_LINES = 4
# Of a whole line or of what a colon introduces; bold comes before italics.
_WRAPPINGS = (("**", "**"), ('"', '"'), ("“", "”"), ("«", "»"), ("‘", "’"), ("`", "`"), ("(", ")"), ("[", "]"),
              ("*", "*"), ("_", "_"), ("$", "$"), ("\\[", "\\]"), ("\\(", "\\)"))  # fmt: skip

_ITEM = re.compile(r"[ \t]*(?:[-*+•‣◦][ \t]|(\d{1,3}[.)]|[A-Za-z]\))[ \t])")
_APART = re.compile(r"[ ]{0,3}(?:#{1,6}[ ]|>|\$\$|https?://)|[ ]{4}|\t")
_CLOSED_BLOCK = re.compile(r"\s*(?:`{3,}|~{3,}|</)")
_RULE = re.compile(r"[\s=*_+~-]+")
_JSON = re.compile(r"\s*(?:\{\s*\"|\[\s*[\[{\"\d])")
_OPENED = re.compile(r"[{\[][ \t]*$", re.MULTILINE)
_CLOSED = re.compile(r"^[ \t]*[}\]]", re.MULTILINE)
_CODE = re.compile(r"\w\(|[{}<>=\\]|::|\w_\w|(?:^|\s)(?:--|[~.]{0,2}/)\w|\w@\w|[^\W\d]\.\w|\w\.[^\W\d]")
_SPANS = re.compile(r"`[^`\n]*[^\w\s`][^`\n]*`$|`[^`\n]*\s[^`\n]*`$")
"""A command or an expression in code marks, at the end."""
_VALUE = re.compile(r"[\s\"'`*(~≈<>±+-]{0,8}[\d$€£¥]")
_MAX_VALUE = 16
"""Words."""
_SEPARATOR = re.compile(r"[,;:]")
_ATTRIBUTION = re.compile(r"(?:^|[\"”».!?*_])\s{0,3}[-–—]{1,2}\s{0,3}([^\W\d_])[^.!?\"”]{0,80}$")
_LABELS = (("**", 2), (": ", 1), (" – ", 1), (" — ", 1), (" - ", 1))
"""What stands between an item's label and its text, and how many times before the text begins."""
_LABELLED = re.compile(r"[*_]{0,2}[^\W\d_][^.:!?\n]{0,30}:[*_]{0,2} ")
_END_SHARE = 0.8
"""Share of a list's other items with end marks from which the last one must have one, too."""
_LONG_LIST = 3
"""Items before the last one by which a list tells how its items are made."""
_LONG_LIST_RATIO, _LIST_RATIO, _PAIR_RATIO = 2, 3, 6
"""How many times as many words as the last item others have, of a long list, a list and two items, where it is cut."""
_MIN_ITEM_WORDS = 6
"""Among shorter items one word may be whole."""
_ONE = re.compile(r"\b(?:one(?! of)|once|single|only|just)\b[^.!?]*$", re.IGNORECASE)
"""What a line with such a word announces may be one item."""
_FEW = 5
"""One in so many items may be shorter."""
_PARTS = ("(", ",")
"""What each item of a long list has, if all but the last one have it."""
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_STOP_INSIDE = re.compile(r"\w\w[.!?…][\"')\]”’»*_]{0,4}\s|[。！？।]")
# Thai, Lao, Myanmar, Khmer and Tibetan end sentences with a space or a mark of their own.
_NO_END_MARKS = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff]")
_VERSE_LINE = 60
"""Characters. A poem's lines are shorter, a paragraph's line is as long as the paragraph."""
_STANZAS, _STANZA = 16, 8
"""Lines: how many of a poem are looked at, and one full stop in how many of them makes sentences of them."""
_SIGN_OFF = re.compile(
    r"(?:the end|(?:good|best of) luck(?: (?:with|on|at|in) [^.!?\n]{1,40})?|i? ?hope (?:this|that|it) helps"
    r"|enjoy(?: your \w+)?|bon appétit|cheers|amen|thanks|thank you|take care|happy \w+)",
    re.IGNORECASE,
)
# What is asked for in these words has no end mark.
_PHRASE_WANTED = re.compile(
    r"\b(?:titles?|headlines?|headings?|slogans?|taglines?|mottos?|captions?|subject|names?|called|translate|translation)\b",
    re.IGNORECASE,
)
_MAX_PHRASE = 14
"""Words."""
_TITLED = re.compile(r"[*_]{0,2}(?:subject|title|headline|re)[*_]{0,2}:", re.IGNORECASE)
_PARTICLES = frozenset(["and", "of", "the", "for", "in", "de", "la", "von", "van"])

_MIN_FRAGMENT_WORDS = 5
"""Of a text in one line: shorter ones are names and the like."""
_MIN_TELLING, _MAX_TELLING = 12, 1_000
"""Words and characters of a text by which its language is told."""
_LOOSE_WORD = "the text ends in a word that something must follow"


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds where an answer breaks off.

    Returns:
        One finding, or none. A note where the caller set the limit.
    """
    severity: Severity = "note" if context.caller_limited else SEVERITY
    if context.finish_reason == "length":
        whose = "the caller's" if context.caller_limited else "the"
        return (Finding(NAME, severity, f"cut at {whose} token limit"),)
    end = len(strip_blank(text))
    if end == 0 or context.json_schema is not None or context.answer_format == "json":
        return ()  # json_schema says more about cut JSON
    has_fence = "```" in text or "~~~" in text
    fence = find_open_fence(text) if has_fence else None
    if fence is not None:
        return (Finding(NAME, severity, "a code block is not closed", (fence, len(text))),)
    begin = text.rfind("\n", 0, end) + 1
    last = text[max(begin, end - _MAX_LINE) : end]
    prose = blank_code(text) if has_fence else text
    if not is_whole(last) and not _CLOSED_BLOCK.match(last):
        reason = _find_reason(last, prose[:begin][-_MAX_BEFORE:], context, thresholds)
        if reason is not None:
            return (Finding(NAME, severity, reason, (begin, end)),)
    if last[0] in " \t" and "{" in prose and _is_in_braces(prose[-_MAX_BEFORE:]):
        return (Finding(NAME, severity, "the JSON or code is not closed", (begin, end)),)
    forced = find_forced_end(prose[:end], context.prompt)
    return () if forced is None else (Finding(NAME, severity, "a line breaks off before its end mark", forced),)


def _find_reason(last: str, before: str, context: CheckContext, thresholds: Thresholds) -> str | None:
    """Why a last line without an end mark is no end; ``before`` is what stands before it, without code."""
    lines = [line for line in map(strip_blank, before.split("\n")) if line]
    if _is_row(last, lines):
        return _judge_row(last, lines)
    if _JSON.match(lines[0] if lines else last):
        return None if last[-1] in "}]" else "the JSON is not closed"
    words = fold(last)
    in_english = _is_english(before, last, context)
    item = _ITEM.match(last)
    # "the" may be the whole of an item or of an answer.
    if (len(words) > 1 or (lines and item is None)) and ends_in_dangling_word(last, in_english):
        return _LOOSE_WORD
    if item is None and _APART.match(last):
        return None
    if _ends_in_dangling_mark(last, words, lines, is_letter(lines, context.prompt)):
        return "the text ends in a mark that something must follow"
    if has_unclosed_pair(last):
        return "a bracket, a quotation or an emphasis is not closed"
    if item is not None:
        is_announced = bool(lines) and lines[-1][-1] == ":" and not (_ITEM.match(lines[-1]) or _ONE.search(lines[-1]))
        reason = _judge_item(last, [line for line in lines if _is_like(item, line)], item, is_announced)
    elif _LABELLED.match(last) and lines and _LABELLED.match(lines[-1]) and not ends_sentence(lines[-1]):
        reason = _judge_item(last, [line for line in lines if _LABELLED.match(line)], None)
    else:
        reason = _judge_prose(last, words, lines, context, thresholds)
    is_name = item is None and closes_letter(last, words, lines, context.prompt)
    if reason is None and in_english and not is_name and (lines or len(words) >= _MIN_FRAGMENT_WORDS):
        if ends_in_stranded_word(last, words):
            reason = _LOOSE_WORD
        elif ends_in_fragment(last[item.end() if item else 0 :], f"{context.prompt[-_MAX_BEFORE:]}\n{before}"):
            reason = "the last word is not whole"
    return reason


def _is_english(before: str, last: str, context: CheckContext) -> bool:
    if context.language is not None:
        return re.split(r"[-_]", context.language.lower())[0] == "en"
    words = fold(f"{before}\n{last}"[-_MAX_TELLING:])
    # A short answer may hold no frequent word; the question tells.
    return is_english(words if len(words) >= _MIN_TELLING else [*fold(context.prompt[-_MAX_TELLING:]), *words])


def _ends_in_dangling_mark(last: str, words: Sequence[str], lines: Sequence[str], in_letter: bool) -> bool:
    bare = last.rstrip("*_ ")  # "**Day 2:**"
    mark = bare[-1] if bare else ""
    if (
        not mark
        or mark not in _DANGLING_MARKS
        or _RULE.fullmatch(last)
        or re.search(r"[:;=]-?\($|\b[A-Z]-$", last[-4:])
    ):
        return False
    is_item = _ITEM.match(last) is not None
    # Forms have a colon behind each question, and some people write a comma behind each item.
    if (mark == ":" or (mark in ",;" and is_item)) and all(line[-1] == mark for line in lines[-2:]) and len(lines) > 1:
        return False
    if mark == ";" and sum(line[-1] == mark for line in lines[-_NEAR_LINES:]) > 1:
        return False  # statements or an exercise
    if mark == ":":
        return True
    if mark == "," and not is_item:
        return not is_valediction(last, words, in_letter) and len(words) >= (1 if lines else 3)
    if mark == ";":
        return not _CODE.search(last) and (is_item or len(words) >= 8 or _STOP_INSIDE.search(last) is not None)
    return len(words) >= (2 if is_item else 3)


def _is_in_braces(text: str) -> bool:
    """Whether lines that end in an opening brace or bracket are left open, as in JSON without a code fence."""
    opened = len(_OPENED.findall(text))
    return opened > 1 and opened > len(_CLOSED.findall(text))


def _is_row(last: str, lines: Sequence[str]) -> bool:
    return last.lstrip()[:1] == "|" or (" | " in last and bool(lines) and " | " in lines[-1])


def _judge_row(last: str, lines: Sequence[str]) -> str | None:
    above = lines[-1] if lines and "|" in lines[-1] else None
    if above is None:
        return None
    if _count_cells(last) < _count_cells(above) or set(last) <= set("|-: \t"):
        return "the last row of the table has no end"
    return None


def _count_cells(row: str) -> int:
    return row.count("|") - row.count("\\|")


def _is_like(item: re.Match[str], line: str) -> bool:
    """Whether a line is an item of the same kind, a numbered or a bulleted one."""
    other = _ITEM.match(line)
    return other is not None and (other[1] is None) == (item[1] is None)


def _judge_item(last: str, others: Sequence[str], item: re.Match[str] | None, is_announced: bool = False) -> str | None:
    """Why the last item is no end of the list; ``is_announced``: a line of prose that ends in a colon stands before."""
    if not others:
        is_first = item is not None and item[1] in ("1.", "1)") and len(fold(last)) < 2
        return "the list has one item only" if is_first or is_announced else None
    has_no_end = "the last item of the list has no end"
    ends = [line for line in others if ends_sentence(line)]
    # One question or exclamation says little of the items after it.
    if len(ends) >= _END_SHARE * len(others) and (len(ends) > 1 or has_full_stop(ends[0])):
        return has_no_end
    texts, text = [_strip_mark(other) for other in others], _strip_mark(last)
    for label, count in _LABELS:
        if len(others) > 1 and all(label in other for other in texts):
            if label not in text and not _is_figure(text):
                return has_no_end
            texts, text = [other.split(label, count)[-1] for other in texts], text.split(label, count)[-1]
            break
    if item is None:
        return None
    is_long = len(others) >= _LONG_LIST
    if is_long and "," not in text and all("," in other for other in texts):
        return has_no_end
    # A list's items are about as long as each other; lines with labels and pairs of items are not.
    least = sorted(len(fold(other)) for other in texts)[len(texts) // _FEW]
    if least < _MIN_ITEM_WORDS or _is_figure(text):
        return None
    ratio = _LONG_LIST_RATIO if is_long else _LIST_RATIO if len(others) > 1 else _PAIR_RATIO
    return has_no_end if ratio * max(1, len(fold(text))) <= least else None


def _strip_mark(item: str) -> str:
    mark = _ITEM.match(item)
    return item[mark.end() :] if mark else item


def _judge_prose(
    last: str, words: Sequence[str], lines: Sequence[str], context: CheckContext, thresholds: Thresholds
) -> str | None:
    if _NO_END_MARKS.search(last[-1]) or _is_complete_unit(last) or closes_letter(last, words, lines, context.prompt):
        return None
    if last[-1] == "`" and _SPANS.search(last):
        return None  # behind a command many leave out the full stop
    if not lines and last.lstrip()[0].islower() and "|" not in last and not _STOP_INSIDE.search(last):
        return None  # so chats are written
    if _LABELLED.match(last) and _is_enumeration(last):
        return None
    if lines and (last[-1] == ":" or is_valediction(last, words, is_letter(lines, context.prompt))):
        return None  # a form's question; the name is left to the sender
    if _is_verse([*lines, last]):
        return "the last verse has no end" if _holds_full_stops(lines) and not _is_title(last) else None
    has_no_end = "the last sentence has no end"
    prose = [line for line in lines if not (_is_in_block(line) or _APART.match(line) or _is_complete_unit(line))]
    follows_colon = bool(lines) and lines[-1][-1] == ":"
    whole = any(is_whole(line) or line[-1] == ":" for line in lines if not _is_row(line, ()) and len(line.split()) > 3)
    whole = whole or (bool(lines) and _is_in_block(lines[-1]) and len(words) > 2)
    # The first line may be a title; a comma stands after a salutation.
    unmarked = [len(fold(line)) for line in prose[1:] if not is_whole(line) and line[-1] not in ":,"]
    if len(words) >= thresholds.truncation_min_words:
        stands_alone = not whole or follows_colon
        if stands_alone and not _STOP_INSIDE.search(last) and _is_no_sentence(last, words, lines, context):
            return None
        is_like_others = sum(2 * count >= len(words) for count in unmarked) >= 2 and not _STOP_INSIDE.search(last)
        return None if is_like_others else has_no_end
    if not whole or follows_colon or len(words) <= 2 * max(unmarked, default=0) or _may_be_short(last, words, prose):
        return None
    return has_no_end


def _is_figure(text: str) -> bool:
    """Whether it begins with a number and has no word to speak of."""
    return _VALUE.match(text) is not None and not _LONG_WORD.search(text)


def _is_in_block(line: str) -> bool:
    """Whether a line is part of a list or a table."""
    return _ITEM.match(line) is not None or _is_row(line, ())


def _is_complete_unit(last: str) -> bool:
    """Whether the line, or what a colon introduces in it, is in marks as a whole; or it names who said something."""
    for opening, closing in _WRAPPINGS:
        if last.endswith(closing):
            start = last.rfind(opening, 0, len(last) - len(closing))
            head = last[: max(start, 0)].rstrip(" \t*_")
            if start >= 0 and (not head or head[-1] == ":"):
                return True
    attribution = _ATTRIBUTION.search(last[-100:])
    return attribution is not None and attribution[1].isupper()


def _is_verse(lines: Sequence[str]) -> bool:
    block = lines[-4:]
    if any(_ITEM.match(line) or _is_row(line, ()) for line in block):
        return False
    unmarked = sum(line[-1] not in ".!?" for line in block)
    return len(block) >= 3 and max(map(len, block)) <= _VERSE_LINE and unmarked * 2 >= len(block)


def _holds_full_stops(lines: Sequence[str]) -> bool:
    """Whether the short lines at the end of ``lines`` hold a full stop now and then, as verse in sentences does."""
    verse = list(takewhile(lambda line: len(line) <= _VERSE_LINE, reversed(lines[-_STANZAS:])))
    return _STANZA * sum(map(has_full_stop, verse)) >= len(verse)


def _is_title(line: str) -> bool:
    """Whether a line consists of names, or is written as English titles are."""
    tokens = line.split()
    if len(tokens) < 2 or tokens[0].casefold() in _PARTICLES or tokens[-1] in _PARTICLES:
        return False
    return not any(token[0].islower() for token in tokens if token not in _PARTICLES)


def _is_no_sentence(last: str, words: Sequence[str], lines: Sequence[str], context: CheckContext) -> bool:
    """Whether a long line that stands alone is a value, an enumeration, a title, code, or the caller's own text."""
    if _is_value(last, words) or _TITLED.match(last) or _is_enumeration(last):
        return True
    if not lines and (_CODE.search(last) or (len(words) <= _MAX_PHRASE and _PHRASE_WANTED.search(context.prompt))):
        return True
    if 2 * sum(len(word) <= 2 for word in words) > len(words):
        return True  # chords, moves, sounds
    long_words = _LONG_WORD.findall(last)
    if len(long_words) >= 3 and all(word[0].isupper() for word in long_words):
        return True
    source = strip_blank(context.prompt[-_MAX_LINE:].rpartition(":")[2])
    return bool(source) and not is_whole(source) and 2 * len(set(words) & set(fold(source))) >= len(set(words))


def _is_value(last: str, words: Sequence[str]) -> bool:
    """Whether a line begins with a number, and does not go on as a sentence would."""
    if _VALUE.match(last) is None:
        return False
    return len(words) <= _MAX_VALUE or 4 * sum(word[0].isdigit() for word in words) >= len(words)


def _is_enumeration(last: str) -> bool:
    """Whether a line consists of names and the like, or of bars as long as each other."""
    parts = _SEPARATOR.split(last)
    if len(parts) >= 4 and all(len(part.split()) <= 4 for part in parts):
        return True
    bars = [len(bar.split()) for bar in last.split(" | ")]
    return len(bars) >= 3 and bars[-1] >= min(bars[:-1])


def _may_be_short(last: str, words: Sequence[str], prose: Sequence[str]) -> bool:
    """Whether a short last line after whole sentences is something else than the begin of one."""
    if (
        _SIGN_OFF.fullmatch(last)
        or _CODE.search(last)
        or last.startswith("#")
        or (_VALUE.match(last) and len(words) < 4)
    ):
        return True
    if _is_title(last):
        return True
    label, colon, value = last.replace("*", "").partition(": ")
    has_sentences = any(re.search(r":[*_]{0,2}\s", line) and is_whole(line) for line in prose)
    return bool(colon) and len(value.split()) <= 4 and len(label.split()) <= 4 and not has_sentences
