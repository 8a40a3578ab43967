"""What becomes of requests when more come than there are places for; in virtual time, so that it is exact."""

from functools import cache

import pytest
from overload_simulation import Call, Simulation

from benchmarks.record import quantile
from deployments.ingress.places import Limits

LIMITS = Limits(places=40, waiting=256, max_wait_s=5.0)
BEGIN, END = 5.0, 25.0
"""Of the overload."""
SEEDS = (1, 2, 3)
CALM = 0.7
"""Times the capacity: what comes before and after."""


@cache
def overloaded(load: float, seed: int = 1) -> Simulation:
    simulation = Simulation(LIMITS, seed=seed)
    simulation.arrive(CALM, 0, BEGIN)
    simulation.arrive(load, BEGIN, END)
    simulation.arrive(CALM, END, END + 15)
    return simulation.run()


@cache
def peak() -> float:
    """What closed-loop clients get out of the places, one for each."""
    simulation = Simulation(LIMITS)
    simulation.keep_asking(LIMITS.places, END)
    return simulation.run().useful_share(BEGIN, END)


def answered(calls: list[Call]) -> float:
    """The share of the calls that got an answer in time."""
    return sum(call.is_answered for call in calls) / len(calls)


@pytest.mark.parametrize("seed", SEEDS)
def test_at_capacity_nearly_everybody_is_answered(seed: int) -> None:
    during = [call for call in overloaded(1, seed).calls if BEGIN <= call.first_sent < END]
    assert answered(during) >= 0.95


@pytest.mark.parametrize("load", [2, 5, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_goodput_stays_flat_however_many_come(load: float, seed: int) -> None:
    simulation = overloaded(load, seed)
    assert simulation.useful_share(BEGIN, END) >= 0.95 * peak()
    assert simulation.most_in_use == LIMITS.places


@pytest.mark.parametrize("load", [2, 5, 10])
def test_who_is_let_in_gets_an_answer_in_time_and_soon(load: float) -> None:
    simulation = overloaded(load)
    let_in = [call for call in simulation.calls if call.was_admitted and BEGIN <= call.admitted < END]
    assert answered(let_in) >= 0.99
    assert max(call.wait_s for call in let_in) <= LIMITS.max_wait_s
    # Once it is no burst any more nobody waits for long: waiting brings no answer more.
    settled = [call.wait_s for call in let_in if call.admitted >= BEGIN + 2 * LIMITS.max_wait_s]
    assert quantile(settled, 0.99) <= 1.0


@pytest.mark.parametrize("load", [2, 5, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_five_seconds_after_the_end_it_is_as_before(load: float, seed: int) -> None:
    simulation = overloaded(load, seed)
    later = [call for call in simulation.calls if call.first_sent >= END + 5]
    assert answered(later) >= 0.99
    waits = [call.admitted - call.first_sent for call in later if call.was_admitted]
    assert quantile(waits, 0.5) <= 0.05
    assert quantile(waits, 0.95) <= 0.5


def test_nothing_is_left_behind() -> None:
    simulation = overloaded(10)
    assert (simulation.places.in_use, simulation.places.waiting) == (0, 0)
    assert all(not queue._lines for queue in simulation.places._queues.values())


def test_a_burst_is_taken_in_whole() -> None:
    # Four seconds' worth of answers at once, where nothing was going on; nobody is refused.
    simulation = Simulation(LIMITS)
    simulation.arrive(CALM, 0, 10)
    simulation.arrive(40, 10, 10.1)
    burst = [call for call in simulation.run().calls if call.first_sent >= 10]
    assert len(burst) > 3.5 * simulation.capacity
    assert all(call.outcomes == ["admitted"] for call in burst)
    assert answered(burst) >= 0.98


def test_a_flood_of_one_tenant_does_not_touch_another() -> None:
    simulation = Simulation(LIMITS)
    simulation.arrive(10, 0, END, "flood")
    simulation.arrive(0.2, 0, END, "quiet")
    quiet = [call for call in simulation.run().calls if call.tenant == "quiet" and call.first_sent >= BEGIN]
    assert answered(quiet) >= 0.99
    assert quantile([call.admitted - call.first_sent for call in quiet], 0.99) <= 0.5
    assert simulation.useful_share(BEGIN, END, "flood") >= 0.7


def test_two_floods_share_the_places_equally_whatever_their_size() -> None:
    simulation = Simulation(LIMITS)
    simulation.arrive(9, 0, END, "big")
    simulation.arrive(2, 0, END, "small")
    simulation.run()
    assert simulation.useful_share(BEGIN, END, "small") == pytest.approx(0.5, abs=0.06)
    assert simulation.useful_share(BEGIN, END, "big") == pytest.approx(0.5, abs=0.06)


def test_a_tenant_with_few_places_to_share_gets_its_share_too() -> None:
    # So few places that only a handful may wait: there is somebody of each tenant among them.
    simulation = Simulation(Limits(places=8, waiting=256, max_wait_s=5.0))
    simulation.arrive(10, 0, 60, "flood")
    simulation.arrive(0.25, 0, 60, "quiet")
    quiet = [call for call in simulation.run().calls if call.tenant == "quiet" and call.first_sent >= BEGIN]
    assert answered(quiet) >= 0.98


def test_a_request_for_many_places_is_let_in_as_often_as_one_for_a_single_one() -> None:
    simulation = Simulation(LIMITS)
    simulation.arrive(4, 0, 40)
    simulation.arrive(2, 0, 40, count=8)
    simulation.run()
    shares = [
        answered([call for call in simulation.calls if call.count == count and call.first_sent >= BEGIN])
        for count in (1, 8)
    ]
    assert shares[1] == pytest.approx(shares[0], rel=0.35)
    assert shares[1] > 0.1


def test_the_first_class_is_served_as_if_it_were_alone() -> None:
    simulation = Simulation(LIMITS)
    simulation.arrive(0.5, 0, END, "person", "interactive")
    simulation.arrive(2, 0, END, "program")
    simulation.arrive(3, 0, END, "night", "batch")
    calls = simulation.run().calls
    first = [call for call in calls if call.tenant == "person" and call.first_sent >= BEGIN]
    assert answered(first) >= 0.99
    assert quantile([call.admitted - call.first_sent for call in first], 0.99) <= 0.3
    # What it leaves goes to the next class, and nothing to the last.
    assert simulation.useful_share(BEGIN, END, "program") >= 0.4
    assert simulation.useful_share(BEGIN, END, "night") <= 0.02


def test_the_last_class_gets_what_the_others_leave() -> None:
    simulation = Simulation(LIMITS)
    simulation.arrive(0.6, 0, END, "program")
    simulation.arrive(5, 0, END, "night", "batch")
    simulation.run()
    assert simulation.useful_share(BEGIN, END, "night") >= 0.3
    assert simulation.useful_share(BEGIN, END) >= 0.93


def test_slow_answers_are_not_queued_for_as_if_they_were_quick() -> None:
    # 64 places held for 20 s each: 3 become free in a second, so that 16 may wait at most, and soon fewer.
    simulation = Simulation(Limits(places=64, waiting=256, max_wait_s=5.0), mean_s=20, deadline_s=150)
    simulation.arrive(CALM, 0, 60)
    simulation.arrive(5, 60, 200)
    waits = [call for call in simulation.run().calls if call.first_sent >= 60]
    late = [outcome for call in waits for outcome in call.outcomes if outcome == "waited_too_long"]
    admitted = sum(call.was_admitted for call in waits)
    assert len(late) <= 0.15 * admitted
    assert simulation.useful_share(80, 200) >= 0.93
