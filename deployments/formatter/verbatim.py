"""Tells prose from what is left alone in it, in text that arrives in pieces: code, JSON, links.

What a character is depends on the characters before it only, so nothing is ever held back for it:

* Code in a fence of backticks or tildes: indented, quoted or in a list item. A fence that is never closed lasts to
  the end.
* Inline code: from a run of backticks to the next of the same length, or to the end of the line.
* JSON: from a bracket that a double quote follows to the bracket that closes it, or to an empty line.
* A link: from ``://``, ``www.`` or ``](`` to a space, a quote or a closing bracket.
"""

import re
from typing import Literal

# Each alternative begins with a character of its own, so that a search skips all others quickly.
_SPECIAL = re.compile(r"[\n`~{\[]|/(?<=://)|\.(?<=\bwww\.)|\((?<=\]\()")
_RUN = re.compile(r"`+|~+")
_BEFORE_FENCE = re.compile(r"[ \t>*+\d.)-]*")
_BLANKS = re.compile(r"[ \t\r]*")
_INLINE = re.compile(r"[^`\n]*")
_STRING = re.compile(r'[^"\\\n]*')
_DATA = re.compile(r'[^"{}\[\]\n]*')
_LINK = re.compile(r'[^\s<>")]*')
_MIN_FENCE = 3


class VerbatimTracker:
    """Walks over a text. ``pass_verbatim`` and ``pass_prose`` take turns until all of it is passed, each from where
    the other stopped; the text may grow at its end meanwhile. Linear in the text."""

    def __init__(self) -> None:
        self._is_line_start = True  # only what may stand before a fence was seen on this line
        self._run = ""  # the kind of mark whose run is being passed
        self._run_size = 0
        self._inline = 0  # length of the run that opened inline code
        self._may_be_fence = False  # it did so at a line's start, and no other run followed
        self._fence = ""
        self._fence_size = 0
        self._fence_end: Literal["indent", "marks", "after", "no"] = "no"  # how much of a closing line was seen
        self._fence_end_size = 0
        self._after_bracket = False
        self._depth = 0  # of brackets in JSON
        self._in_string = False
        self._is_escaped = False
        self._is_empty_line = False
        self._in_link = False

    def prose_end(self, text: str, at: int) -> int:
        """Where the prose ends that begins at ``at``, right after a ``pass_verbatim``; len(text): not yet."""
        if self._after_bracket:
            blanks = _BLANKS.match(text, at)
            if blanks is not None and text[blanks.end() : blanks.end() + 1] == '"':
                return blanks.end()
        special = _SPECIAL.search(text, at)
        return special.start() if special else len(text)

    def pass_prose(self, text: str, start: int, end: int) -> None:
        """Passes ``text[start:end]``, which is prose."""
        if self._is_line_start and _BEFORE_FENCE.fullmatch(text, start, end) is None:
            self._is_line_start = False
        if self._after_bracket and _BLANKS.fullmatch(text, start, end) is None:
            self._after_bracket = False

    def pass_verbatim(self, text: str, at: int) -> int:
        """Passes what is no prose from ``at`` on; returns where it ends: at prose, or at the end of what is there."""
        while at < len(text):
            if self._run_size:
                if text[at] == self._run:
                    at = self._pass_run(text, at)
                    continue
                self._end_run()
            if self._fence:
                at = self._pass_fenced(text, at)
            elif self._depth:
                at = self._pass_json(text, at)
            elif self._in_link:
                at = self._pass_link(text, at)
            elif text[at] == "\n":
                self._end_line()
                at += 1
            elif self._inline and text[at] != "`":
                at = _end_of(_INLINE, text, at)
            elif text[at] in "`~":
                at = self._pass_run(text, at)
            elif text[at] == '"' and self._after_bracket:
                self._depth, self._in_string = 1, True
                self._after_bracket = self._is_line_start = self._is_empty_line = False
                at += 1
            elif _SPECIAL.match(text, at):
                self._after_bracket = text[at] in "{["
                self._in_link = not self._after_bracket
                self._is_line_start = False
                at += 1
            else:
                break
        return at

    def _end_line(self) -> None:
        if self._may_be_fence:
            self._fence, self._fence_size = "`", self._inline
            self._fence_end, self._fence_end_size = "indent", 0
        self._inline = 0
        self._may_be_fence = False
        self._is_line_start = True

    def _pass_run(self, text: str, at: int) -> int:
        end = _end_of(_RUN, text, at)
        self._run = text[at]
        self._run_size += end - at
        return end

    def _end_run(self) -> None:
        size, self._run_size = self._run_size, 0
        may_be_fence = self._is_line_start and size >= _MIN_FENCE
        self._is_line_start = self._after_bracket = False
        if self._inline:
            # A fence's own line has no other backticks: what follows was inline code.
            self._may_be_fence = False
            if size == self._inline:
                self._inline = 0
        elif self._run == "`":
            self._inline, self._may_be_fence = size, may_be_fence
        elif may_be_fence:
            self._fence, self._fence_size = self._run, size
            self._fence_end = "no"

    def _pass_fenced(self, text: str, at: int) -> int:
        character = text[at]
        if character == "\n":
            if self._fence_end in ("marks", "after") and self._fence_end_size >= self._fence_size:
                self._fence = ""
                self._is_line_start = True
            self._fence_end, self._fence_end_size = "indent", 0
        elif self._fence_end == "no":
            end = text.find("\n", at)
            return len(text) if end < 0 else end
        elif character == self._fence and self._fence_end in ("indent", "marks"):
            self._fence_end = "marks"
            self._fence_end_size += 1
        elif character in " \t\r" or (character == ">" and self._fence_end == "indent"):
            self._fence_end = "after" if self._fence_end == "marks" else self._fence_end
        else:
            self._fence_end = "no"
        return at + 1

    def _pass_json(self, text: str, at: int) -> int:
        if self._is_escaped:
            self._is_escaped = False
            return at + 1
        end = _end_of(_STRING if self._in_string else _DATA, text, at)
        if end > at:
            self._is_empty_line = self._is_empty_line and text[at:end].isspace()
            return end
        match text[at]:
            case "\n" if self._is_empty_line:
                self._depth, self._in_string = 0, False
                self._is_line_start = True
            case "\n":
                self._is_empty_line = True
            case '"':
                self._in_string = not self._in_string
            case "\\":
                self._is_escaped = True
            case "{" | "[":
                self._depth += 1
            case "}" | "]":
                self._depth -= 1
        if text[at] != "\n":
            self._is_empty_line = False
        return at + 1

    def _pass_link(self, text: str, at: int) -> int:
        end = _end_of(_LINK, text, at)
        self._in_link = end == len(text)
        return end


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
