"""Where a half-written answer stands: at the end of a sentence, inside code, how long its sentence is. Pure.

``TextState`` is fed token by token, from the V1 runner's host-side lists. ``shaping.read_states`` reads whole rows at
once, from the V2 runner's device tensors; a property test holds the two equal.
"""

from dataclasses import dataclass

from deployments.controls.logits.tokens import COLON, DOT, FENCE, LABEL, LINE, MARK, PRONOUN, SPACE

LONGEST_SENTENCE = 64
"""Tokens; ``since_stop`` stops counting there, since no lever tells longer ones apart."""


@dataclass(slots=True)
class TextState:
    """After the tokens fed so far; a fresh one is the empty answer."""

    position: int = 0
    """Tokens of the answer."""
    ended: bool = False
    """The last thing written, but for white space and closing marks, ends a sentence or a code block."""
    fresh_line: bool = False
    """A line has just begun, and the one before did not end with a colon."""
    in_code: bool = False
    after_pronoun: bool = False
    after_word: bool = False
    """The last token ends with something that an apostrophe may follow inside a word."""
    words: int = 0
    """Words of four letters and more, which have a rarity."""
    rarity: float = 0.0
    """Sum of their rarities, Zipf units."""
    since_stop: int = 0
    """Tokens since the last sentence or line ended, white space left out."""
    _labelled: bool = False
    _opened: bool = False

    def feed(self, kind: int, rarity: float = 0.0) -> None:
        """Go on by one token of this class and rarity."""
        self.position += 1
        self.words += rarity != 0
        self.rarity += rarity
        blank = kind in (SPACE, LINE)
        if kind == FENCE:
            self.in_code = not self.in_code
        if not blank:
            self.ended = not self.in_code and (kind in (MARK, FENCE) or (kind == DOT and not self._labelled))
            self._opened = kind == COLON
            self._labelled = kind == LABEL
        elif kind == LINE:
            self._labelled = False
        self.fresh_line = kind == LINE and not self._opened and not self.in_code
        self.after_pronoun = kind == PRONOUN
        self.after_word = not blank and kind not in (MARK, DOT, FENCE, COLON)
        if kind == LINE or (self.ended and not blank):
            self.since_stop = 0
        elif not blank:
            self.since_stop = min(self.since_stop + 1, LONGEST_SENTENCE)
