"""Tells whether an answer goes round in circles: loops of characters, words and sentences, repeated passages.

A sentence that is said again and again is looked for among its neighbours, also with a word or two changed; a
paragraph among all; lines by how they begin; a phrase by the sentences that say it twice; the rest by the share of
repeated 8-grams, Rheostat's own measure (recall .98-.99 at .006 false alarms on the first evaluation). A compression
ratio is none, since code and tables compress better than loops. Code and tables are taken out first; songs, poems and
lists may repeat a line, and what was asked for is no defect.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from deployments.validator.code_blocks import blank, blank_code
from deployments.validator.grades import grade_between
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold, iterate_words
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "find_repeated_tail", "grade", "is_verse"]

NAME = "repetition"
SEVERITY: Severity = "soft"
_GRAM = 8
_MAX_UNIT_WORDS = 120
"""Longest unit that a repeated tail is looked for with: a paragraph."""
_MIN_TAIL_WORDS = 12
"""'No, no, no!' is a figure of speech; a tail counts from so many words on."""
_MIN_GLUED = 20
"""So many copies of two or three letters in one word are a loop, though shorter than others: 'hahaha' has fewer."""
_MIN_SENTENCE = 6
_MIN_COPIES = 3
"""A sentence of so many words that stands so often in a row is a loop; twice is emphasis."""
_MIN_LONG_SENTENCE = 9
_MIN_NEAR_COPIES = 4
"""Three sentences alike are a figure of speech."""
_NEAR = 0.7
"""Share of its different words that a near copy has in common with the first of the row."""
_MAX_STEP = 3
"""Copies stand so many sentences apart at most: an abbreviation counts as the end of one."""
_MIN_PARAGRAPH = 20
"""Words of a paragraph that may not stand twice."""
_MIN_ROW_CHARACTERS, _MIN_ITEM_CHARACTERS, _MIN_PARAGRAPH_CHARACTERS = 60, 24, 60
"""Shorter lines, items and paragraphs need no look: the least that their words come to."""
_MIN_PASSAGE = 12
"""So many words in a row must stand twice before 8-grams are counted: sentences of one making share fewer."""
_VERSE_LINE = 60
_OPENING, _OPENING_SPACES, _MIN_OPENINGS = 72, 9, 5
"""Characters with which so many lines in a row must begin, and spaces in them: the items of a list may begin alike, but
not with a sentence of ten words. Addresses of pages have no spaces."""
_MIN_SEMICOLONS = 2
"""In one sentence: so many stand between clauses as contracts have them, which say the same of several things."""
_MIN_REPEATED, _MIN_REPEATS = 4, 3
"""Words of a short sentence that stands here and there again, and how often such sentences must in all."""
_PHRASE, _LONG_WORD, _MIN_DOUBLED, _MAX_SENTENCE = 3, 4, 3, 120
"""Words of a phrase ("extra virgin olive", not "the number of") and characters of each; how many sentences must hold it
twice, where a writer says "it" the second time; words of the longest sentence that is looked at."""

_NUMBERS = frozenset(["one", "two", "three", "four", "five", "six", "seven", "eight", "and"])
"""With these words beats are counted."""
# Lists inside lists are indented, too, and no code.
_TABLE_LINE = re.compile(
    r"^[ \t]*\|[^\n]*$|^[^\n|]{0,80}\|[^\n|]{0,80}\|[^\n]{0,120}$"
    r"|^(?:\t| {4})(?![ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t])[^\n]*$",
    re.MULTILINE,
)
_TABLE_MARKS = ("|", "\t", "    ")
_SENTENCE_END = re.compile(r"[.!?…][\"')\]”’»*_]*[ \t]+|[。！？।]")
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n")
_LIST_MARK = re.compile(r"[ \t]*(?:(?:[-*+•‣◦>#|]|\d{1,3}[.)]|[A-Za-z][.)])[ \t]|[^\n.!?:]{1,24}:[ \t*])")
_REQUEST = re.compile(r"\b(?:write|say|type|print|sing|make|give|show|recite|output)\b", re.IGNORECASE)
_TIMES = re.compile(
    r"\b(?:\d+|two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|fifty|hundred|many|several)"
    r" (?:times|rounds|repetitions|copies)\b",
    re.IGNORECASE,
)
_REPEATING = re.compile(
    r"\brepeat(?:s|ed|ing|edly)?\b|\b(?:refrain|chorus|chant|mantra|litany)\b|\bover and over\b|\bagain and again\b",
    re.IGNORECASE,
)


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds loops and repeated passages.

    Returns:
        One finding, or none; with a span where the loop stands in one place. A note where the caller set the
        limit, ignores the end of text, or asked for something that is repeated: then that is what was asked for.
    """
    if context.finish_reason == "repetition":
        found: tuple[str, tuple[int, int] | None] | None = "the engine stopped a loop", find_repeated_tail(text)
    else:
        found = _find_repetition(text, thresholds)
    if found is None:
        return ()
    severity: Severity = "note" if context.caller_limited or _asks_for_repetition(context.prompt) else SEVERITY
    return (Finding(NAME, severity, *found),)


