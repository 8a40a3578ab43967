"""The cache of indexes: bounded by their size."""

import pytest

from deployments.validator.sized_cache import SizedCache


def test_a_value_is_made_once() -> None:
    cache: SizedCache[list[int]] = SizedCache(10, len)
    made = [cache.get("a", lambda: [1, 2, 3]) for _ in range(3)]
    assert all(value is made[0] for value in made)
    assert cache.size == 3


def test_the_total_size_stays_below_the_limit() -> None:
    cache: SizedCache[list[int]] = SizedCache(10, len)
    for number in range(50):
        cache.get(number, lambda: [0, 0, 0])
        assert cache.size <= 10


def test_the_least_recently_used_value_goes_first() -> None:
    cache: SizedCache[list[int]] = SizedCache(10, len)
    first, second = cache.get("first", lambda: [0] * 4), cache.get("second", lambda: [0] * 4)
    cache.get("first", list)
    cache.get("third", lambda: [0] * 4)
    assert cache.get("first", list) is first
    assert cache.get("second", list) is not second


def test_a_value_beyond_the_limit_is_kept_until_the_next_one_comes() -> None:
    cache: SizedCache[list[int]] = SizedCache(10, len)
    large = cache.get("large", lambda: [0] * 100)
    assert cache.get("large", list) is large
    cache.get("small", lambda: [0])
    assert cache.size == 1


def test_a_value_that_could_not_be_made_leaves_nothing() -> None:
    cache: SizedCache[list[int]] = SizedCache(10, len)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: [1 // 0])
    assert cache.size == 0
    assert cache.get("a", lambda: [1]) == [1]


def test_a_value_that_two_made_at_once_counts_once() -> None:
    cache: SizedCache[list[int]] = SizedCache(10, len)
    cache.get("a", lambda: cache.get("a", lambda: [1, 2]))
    assert cache.size == 2
