"""Strips Markdown marks from text that arrives in pieces. Owns what plain text looks like; used by the text
renderer for whole answers and by streams, so that both give the same characters.

Not a Markdown parser: it looks at one line at a time, at most ``LOOK_AHEAD`` characters of it, and keeps what it
is not sure of. Losing a mark that was meant is worse than showing one.
"""

import re

LOOK_AHEAD = 200
"""Characters of one line read before deciding. Emphasis, code, links and fence lines longer than this are rare."""

_MAX_NEWLINES = 2
_MAX_NEWLINES_IN_CODE = 100  # blank lines mean something in code, yet what is held back must be bounded
_PLAIN = re.compile(r"[^\n*_`\\\[!]+")
_INDENT = re.compile(r"[ \t]*")
_HEADING = re.compile(r"#{1,6}(?:[ \t]+|$)")
_RULE = re.compile(r"([-*_=])[ \t]*(?:\1[ \t]*){2,}")
_RULE_SO_FAR = re.compile(r"([-*_=])(?:[ \t]|\1)*")
_FENCE = re.compile(r"`{3,}|~{3,}")
_MARK_RUN = re.compile(r"`+|~+|\*+|_+")
_FENCE_END_SO_FAR = re.compile(r"[ \t>]*(`*|~*)[ \t]*")
_BRACKETS = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]")
_TARGET = re.compile(r"""\([ \t]*<?((?:[^\s()<>]|\([^\s()<>]*\))*)>?(?:[ \t]+(?:"[^"]*"|'[^']*'))?[ \t]*\)""")
_CLOSERS = {1: (1, 3), 2: (2, 3), 3: (1, 2, 3)}
"""Lengths of the runs that can close an opening run of 1, 2 or 3 marks; longer runs are no emphasis."""

_Step = tuple[str, int]
"""What to put out, and how many characters of the input it stands for."""


