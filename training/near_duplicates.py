"""Finds near-duplicates exactly: rows all of whose parts (prompt, answer) have nearly the same word shingles. Pure.

The measure is the Jaccard similarity of word shingles (Broder, "On the resemblance and containment of documents",
1997). The search is the prefix filter with the length filter of All-Pairs (Bayardo, Ma, Srikant, "Scaling Up All Pairs
Similarity Search", WWW 2007). Not MinHash: this misses no pair, needs no seed, and a test can hold it against the
comparison of all pairs.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from math import ceil

from deployments.validator.words import fold

SHINGLE_WORDS = 3


def shingle(text: str, part: str) -> frozenset[int]:
    """Return the 64-bit hashes of all runs of `SHINGLE_WORDS` words of ``text``; at least one.

    Case and punctuation do not count. A text of fewer words is one run; one without words, such as an emoji, is itself
    one. A character of a script that writes no spaces is a word.

    Args:
        part: Which part of the row it is: the same run in two parts gives two hashes.
    """
    words = fold(text)
    runs = {" ".join(words[at : at + SHINGLE_WORDS]) for at in range(max(1, len(words) - SHINGLE_WORDS + 1))}
    if not words:
        runs = {text.strip()}
    return frozenset(_hash64(f"{part}\0{run}") for run in runs)


def find_near_duplicates(rows: Sequence[Sequence[Collection[int]]], threshold: Fraction) -> dict[int, int]:
    """Return the place of each row that is a near-duplicate of an earlier kept one, with the place of that one.

    A row is compared with kept rows only, so a chain of small changes does not end as one row.

    Args:
        rows: The shingles of each part of each row, see `shingle`; every row has the same parts, none is empty.
        threshold: Jaccard similarity, in (0, 1], that every part must reach.
    """
    sets = [tuple(frozenset(part) for part in row) for row in rows]
    sizes = [sum(map(len, row)) for row in sets]
    # Rare shingles first, so that prefixes meet few others; the hash itself makes the order total.
    frequency = Counter(token for row in sets for part in row for token in part)
    holders: dict[int, list[int]] = {}
    repeats: dict[int, int] = {}
    for place, row in enumerate(sets):
        # Where each part reaches the threshold, the union of the parts does. Two sets that reach it share a token of
        # their prefixes: what lies behind these is too small for the overlap that is needed.
        tokens = sorted((token for part in row for token in part), key=lambda token: (frequency[token], token))
        prefix = tokens[: len(tokens) - ceil(threshold * len(tokens)) + 1]
        met = sorted({other for token in prefix for other in holders.get(token, ())})
        near = (
            other
            for other in met
            if min(sizes[place], sizes[other]) >= threshold * max(sizes[place], sizes[other])
            and _is_near(row, sets[other], threshold)
        )
        found = next(near, None)
        if found is None:
            for token in prefix:
                holders.setdefault(token, []).append(place)
        else:
            repeats[place] = found
    return repeats


def jaccard(one: Collection[int], other: Collection[int]) -> Fraction:
    """Return the size of the intersection over that of the union; 1 for two empty sets."""
    shared = len(set(one) & set(other))
    union = len(set(one)) + len(set(other)) - shared
    return Fraction(shared, union) if union else Fraction(1)


def _is_near(one: Iterable[frozenset[int]], other: Iterable[frozenset[int]], threshold: Fraction) -> bool:
    return all(jaccard(mine, theirs) >= threshold for mine, theirs in zip(one, other, strict=True))


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
