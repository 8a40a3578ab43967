"""How long deltas wait for each other, by how busy the process is."""

import pytest

from deployments.ingress.coalescing import FULL_HOLD_AT, LONGEST_HOLD_S, MEASURED_EVERY_S, Coalescing


class Clocks:
    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def pass_by(self, seconds: float, busy: float) -> None:
        self.wall += seconds
        self.cpu += seconds * busy


def hold_at(busy: float) -> float:
    clocks = Clocks()
    coalescing = Coalescing(lambda: clocks.wall, lambda: clocks.cpu)
    clocks.pass_by(MEASURED_EVERY_S, busy)
    return coalescing.hold_s()


@pytest.mark.parametrize("busy", [0.0, 0.3, 0.6])
def test_nothing_waits_while_there_is_time_to_spare(busy: float) -> None:
    assert hold_at(busy) == pytest.approx(0.0, abs=1e-9)


def test_the_wait_grows_with_the_load_up_to_its_bound() -> None:
    holds = [hold_at(busy) for busy in (0.65, 0.7, 0.8, FULL_HOLD_AT, 1.0, 1.7)]
    assert holds == sorted(holds)
    assert 0 < holds[0] < holds[2] < LONGEST_HOLD_S
    assert holds[3:] == pytest.approx([LONGEST_HOLD_S] * 3)


def test_the_load_is_that_of_the_last_moments() -> None:
    clocks = Clocks()
    coalescing = Coalescing(lambda: clocks.wall, lambda: clocks.cpu)
    clocks.pass_by(10, 1.0)
    assert coalescing.hold_s() == LONGEST_HOLD_S
    clocks.pass_by(MEASURED_EVERY_S / 2, 0.0)
    assert coalescing.hold_s() == LONGEST_HOLD_S, "too short a time to measure"
    clocks.pass_by(MEASURED_EVERY_S, 0.1)
    assert coalescing.hold_s() == 0.0
