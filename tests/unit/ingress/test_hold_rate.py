"""How long places are held, told from what ended and from what has not."""

import random

import pytest

from deployments.ingress.hold_rate import MIN_RELEASES, HoldRate


def after_answers(hold_s: float, places: int, answers: int) -> tuple[HoldRate, float]:
    """All places are held all the time, and come back evenly; also the time."""
    rate, now = HoldRate(), 0.0
    for _ in range(answers):
        now += hold_s / places
        rate.advance(places, now)
        rate.released(1, places)
    return rate, now


@pytest.mark.parametrize("places", [1, 8, 512])
def test_the_mean_is_what_places_are_held_for(places: int) -> None:
    rate, _ = after_answers(3.0, places, 1000)
    assert rate.mean_s == pytest.approx(3.0, rel=0.01)


def test_nothing_is_told_of_the_first_few() -> None:
    assert after_answers(3.0, 4, MIN_RELEASES - 1)[0].mean_s is None
    assert after_answers(3.0, 4, MIN_RELEASES)[0].mean_s is not None


def test_it_follows_a_change_within_as_many_answers_as_there_are_places() -> None:
    rate, now = after_answers(1.0, 64, 500)
    for _ in range(3 * 64):
        now += 5.0 / 64
        rate.advance(64, now)
        rate.released(1, 64)
    assert rate.mean_s == pytest.approx(5.0, rel=0.06)


def test_an_engine_that_stops_answering_looks_slow_at_once() -> None:
    rate, now = after_answers(1.0, 64, 500)
    rate.advance(64, now + 10)
    assert rate.mean_s == pytest.approx(11.0, rel=0.02)


def test_nothing_is_forgotten_while_nobody_asks() -> None:
    rate, now = after_answers(1.0, 64, 500)
    rate.advance(0, now + 3600)
    assert rate.mean_s == pytest.approx(1.0, rel=0.01)


def test_answers_that_begin_and_end_together_are_no_change() -> None:
    rate, now = HoldRate(), 0.0
    for _ in range(10):
        now += 4.0
        rate.advance(32, now)
        rate.released(32, 32)
    assert rate.mean_s == pytest.approx(4.0)


def test_a_heavy_tail_does_not_carry_it_away() -> None:
    rng, rate, now = random.Random(1), HoldRate(), 0.0
    ends = sorted(rng.lognormvariate(-0.5, 1.0) for _ in range(64))
    told = []
    for _ in range(2000):
        passed = ends.pop(0)
        now = passed
        rate.advance(64, now)
        rate.released(1, 64)
        ends.append(now + rng.lognormvariate(-0.5, 1.0))
        ends.sort()
        told.append(rate.mean_s)
    known = [mean for mean in told[100:] if mean is not None]
    assert min(known) > 0.6
    assert max(known) < 1.8


def test_a_clock_that_goes_back_is_not_believed() -> None:
    rate, now = after_answers(1.0, 4, 100)
    before = rate.mean_s
    rate.advance(4, now - 50)
    assert rate.mean_s == before
