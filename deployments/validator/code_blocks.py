"""Finds fenced code blocks (CommonMark 0.31, section 4.5), which the checks of prose leave alone."""

import re

__all__ = ["blank", "blank_code", "find_open_fence"]

_FENCE = re.compile(r"^[ ]{0,3}(`{3,}|~{3,})", re.MULTILINE)
_NOT_SPACE = re.compile(r"\S")


def find_open_fence(text: str) -> int | None:
    """Where a code fence begins that nothing closes; None: every fence is closed."""
    return _find_blocks(text)[1]


def blank_code(text: str) -> str:
    """``text`` with spaces in place of its code blocks, an open one included; every place stays the same."""
    pieces = []
    at = 0
    for start, end in _find_blocks(text)[0]:
        pieces += [text[at:start], _NOT_SPACE.sub(" ", text[start:end])]
        at = end
    return "".join([*pieces, text[at:]])


def blank(text: str, pattern: re.Pattern[str]) -> str:
    """``text`` with spaces in place of what ``pattern`` matches; every place stays the same."""
    return pattern.sub(lambda match: _NOT_SPACE.sub(" ", match.group()), text)


def _find_blocks(text: str) -> tuple[list[tuple[int, int]], int | None]:
    blocks: list[tuple[int, int]] = []
    opened: tuple[str, int] | None = None
    for match in _FENCE.finditer(text):
        mark = match.group(1)
        if opened is None:
            opened = (mark, match.start())
        elif mark[0] == opened[0][0] and len(mark) >= len(opened[0]):
            end = text.find("\n", match.end())
            blocks.append((opened[1], len(text) if end < 0 else end))
            opened = None
    if opened is None:
        return blocks, None
    return [*blocks, (opened[1], len(text))], opened[1]
