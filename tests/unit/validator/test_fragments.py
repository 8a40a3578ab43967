"""Tells beginnings of English words from whole ones."""

import pytest

from deployments.validator.fragments import is_fragment


@pytest.mark.parametrize("piece", ["whi", "tempera", "mounta", "beca", "thro", "compl", "peo"])
def test_the_beginning_of_a_frequent_word_is_a_fragment(piece: str) -> None:
    assert is_fragment(piece)


@pytest.mark.parametrize("word", ["map", "house", "in", "so", "garden", "rain", "often", "eight"])
def test_a_frequent_word_is_none_though_longer_ones_begin_with_it(word: str) -> None:
    assert not is_fragment(word)


@pytest.mark.parametrize("noun", ["mat", "bee", "gene", "bot"])
def test_a_noun_that_longer_words_outnumber_is_whole_by_its_plural(noun: str) -> None:
    assert not is_fragment(noun)


@pytest.mark.parametrize("piece", ["qzxwv", "zzzzzzz"])
def test_what_begins_no_word_is_no_fragment(piece: str) -> None:
    assert not is_fragment(piece)
