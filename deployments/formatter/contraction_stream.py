"""Writes contractions out in text that arrives in pieces: ``do not`` for ``don't``. Used for whole answers too, so
that both give the same characters.

Rules of English are in ``contraction_rules.py``; what is left alone (code, JSON, links), in ``verbatim.py``.
"""

from deployments.formatter.contraction_rules import JOINERS, LEFT_CONTEXT, LOOK_AHEAD, TOKEN, find_open, write_out
from deployments.formatter.verbatim import VerbatimTracker


class ContractionStream:
    """Feed it text in any pieces; the joined output depends on the joined input only.

    Held back is a word that a contraction may begin with, until it is whole, and a contraction whose meaning hangs
    on the words that follow, until they are; of other text and of code, nothing. Writing out what was written out
    changes nothing more.
    """

    def __init__(self) -> None:
        self._text = ""  # what was passed last, as left context, and what is held back
        self._at = 0  # where in it the latter begins
        self._verbatim = VerbatimTracker()

    @property
    def pending(self) -> int:
        """Characters held back until more input decides them: at most ``MAX_TOKEN + LOOK_AHEAD``."""
        return len(self._text) - self._at

    def feed(self, text: str) -> str:
        """Takes the next piece and returns all text that is now certain; may be empty."""
        self._text += text
        return self._advance(is_final=False)

    def flush(self) -> str:
        """Returns the rest. Call it once, when the text is whole; the stream is used up then."""
        return self._advance(is_final=True)

    def _advance(self, is_final: bool) -> str:
        text, at = self._text, self._at
        sure_until = len(text) if is_final else find_open(text, at)
        done: list[str] = []
        while True:
            prose = self._verbatim.pass_verbatim(text, at)
            done.append(text[at:prose])
            end = self._verbatim.prose_end(text, prose)
            at = self._write_prose(text, prose, max(prose, min(end, sure_until)), is_final, done)
            if at < end or end == len(text):
                break
        kept = max(0, at - LEFT_CONTEXT)
        self._text, self._at = text[kept:], at - kept
        return "".join(done)

    def _write_prose(self, text: str, at: int, end: int, is_final: bool, done: list[str]) -> int:
        """Adds to ``done`` what the prose from ``at`` to ``end`` becomes; returns where it stopped: at ``end``, or at
        a contraction that needs more text."""
        while (token := TOKEN.search(text, at, end)) is not None:
            written = _write(text, *token.span(), is_final)
            if written is None:
                end = token.start()
                break
            stop = token.end() + written[1]
            done += [text[at : token.start()], written[0]]
            self._verbatim.pass_prose(text, at, stop)
            at = stop
        done.append(text[at:end])
        self._verbatim.pass_prose(text, at, end)
        return end


def _write(text: str, start: int, end: int, is_final: bool) -> tuple[str, int] | None:
    """As ``write_out``, of the word ``text[start:end]``."""
    if not is_final and len(text) - end < 2 and text[end:] in ("", *JOINERS):
        return None  # the word may go on
    right = text[end : end + LOOK_AHEAD]
    left = text[max(0, start - LEFT_CONTEXT) : start]
    return write_out(text[start:end], left, right, is_final or len(right) == LOOK_AHEAD)