def grade(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> float | None:
    """Falls with the share of the 8-grams that stood before. None: short, or repetition may be what was asked."""
    if context.caller_limited or _asks_for_repetition(context.prompt):
        return None
    _, prose = _take_prose(text)
    forms = fold(prose)
    if len(forms) < thresholds.duplicate_min_words:
        return None
    repeated, total = _count_duplicates(_drop_repeated_numbers(forms), _GRAM)
    if not repeated:
        return 1.0
    is_patterned = _is_patterned(prose)
    limit = thresholds.verse_duplicate_share if is_patterned else thresholds.duplicate_share
    return grade_between(repeated / total, 0.0, limit)


def _asks_for_repetition(prompt: str) -> bool:
    request = _REQUEST.search(prompt)
    return bool((request and _TIMES.search(prompt, request.end())) or _REPEATING.search(prompt))


def _find_repetition(text: str, thresholds: Thresholds) -> tuple[str, tuple[int, int] | None] | None:
    """What is repeated, in words for the caller, and where that stands in one place."""
    without_code, prose = _take_prose(text)
    forms = fold(prose)
    loop = _find_character_loop(without_code, thresholds.loop_characters)
    loop = loop or _locate(prose, _find_word_loop(forms, thresholds.loop_words))
    loop = loop or _locate(prose, _find_tail(forms)) or _find_tail_of_row(without_code, prose)
    if loop:
        return "the text repeats the same words in a loop", loop
    row = _find_row(prose)
    if row:
        return "a sentence stands several times in a row", row
    paragraph = _find_paragraph(without_code)
    if paragraph and (_is_list(prose) or not is_verse(prose)):
        return "a paragraph stands in the text twice", paragraph
    openings = _find_openings(prose)
    if openings:
        return "many lines begin with the same words", openings
    if len(forms) < thresholds.duplicate_min_words:
        return None
    pieces = _cut_sentences(prose.lower())
    if _is_phrase_doubled(pieces) and not is_verse(prose):
        return "a phrase stands twice in one sentence after the other", None
    sentences = _count_repeated_sentences(pieces) / len(forms)
    has_passage = _count_duplicates(forms, _MIN_PASSAGE)[0] > 0
    if not sentences and not has_passage:
        return None
    is_patterned = _is_patterned(prose)
    if sentences > thresholds.duplicate_share and not is_patterned:
        return f"{sentences:.0%} of the words are of sentences that stood before", None
    limit = thresholds.verse_duplicate_share if is_patterned else thresholds.duplicate_share
    repeated, total = _count_duplicates(_drop_repeated_numbers(forms), _GRAM) if has_passage else (0, 0)
    share = repeated / max(1, total)
    if share <= limit:
        return None
    return f"{share:.0%} of the 8-word passages stood before; at most {limit:.0%} may", None


def _take_prose(text: str) -> tuple[str, str]:
    """``text`` without code, and without code and tables; every place stays the same."""
    # Most texts have neither code nor tables; looking for them line by line takes as long as all the rest.
    without_code = blank_code(text) if "```" in text or "~~~" in text else text
    has_rows = any(mark in without_code for mark in _TABLE_MARKS)
    return without_code, blank(without_code, _TABLE_LINE) if has_rows else without_code


def find_repeated_tail(text: str) -> tuple[int, int] | None:
    """The part of the text's end that repeats what stands right before it: [first repeat, end) in characters.

    At least three copies in a row, of the shortest unit that repeats; the last copy may be cut. None: no loop.
    """
    return _locate(text, _find_tail(fold(text)))


def _find_tail(forms: list[str]) -> tuple[int, int] | None:
    """The repeated tail as [first, end) in words."""
    # The last word of a cut text may be half a word.
    first = _find_tail_start(forms)
    first = _find_tail_start(forms[:-1]) if first is None else first
    return None if first is None else (first, len(forms))


def _find_tail_of_row(text: str, prose: str) -> tuple[int, int] | None:
    """As ``find_repeated_tail``, of a last line that was taken out as a row of a table."""
    at = text.rstrip().rfind("\n") + 1
    tail = find_repeated_tail(text[at:]) if "|" in text[at:] and text[at:] != prose[at:] else None
    return None if tail is None else (at + tail[0], at + tail[1])


def _find_tail_start(forms: list[str]) -> int | None:
    for unit in range(1, min(_MAX_UNIT_WORDS, len(forms) // 3) + 1):
        matched = 0
        while matched + unit < len(forms) and forms[-1 - matched] == forms[-1 - matched - unit]:
            matched += 1
        if matched >= 2 * unit and matched + unit >= _MIN_TAIL_WORDS:
            if all(map(str.isdigit, forms[-unit:])) or _NUMBERS.issuperset(forms[-unit:]):
                return None  # rows of zeros, beats that are counted
            return len(forms) - matched
    return None


def _locate(text: str, words: tuple[int, int] | None) -> tuple[int, int] | None:
    """[first, end) in characters of a range of words; a range up to the last word ends with the text."""
    if words is None:
        return None
    places = list(iterate_words(text))
    return places[words[0]].start, len(text) if words[1] == len(places) else places[words[1] - 1].end


def _find_character_loop(text: str, limit: int) -> tuple[int, int] | None:
    at = 0
    least = min(limit, 2 * _MIN_GLUED)
    for word in [word for word in text.split() if len(word) >= least]:
        at = text.index(word, at)
        for unit in range(1, 17):
            copies = min(limit, _MIN_GLUED * unit) if unit > 1 else limit
            # Equal to itself moved by one unit, over so many characters: found by comparing block-wise.
            start = _find_period(word, unit, copies)
            if start is not None and any(map(str.isalpha, word[start : start + unit])):
                return at + start, at + len(word)
        at += len(word)
    return None


def _find_period(value: str, unit: int, limit: int) -> int | None:
    """Where a stretch of ``limit`` characters with the period ``unit`` begins, on a grid of limit / 4."""
    step = max(1, limit // 4)
    for at in range(0, len(value) - limit + 1, step):
        if value[at : at + limit - unit] == value[at + unit : at + limit]:
            return at
    return None


def _find_word_loop(forms: list[str], limit: int) -> tuple[int, int] | None:
    # Every run of ``limit`` words has two neighbours on this grid.
    for at in range(0, len(forms) - 1, limit - 1):
        form = forms[at]
        if form != forms[at + 1] or form.isdigit():
            continue
        first, end = at, at + 2
        while first > 0 and forms[first - 1] == form:
            first -= 1
        while end < len(forms) and forms[end] == form:
            end += 1
        if end - first >= limit:
            return first, end
    return None


def _find_row(text: str) -> tuple[int, int] | None:
    """Where a sentence stands again and again in one line, or an item in one list: from the second one on."""
    at = 0
    items: list[tuple[str, int]] = []
    for line in text.split("\n"):
        mark = _LIST_MARK.match(line)
        if len(line) >= _MIN_ROW_CHARACTERS:
            row = _find_row_in(line, mark.end() if mark else 0)
            if row:
                return at + row[0], at + row[1]
        item = line[mark.end() :].strip() if mark else ""
        if items and item != items[0][0] and line.strip():
            items = []
        if len(item) >= _MIN_ITEM_CHARACTERS:
            items.append((item, at))
            if len(items) >= _MIN_NEAR_COPIES and len(fold(item)) >= _MIN_SENTENCE:
                return items[1][1], at + len(line)
        at += len(line) + 1
    return None


def _find_row_in(line: str, begin: int) -> tuple[int, int] | None:
    starts = [begin, *(match.end() for match in _SENTENCE_END.finditer(line, begin))]
    if len(starts) < _MIN_COPIES:
        return None
    # Marks that stay at their words are the same in every copy; cutting at spaces is four times as fast.
    cut = str.split if line.isascii() else fold
    sentences = [frozenset(cut(line[start:end])) for start, end in pairwise([*starts, len(line)])]
    for step in range(1, _MAX_STEP + 1):
        least = _MIN_SENTENCE if step == 1 else _MIN_LONG_SENTENCE
        for at, (first, second) in enumerate(zip(sentences, sentences[step:], strict=False)):
            is_like = len(first & second) >= _NEAR * least and len(first) >= least
            if is_like and _is_row(sentences[at : at + step * _MIN_NEAR_COPIES : step]):
                return starts[at + step], len(line)
    return None


def _is_row(sentences: list[frozenset[str]]) -> bool:
    """Whether the sentences, by their different words, are copies of the first."""
    first = sentences[0]
    near = equal = 0
    for sentence in sentences:
        if len(sentence & first) < _NEAR * max(len(sentence), len(first)):
            break
        near += 1
        equal += sentence == first
    return equal >= _MIN_COPIES or (near >= _MIN_NEAR_COPIES and len(first) >= _MIN_LONG_SENTENCE)


def _find_openings(text: str) -> tuple[int, int] | None:
    """Where lines begin as the long line before them does: from the second one on."""
    at = begin = count = 0
    opening = ""
    for line in text.split("\n"):
        if len(line) > _OPENING:
            mark = _LIST_MARK.match(line)
            start = mark.end() if mark else 0
            own = line[start : start + _OPENING]
            count = count + 1 if own == opening else 1
            begin = at if count == 2 else begin
            opening = own
            # Code and tables have left blanks.
            if count >= _MIN_OPENINGS and len(own) == _OPENING and len(own.split()) > _OPENING_SPACES:
                return begin, at + len(line)
        at += len(line) + 1
    return None


def _cut_sentences(text: str) -> list[str]:
    """The sentences of ``text`` without their end marks; an abbreviation ends one, a closing quotation mark none."""
    for end in ("! ", "? ", "\n"):
        text = text.replace(end, ". ")
    return [sentence.strip(" .!?") for sentence in text.split(". ")]


def _count_repeated_sentences(pieces: list[str]) -> int:
    """Words of the short sentences that stood before; 0 where there are only one or two such."""
    if len(set(pieces)) + _MIN_REPEATS > len(pieces):
        return 0
    sizes = {piece: len(fold(piece)) for piece, count in Counter(pieces).items() if count > 1}
    repeats = [sizes[piece] for piece in pieces if sizes.get(piece, 0) >= _MIN_REPEATED]
    first = [size for size in sizes.values() if size >= _MIN_REPEATED]
    return sum(repeats) - sum(first) if len(repeats) - len(first) >= _MIN_REPEATS else 0


def _is_phrase_doubled(pieces: list[str]) -> bool:
    """Whether several sentences hold the same phrase twice each."""
    doubled: Counter[tuple[str, str, str]] = Counter()
    for piece in pieces:
        words = piece.split()
        long = [word for word in words if len(word) >= _LONG_WORD]
        # Who says a phrase twice repeats so many words.
        if len(set(long)) + _PHRASE > len(long) or len(words) > _MAX_SENTENCE:
            continue
        grams = Counter(zip(words, words[1:], words[2:], strict=False))
        doubled.update(gram for gram, count in grams.items() if count > 1 and _is_phrase(gram))
    return max(doubled.values(), default=0) >= _MIN_DOUBLED


def _is_phrase(words: Sequence[str]) -> bool:
    return min(map(len, words)) >= _LONG_WORD and "".join(words).isalpha()


def _find_paragraph(text: str) -> tuple[int, int] | None:
    """Where a paragraph stands for the second time."""
    seen: set[str] = set()
    at = 0
    for end in [*(match.start() for match in _PARAGRAPH_END.finditer(text)), len(text)]:
        paragraph = text[at:end].strip()
        if len(paragraph) >= _MIN_PARAGRAPH_CHARACTERS:
            if paragraph in seen and len(fold(paragraph)) >= _MIN_PARAGRAPH:
                return text.index(paragraph, at), end
            seen.add(paragraph)
        at = end
    return None


def _count_duplicates(words: list[str], size: int) -> tuple[int, int]:
    """How many runs of ``size`` words stood before, and how many there are."""
    total = max(0, len(words) - size + 1)
    return total - len(set(zip(*(words[offset:] for offset in range(size)), strict=False))), total


def _drop_repeated_numbers(words: list[str]) -> list[str]:
    """A number that is repeated (a row of zeros) is data."""
    return [word for at, word in enumerate(words) if not (word.isdigit() and at and words[at - 1] == word)]


def is_verse(text: str) -> bool:
    """Whether a text is of short lines, as songs, poems and lists are."""
    lines = sorted(len(line.strip()) for line in text.splitlines() if line.strip())
    return len(lines) >= 6 and lines[len(lines) * 3 // 4] <= _VERSE_LINE


def _is_list(text: str) -> bool:
    """Whether most lines are items or headings, or begin with a label ("Monday: ...")."""
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) >= 3 and sum(_LIST_MARK.match(line) is not None for line in lines) > len(lines) / 2


def _is_patterned(text: str) -> bool:
    """Whether a text is of lines or clauses that may be alike: verse, a list, or a sentence with semicolons."""
    is_one_sentence = text.count(";") >= _MIN_SEMICOLONS and _SENTENCE_END.search(text) is None
    return is_one_sentence or is_verse(text) or _is_list(text)
