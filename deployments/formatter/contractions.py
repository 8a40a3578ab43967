"""Writes the contractions of an English answer out. Pure; called for every answer whose formality asks for it."""

from deployments.formatter.contraction_stream import ContractionStream

__all__ = ["expand"]


def expand(text: str) -> str:
    """``text`` with ``do not`` for ``don't``, ``going to`` for ``gonna`` and so on, straight or curly apostrophes,
    in the case of the original.

    Left alone: possessives, words that are not surely a contraction, fenced and inline code, JSON, links. A question
    turns round: ``Isn't it`` becomes ``Is it not``. Applying it twice changes nothing more. Linear in the text.
    """
    stream = ContractionStream()
    return stream.feed(text) + stream.flush()