class PlainStream:
    """Feed it text in any pieces; the joined output depends on the joined input only.

    Stripped: heading marks, underlines and rules, block quotes, emphasis at word borders, code backticks, fence
    lines, backslashes before marks. Changed: bullets ``*`` and ``+`` to ``-``, ``[text](url)`` to ``text (url)``,
    images to their alt text, runs of blank lines to one (kept in code). Dropped: newlines at either end of the
    text. Kept: ``2 * 3``, ``snake_case``, marks without a partner, all else. Code in fences stays as it is.
    """

    def __init__(self) -> None:
        self._buffer = ""
        self._before = "\n"  # the last character of the input that was dealt with
        self._at_line_start = True
        self._fence: str | None = None  # the marks that opened the code block we are in
        self._open: list[str] = []  # emphasis runs open on this line
        self._newlines = 0  # held back until something follows them
        self._began = False  # whether anything was put out

    @property
    def pending(self) -> int:
        """Characters held back until more input decides them: always below ``LOOK_AHEAD``."""
        return len(self._buffer)

    def feed(self, text: str) -> str:
        """Takes the next piece and returns all plain text that is now certain; may be empty."""
        self._buffer += text.replace("\r", "")
        done: list[str] = []
        at = 0
        while at < len(self._buffer):
            window = self._buffer[at : at + LOOK_AHEAD]
            step = self._step(window)
            if step is None:
                break
            out, taken = step
            if out:
                done.append(self._with_newlines(out))
            if taken:
                at += taken
                self._before = window[taken - 1]
        self._buffer = self._buffer[at:]
        return "".join(done)

    def flush(self) -> str:
        """Returns the rest. Call it once, when the text is whole; the stream is used up then."""
        # A line end decides every rule below, and newlines at the end are never put out.
        return self.feed("\n")

    def _with_newlines(self, text: str) -> str:
        most = _MAX_NEWLINES_IN_CODE if self._fence else _MAX_NEWLINES
        newlines = "\n" * min(self._newlines, most) if self._began else ""
        self._newlines = 0
        self._began = True
        return newlines + text

    # Every rule sees the same window whatever the pieces were: it answers None ("wait") on a short window, or
    # what it would also answer on a longer one. A line end or a full window always decides.

    def _step(self, window: str) -> _Step | None:
        line, newline, _ = window.partition("\n")
        ended = bool(newline)
        decided = ended or len(window) == LOOK_AHEAD
        if self._at_line_start:
            return self._line_start(line, ended, decided)
        if not line:
            self._newlines += 1
            self._at_line_start = True
            self._open.clear()
            return "", 1
        if self._fence:
            return line, len(line)
        match line[0]:
            case "*" | "_":
                return self._emphasis(line, ended, decided)
            case "`":
                return self._code(line, ended, decided)
            case "[" | "!":
                return self._link(line, decided)
            case "\\":
                return self._escape(line, decided)
            case _:
                plain = _PLAIN.match(line)
                assert plain is not None
                return plain[0], plain.end()

    def _line_start(self, line: str, ended: bool, decided: bool) -> _Step | None:
        if self._fence:
            return self._code_line_start(line, ended, decided, self._fence)
        indent = _INDENT.match(line)
        assert indent is not None
        rest = line[indent.end() :]
        if not rest and not decided:
            return None
        if not rest and ended:
            return self._goes_on("", len(line))
        second = rest[1:2]
        if rest[:1] in (">", "+") and not second and not decided:
            return None
        if rest[:1] == ">" and second in ("", " ", "\t", ">"):
            return "", indent.end() + (2 if second and second != ">" else 1)
        if rest[:1] == "#":
            heading = _HEADING.match(rest)
            if heading is not None and heading.end() == len(rest) and not decided:
                return None
            if heading is not None:
                return self._goes_on("", indent.end() + heading.end())
        if _RULE_SO_FAR.fullmatch(rest) and not decided:
            return None
        if ended and _RULE.fullmatch(rest):
            return "", len(line) + 1
        if rest[:1] in ("*", "+") and second in (" ", "\t"):
            return self._goes_on(indent[0] + "-", indent.end() + 1)
        if rest[:1] in ("`", "~"):
            run = _MARK_RUN.match(rest)
            assert run is not None
            if run.end() == len(rest) and not decided:
                return None
            is_fence = _FENCE.match(rest) and not (run[0][0] == "`" and "`" in rest[run.end() :])
            if is_fence and not decided:
                return None
            if is_fence and ended:
                self._fence = run[0]
                return "", len(line) + 1
        return self._goes_on(indent[0], indent.end())

    def _code_line_start(self, line: str, ended: bool, decided: bool, fence: str) -> _Step | None:
        end = _FENCE_END_SO_FAR.fullmatch(line)
        if end is not None and not decided:
            return None
        if ended and end is not None and end[1].startswith(fence):
            self._fence = None
            return "", len(line) + 1
        return self._goes_on("", 0)

    def _goes_on(self, out: str, taken: int) -> _Step:
        self._at_line_start = False
        return out, taken

    def _emphasis(self, line: str, ended: bool, decided: bool) -> _Step | None:
        run = _MARK_RUN.match(line)
        assert run is not None
        marks, size = run[0], run.end()
        if size == len(line) and not decided:
            return None
        if size > 3 or (size == len(line) and not ended):
            return marks, size
        after = line[size : size + 1] or "\n"
        if _can_close(self._before, marks, after):
            left = self._close(marks)
            if len(left) < size:
                return left, size
        if after.isspace() or _is_word(self._before, marks):
            return marks, size
        closes = _closes_ahead(line, size, ended)
        if not closes and not decided:
            return None
        # A double mark at a word border is bold even where its partner is too far away to be seen.
        if closes or (not ended and size > 1):
            self._open += [marks[:1], marks[:2]] if size == 3 else [marks]
            return "", size
        return marks, size

    def _close(self, marks: str) -> str:
        """Takes what these marks close off the open runs; returns the marks that close nothing."""
        while fitting := [run for run in self._open if marks.startswith(run)]:
            closed = max(fitting, key=len)
            self._open.remove(closed)
            marks = marks[len(closed) :]
        return marks

    def _code(self, line: str, ended: bool, decided: bool) -> _Step | None:
        run = _MARK_RUN.match(line)
        assert run is not None
        size = run.end()
        if size == len(line) and not decided:
            return None
        end = re.search(rf"(?<!`)`{{{size}}}(?!`)", line[size:])
        if end is not None and (size + end.end() < len(line) or ended):
            code = line[size : size + end.start()]
            if code.strip() and code[0] == code[-1] == " ":
                code = code[1:-1]
            return code, size + end.end()
        return (run[0], size) if decided else None

    def _link(self, line: str, decided: bool) -> _Step | None:
        is_image = line[0] == "!"
        start = int(is_image)
        if is_image and line[1:2] != "[":
            return ("!", 1) if line[1:] or decided else None
        brackets = _BRACKETS.match(line, start)
        if brackets is not None and line[brackets.end() : brackets.end() + 1] not in ("", "("):
            return line[: start + 1], start + 1
        target = _TARGET.match(line, brackets.end()) if brackets is not None else None
        if brackets is None or target is None:
            return (line[: start + 1], start + 1) if decided else None
        label = PlainStream()
        label._at_line_start = False
        text, url = label.feed(brackets[1]) + label.flush(), target[1]
        return (text if is_image or url in ("", text) else f"{text} ({url})"), target.end()

    def _escape(self, line: str, decided: bool) -> _Step | None:
        if len(line) == 1 and not decided:
            return None
        # Only marks that are stripped here need the escape; others, such as LaTeX's \( and \[, keep it.
        return (line[1], 2) if line[1:2] in tuple("*_`#") else ("\\", 1)


def _is_word(character: str, marks: str) -> bool:
    """Whether a mark beside ``character`` stands inside a word. Scripts without case are written without spaces,
    so there ``**`` may stand between letters; ``_`` never may."""
    cased = character.isdigit() or character.lower() != character.upper()
    return character.isalnum() and (marks[0] == "_" or cased)


def _can_close(before: str, marks: str, after: str) -> bool:
    # '**Note:**text' is not bold by CommonMark, yet models write it.
    ends_label = marks.startswith("**") and not before.isalnum()
    return not before.isspace() and (ends_label or not _is_word(after, marks))


def _closes_ahead(line: str, size: int, ended: bool) -> bool:
    """Whether a run after the first ``size`` characters of ``line``, which are marks, can close them."""
    for run in re.finditer(re.escape(line[0]) + "+", line[size:]):
        start, end = size + run.start(), size + run.end()
        if end == len(line) and not ended:
            return False
        after = line[end : end + 1] or "\n"
        is_escaped = line[start - 1] == "\\"
        if len(run[0]) in _CLOSERS[size] and not is_escaped and _can_close(line[start - 1], run[0], after):
            return True
    return False
