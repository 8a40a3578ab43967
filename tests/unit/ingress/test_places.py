"""Who is admitted, who waits and who is refused: rule by rule, and in any order of events."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from deployments.ingress.places import STANDING_SHARE, Limits, Places, Ticket
from deployments.ingress.priority import PRIORITIES, Priority

LIMITS = Limits(places=2, waiting=4, max_wait_s=5.0)


class Door:
    """Places with a clock that is moved by hand."""

    def __init__(self, limits: Limits = LIMITS, *, hold_s: float | None = None) -> None:
        self.places = Places()
        self.limits = limits
        self.now = 0.0
        if hold_s is not None:
            self.learn(hold_s)

    def learn(self, hold_s: float) -> None:
        """So many answers as it takes to know how long one takes; nothing waits afterwards."""
        for _ in range(200):
            ticket = self.ask()
            self.now += hold_s
            self.done(ticket)
        self.now += self.limits.max_wait_s

    def ask(
        self, tenant: str = "a", priority: Priority = "standard", count: int = 1, within_s: float = 300.0
    ) -> Ticket:
        ticket = Ticket(tenant, priority, count, self.now, self.now + within_s)
        self.settled = self.places.offer(ticket, self.limits, self.now)
        return ticket

    def done(self, ticket: Ticket) -> list[Ticket]:
        assert ticket.outcome == "admitted"
        return self.places.release(ticket.count, self.limits, self.now)

    def leave(self, ticket: Ticket, outcome: Any = "client_gone") -> list[Ticket]:
        return self.places.leave(ticket, outcome, self.limits, self.now)


def test_who_finds_a_place_has_it_at_once() -> None:
    door = Door()
    assert [door.ask().outcome for _ in range(2)] == ["admitted"] * 2
    assert door.ask().outcome is None


def test_a_place_that_is_given_back_goes_to_who_waits_longest() -> None:
    door = Door()
    held, _, first, second = (door.ask() for _ in range(4))
    assert door.done(held) == [first]
    assert (first.outcome, second.outcome) == ("admitted", None)


def test_the_waiting_are_so_many_and_the_next_is_refused() -> None:
    door = Door()
    tickets = [door.ask() for _ in range(7)]
    assert [ticket.outcome for ticket in tickets] == ["admitted"] * 2 + [None] * 4 + ["queue_full"]
    assert door.places.waiting == 4


def test_with_no_room_to_wait_the_first_without_a_place_is_refused() -> None:
    door = Door(Limits(2, 0, 5.0), hold_s=1.0)
    assert [door.ask().outcome for _ in range(3)] == ["admitted"] * 2 + ["queue_full"]


def test_a_client_that_goes_away_leaves_the_queue_and_gives_nothing_away() -> None:
    door = Door()
    held, _, gone, next_one = (door.ask() for _ in range(4))
    assert door.leave(gone) == [gone]
    assert (gone.outcome, door.places.in_use, door.places.waiting) == ("client_gone", 2, 1)
    assert door.done(held) == [next_one]


def test_several_places_come_together_and_nobody_overtakes_for_ever() -> None:
    door = Door()
    held = [door.ask(), door.ask()]
    large, small = door.ask(count=2), door.ask()
    assert door.done(held[0]) == []  # a place is free, and kept for the head
    assert (large.outcome, small.outcome, door.places.in_use) == (None, None, 1)
    assert door.done(held[1]) == [large]
    assert door.done(large) == [small]


def test_when_the_head_goes_away_what_was_kept_for_it_is_given_out() -> None:
    door = Door()
    held = [door.ask(), door.ask()]
    large, small = door.ask(count=2), door.ask()
    door.done(held[0])
    assert door.leave(large) == [large, small]


def test_a_lowered_limit_refuses_who_can_never_fit_any_more() -> None:
    door = Door(Limits(4, 8, 5.0))
    held = door.ask(count=4)
    large, small = door.ask(count=3), door.ask()
    door.limits = replace(door.limits, places=2)
    assert door.done(held) == [large, small]
    assert (large.outcome, small.outcome) == ("displaced", "admitted")


def test_a_raised_limit_is_used_when_the_next_request_comes() -> None:
    door = Door()
    waiting = [door.ask() for _ in range(4)][2:]
    door.limits = replace(door.limits, places=5)
    assert door.ask().outcome == "admitted"
    assert [ticket.outcome for ticket in waiting] == ["admitted"] * 2
    assert door.settled[:2] == waiting


def test_a_wait_that_would_be_too_long_is_refused_at_once() -> None:
    # Two places held for 10 s: one becomes free every 5 s.
    door = Door(Limits(2, 100, 12.0), hold_s=10.0)
    outcomes = [door.ask().outcome for _ in range(6)]
    assert outcomes == ["admitted"] * 2 + [None] * 2 + ["would_be_late"] * 2


def test_so_is_one_that_leaves_too_little_time_for_the_answer() -> None:
    door = Door(Limits(2, 100, 12.0), hold_s=10.0)
    assert [door.ask(within_s=1.0).outcome for _ in range(2)] == ["admitted"] * 2  # it may be a short one
    assert door.ask(within_s=14.0).outcome == "would_be_late"
    assert door.ask(within_s=16.0).outcome is None


def test_while_nothing_is_known_of_the_answers_only_the_time_is_bounded() -> None:
    door = Door(Limits(2, 100, 5.0))
    waiting = [door.ask(within_s=3.0) for _ in range(50)][2:]
    assert {ticket.outcome for ticket in waiting} == {None}
    assert {ticket.leave_by for ticket in waiting} == {3.0}


def test_the_time_to_leave_is_told() -> None:
    door = Door(Limits(2, 100, 12.0), hold_s=10.0)
    begin = door.now
    early, late = [door.ask(within_s=within_s) for within_s in (300.0, 300.0, 300.0, 20.5)][2:]
    assert early.leave_by == pytest.approx(begin + 12.0)
    assert late.leave_by == pytest.approx(begin + 10.5, abs=0.1)


def test_who_waited_too_long_gets_no_place_even_when_one_becomes_free_just_then() -> None:
    door = Door()
    held, _, late, in_time = (door.ask(within_s=within_s) for within_s in (300.0, 300.0, 2.0, 300.0))
    door.now += 3.0
    assert door.done(held) == [late, in_time]
    assert (late.outcome, in_time.outcome) == ("waited_too_long", "admitted")


def test_a_queue_that_does_not_empty_allows_short_waits_only() -> None:
    door = Door(Limits(100, 10_000, 5.0), hold_s=1.0)

    def fill() -> int:
        """How many wait when the next one is refused."""
        for _ in range(2000):
            if door.ask().outcome == "would_be_late":
                return door.places.waiting
        raise AssertionError("nobody is refused")

    def pass_s(seconds: float, *, asking: int) -> None:
        """Every 10 ms a place becomes free, and so many come."""
        for _ in range(round(seconds * 100)):
            door.now += 0.01
            door.places.release(1, door.limits, door.now)
            for _ in range(asking):
                door.ask()

    assert fill() == pytest.approx(500, abs=10)  # a burst may cause waits of 5 s
    pass_s(2.0, asking=10)
    assert door.places.waiting == pytest.approx(300, abs=10)
    pass_s(3.0, asking=10)
    assert STANDING_SHARE == 0.05
    for _ in range(3):
        assert door.places.waiting == pytest.approx(25, abs=3)
        pass_s(3.0, asking=10)
    pass_s(0.3, asking=0)
    while door.places.in_use < 100:
        door.ask()
    pass_s(2.0, asking=1)
    # Nobody waited for 2 s: a burst may cause waits of 2 s again.
    assert fill() == pytest.approx(200, abs=10)


def test_a_higher_class_goes_first_and_its_queue_is_its_own() -> None:
    door = Door()
    held = [door.ask(), door.ask()]
    batch, standard = door.ask(priority="batch"), door.ask()
    interactive = door.ask(priority="interactive")
    assert door.done(held[0]) == [interactive]
    assert door.done(held[1]) == [standard]
    assert door.done(interactive) == [batch]


def test_a_higher_class_at_a_full_queue_displaces_the_newest_of_the_lowest() -> None:
    door = Door()
    for _ in range(2):
        door.ask()
    waiting = [door.ask(priority=priority) for priority in ("batch", "batch", "standard", "standard")]
    assert door.ask(priority="batch").outcome == "queue_full"
    for displaced in (waiting[1], waiting[0], waiting[3], waiting[2]):
        newcomer = door.ask(priority="interactive")
        assert door.settled == [displaced]
        assert (displaced.outcome, newcomer.outcome) == ("displaced", None)
    assert door.ask(priority="interactive").outcome == "queue_full"


def test_who_waits_beyond_its_share_makes_way_at_a_full_queue_within_a_class_too() -> None:
    door = Door()
    for _ in range(2):
        door.ask("flood")
    waiting = [door.ask("flood") for _ in range(4)]
    newcomers = [door.ask("quiet") for _ in range(3)]
    assert [ticket.outcome for ticket in newcomers] == [None, None, "queue_full"]
    assert [ticket.outcome for ticket in waiting] == [None, None, "displaced", "displaced"]


def test_nobody_makes_way_for_one_that_does_not_fit_even_so() -> None:
    door = Door(Limits(3, 4, 5.0))
    door.ask(count=3)
    waiting = [door.ask(count=2, priority="interactive"), door.ask(count=2, priority="batch")]
    assert door.ask(count=3).outcome == "queue_full"
    assert [ticket.outcome for ticket in waiting] == [None, None]


def test_a_refusal_tells_when_there_should_be_room() -> None:
    door = Door(Limits(2, 100, 12.0), hold_s=10.0)
    for _ in range(4):
        door.ask()
    assert door.ask().room_in_s == pytest.approx(15.0, rel=0.05)
    assert door.ask(priority="interactive", within_s=11.0).room_in_s == pytest.approx(5.0, rel=0.05)
    unknown = Door(Limits(1, 0, 5.0))
    unknown.ask()
    assert unknown.ask().room_in_s is None


class AnyOrder(RuleBasedStateMachine):
    """Requests that come, end, go away and run out of time, in any order, while the limits change."""

    def __init__(self) -> None:
        super().__init__()
        self.door = Door(Limits(4, 6, 5.0))
        self.all: list[Ticket] = []
        self.holding: list[Ticket] = []
        self.waiting: list[Ticket] = []
        self.most_places = 4
        """The highest limit since all places were within it."""

    def take(self, settled: list[Ticket]) -> None:
        for ticket in settled:
            assert ticket.outcome is not None
            assert ticket.decided_at == self.door.now
            if ticket in self.waiting:
                self.waiting.remove(ticket)
            if ticket.outcome == "admitted":
                assert self.door.now <= ticket.leave_by
                self.holding.append(ticket)
        assert len(settled) == len(set(settled))

    @rule(
        tenant=st.sampled_from("abc"),
        priority=st.sampled_from(PRIORITIES),
        count=st.integers(1, 4),
        within_s=st.sampled_from([0.5, 4.0, 300.0]),
    )
    def one_comes(self, tenant: str, priority: Priority, count: int, within_s: float) -> None:
        if count > self.door.limits.places:
            return
        ticket = self.door.ask(tenant, priority, count, within_s)
        self.all.append(ticket)
        assert (ticket in self.door.settled) == (ticket.outcome is not None)
        if ticket.outcome is None:
            self.waiting.append(ticket)
        elif ticket.outcome != "admitted":
            # Who is refused itself makes nobody else go, but for those who do not fit into a lowered limit.
            displaced = [other for other in self.door.settled if other.outcome == "displaced"]
            assert all(other.count > self.door.limits.places for other in displaced)
        self.take(self.door.settled)

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def one_ends(self, data: Any) -> None:
        ticket = data.draw(st.sampled_from(self.holding))
        self.holding.remove(ticket)
        self.take(self.door.done(ticket))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), outcome=st.sampled_from(["client_gone", "waited_too_long"]))
    def one_leaves(self, data: Any, outcome: str) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.take(self.door.leave(ticket, outcome))
        assert ticket.outcome == outcome

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.door.now += seconds

    @rule(places=st.integers(1, 6), waiting=st.integers(0, 8), max_wait_s=st.sampled_from([0.5, 5.0]))
    def limits_change(self, places: int, waiting: int, max_wait_s: float) -> None:
        self.door.limits = Limits(places, waiting, max_wait_s)

    @invariant()
    def places_are_conserved(self) -> None:
        places = self.door.places
        assert places.in_use == sum(ticket.count for ticket in self.holding)
        assert places.waiting == sum(ticket.count for ticket in self.waiting)
        # A limit that was lowered takes no place away: until enough came back, none is given.
        self.most_places = max(self.door.limits.places, min(self.most_places, places.in_use))
        assert places.in_use <= self.most_places

    @invariant()
    def each_is_in_one_state(self) -> None:
        assert all(ticket.outcome is None for ticket in self.waiting)
        undecided = [ticket for ticket in self.all if ticket.outcome is None]
        assert set(undecided) == set(self.waiting)

    def teardown(self) -> None:
        """Everything ends: all that waits is admitted or told why not, and nothing is left."""
        for _ in range(1000):
            if self.holding:
                self.take(self.door.done(self.holding.pop()))
            elif self.waiting:
                self.take(self.door.leave(self.waiting[0], "waited_too_long"))
        assert (self.door.places.in_use, self.door.places.waiting) == (0, 0)
        assert all(ticket.outcome is not None and math.isfinite(ticket.decided_at) for ticket in self.all)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
