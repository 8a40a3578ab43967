"""Tells the beginning of an English word from a whole one, by how often people write it.

"whi" is seldom written and "which" often; "map" is written far more often than "maple". The counts are wordfreq's.
"""

from array import array
from bisect import bisect_left, bisect_right
from functools import cache
from itertools import accumulate
from typing import NamedTuple

__all__ = ["is_common", "is_fragment", "load_counts"]

_LANGUAGE = "en"
_SHORT = 3
"""Characters. Short words begin so many longer ones that they need stronger evidence."""
_RATIO, _STRONG_RATIO = 20.0, 50.0
"""How many times as often as the piece itself the words that begin with it must be written. Of the last words of good
list items under 2% are above, of words cut at random three in four (development half of the validation corpus)."""
_COMMON, _PLURAL_RATIO = 3e-6, 4.0
"""A word that is not rare needs the stronger evidence ("rang", "mist"), and one whose plural is written about as often
is a noun and whole: "mat", "bee"."""


_EVERYDAY = 5e-5
"""Rarer are names, but for a few, and titles."""


class _Counts(NamedTuple):
    words: list[str]
    """Sorted."""
    sums: "array[float]"
    """``sums[i]``: the frequencies of ``words[:i]``, added up."""


@cache
def load_counts() -> _Counts:
    """The words of English with their frequencies, loaded once (under a second)."""
    # The ingress imports the checks too and runs only the hard ones.
    from wordfreq import get_frequency_dict

    frequencies = get_frequency_dict(_LANGUAGE)
    words = sorted(frequencies)
    return _Counts(words, array("d", accumulate((frequencies[word] for word in words), initial=0.0)))


def is_common(word: str) -> bool:
    """Whether ``word``, in lower case, is one of the few thousand that make up most of English."""
    words, sums = load_counts()
    at = bisect_left(words, word)
    return words[at : at + 1] == [word] and sums[at + 1] - sums[at] >= _EVERYDAY


def is_fragment(piece: str) -> bool:
    """Whether ``piece``, in lower case, is hardly a word itself, but the beginning of much more frequent ones."""
    words, sums = load_counts()
    start = bisect_left(words, piece)
    after = bisect_right(words, piece)
    end = bisect_left(words, piece + "\U0010ffff", after)
    own, longer = sums[after] - sums[start], sums[end] - sums[after]
    if longer <= own * (_STRONG_RATIO if len(piece) <= _SHORT or own >= _COMMON else _RATIO):
        return False
    if own < _COMMON:
        return True
    at = bisect_left(words, f"{piece}s", after)
    plural = sums[at + 1] - sums[at] if words[at : at + 1] == [f"{piece}s"] else 0.0
    return not own / _PLURAL_RATIO <= plural <= own * _PLURAL_RATIO
