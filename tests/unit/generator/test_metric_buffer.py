"""The buffer of metrics: everything reaches the metric, but together and later."""

from collections.abc import Callable

from deployments.generator.metric_buffer import MetricBuffer


class Timer:
    """Remembers what is due, and runs it when told."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        self.due.append((seconds, run))

    def pass_time(self) -> None:
        due, self.due = self.due, []
        for _, run in due:
            run()


def test_a_gauge_gets_its_last_value_and_a_counter_its_sum() -> None:
    timer, told = Timer(), []
    buffer = MetricBuffer(timer.later)
    for value in (1.0, 2.0, 3.0):
        buffer.set("running", lambda v: told.append(("set", v)), value)
        buffer.add("tokens", lambda v: told.append(("add", v)), value)
    assert told == []
    timer.pass_time()
    assert told == [("set", 3.0), ("add", 6.0)]


def test_one_timer_runs_from_the_first_value_on_and_none_while_nothing_is_kept() -> None:
    timer, told = Timer(), []
    buffer = MetricBuffer(timer.later, every_s=0.5)
    assert timer.due == []
    buffer.add("a", told.append, 1)
    buffer.set("b", told.append, 2)
    assert [seconds for seconds, _ in timer.due] == [0.5]
    timer.pass_time()
    assert (told, timer.due) == ([2, 1], [])
    buffer.add("a", told.append, 5)
    timer.pass_time()
    assert told == [2, 1, 5], "what was passed on is not passed on again"


def test_values_of_two_keys_are_kept_apart() -> None:
    timer, told = Timer(), []
    buffer = MetricBuffer(timer.later)
    buffer.add(("tokens", "cached"), lambda v: told.append(("cached", v)), 2)
    buffer.add(("tokens", "computed"), lambda v: told.append(("computed", v)), 3)
    buffer.flush()
    assert told == [("cached", 2), ("computed", 3)]
