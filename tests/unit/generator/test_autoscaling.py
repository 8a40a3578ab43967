"""How many replicas are ordered for what is seen; and the policy as Serve builds and calls it."""

import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ray.serve._private.common import RUNNING_REQUESTS_KEY, TimeStampedValue
from ray.serve.config import AutoscalingContext, AutoscalingPolicy

from deployments.generator.autoscaling import (
    CORRECTION_KEPT_S,
    CORRECTION_STEP,
    TTFT_WINDOW_S,
    Feedback,
    Forecast,
    Observation,
    ReplicaReport,
    ScalingSettings,
    ScalingState,
    TtftPolicy,
    decide,
    observe,
)
from tests.cluster import ROOT

SETTINGS = ScalingSettings(
    slots=10,
    setup_s=30,
    ttft_s=2,
    utilization=0.8,
    hysteresis=0.05,
    hold_s=100.0,
    step_down_s=20,
    smoothing_s=10,
    trend_s=20,
)
HOLD_S = 100.0
NAME = "deployments.generator.autoscaling:TtftPolicy"


class Replicas:
    """Replicas that share a load evenly, and a policy that is asked every two seconds. What it orders is ready
    ``setup_s`` later."""

    def __init__(self, settings: ScalingSettings = SETTINGS, replicas: int = 1) -> None:
        self.settings = settings
        self.now = 0.0
        self.state = ScalingState()
        self.ordered = replicas
        self.running = replicas
        self.ready_at: list[float] = []
        self.orders: list[int] = []

    def ask(
        self,
        here: float = 0,
        rate: float = 0,
        service_s: float = 4,
        ttft_s: float = 0.1,
        queued: float = 0,
        kv: float = 0,
    ) -> int:
        self.now += 2
        self.running += sum(at <= self.now for at in self.ready_at)
        self.ready_at = [at for at in self.ready_at if at > self.now]
        share = 1 / max(1, self.running)
        report = ReplicaReport(
            engine_running=here * share,
            kv_usage=kv,
            ttft_p95_s=ttft_s,
            service_s=service_s,
            arrivals_per_s=rate * share,
            finished_per_s=rate * share,
        )
        seen = Observation(self.now, self.running, self.ordered, (report,) * self.running, queued, total=here)
        decision, self.state = decide(self.settings, seen, self.state)
        self.ready_at += [self.now + self.settings.setup_s] * (decision.replicas - self.ordered)
        self.running = min(self.running, decision.replicas)
        if decision.replicas != self.ordered:
            self.orders.append(decision.replicas)
        self.ordered = decision.replicas
        return decision.replicas

    def ask_for(self, seconds: float, **load: float) -> int:
        for _ in range(int(seconds / 2)):
            self.ask(**load)
        return self.ordered


def test_arrivals_are_served_by_littles_law() -> None:
    # 6 a second hold 24 slots; at 0.8 of 10 slots a replica that is 3 replicas.
    assert Replicas(replicas=3).ask_for(600, rate=6, here=24) == 3
    assert Replicas(replicas=1).ask_for(600, rate=6, here=24) == 3


def test_each_request_that_is_here_gets_a_slot_at_once() -> None:
    # Eight of ten slots may be taken.
    assert Replicas().ask(here=55) == 7
    assert Replicas().ask(here=5, queued=50) == 7


def test_a_ramp_is_met_before_it_is_there() -> None:
    replicas = Replicas()
    replicas.ask_for(100, rate=1, here=4)
    ordered_at_rate = None
    for step in range(60):
        rate = 1 + step * 0.05
        if replicas.ask(rate=rate, here=4 * rate) > 1 and ordered_at_rate is None:
            ordered_at_rate = rate
    # One replica is full, by the utilization, at 2 a second; 30 s of this ramp before that are at 1.25.
    assert ordered_at_rate is not None
    assert 1.2 < ordered_at_rate < 1.7


def test_a_fall_of_the_rate_is_not_believed_before_it_is_there() -> None:
    replicas = Replicas(replicas=3)
    replicas.ask_for(100, rate=6, here=24)
    for step in range(20):
        rate = 6 - step * 0.1
        assert replicas.ask(rate=rate, here=4 * rate) == 3
    assert Forecast(rate=5, trend=-0.1).ahead(30) == 5


def test_what_still_starts_is_not_ordered_again() -> None:
    slow = SETTINGS.model_copy(update={"setup_s": 90.0})
    replicas = Replicas(slow)
    replicas.ask_for(88, here=40, rate=1, ttft_s=20)
    assert replicas.orders == [5]
    assert replicas.state.feedback.correction == 1


def test_a_late_first_token_orders_one_more_and_is_remembered() -> None:
    replicas = Replicas(replicas=2)
    load = {"rate": 3.0, "here": 12.0, "ttft_s": 5.0}
    replicas.ask_for(TTFT_WINDOW_S, **load)
    assert replicas.ordered == 2
    replicas.ask_for(4, **load)
    assert replicas.ordered == 3
    assert replicas.state.feedback.correction == pytest.approx(CORRECTION_STEP)
    # It comes, and what was late before it came is still reported: nothing is ordered for that.
    replicas.ask_for(30 + TTFT_WINDOW_S - 6, **load)
    assert replicas.orders == [3]
    replicas.ask_for(TTFT_WINDOW_S, **load)
    assert replicas.orders == [3, 4]


def test_the_correction_raises_every_need() -> None:
    replicas = Replicas(replicas=3)
    replicas.state = replace(replicas.state, feedback=Feedback(CORRECTION_STEP**2, 0.0, (3, 3)))
    assert replicas.ask(rate=6, here=24) == 4


def test_a_wait_at_the_callers_is_late_too() -> None:
    replicas = Replicas(replicas=2)
    replicas.ask_for(TTFT_WINDOW_S + 6, rate=1, here=4, queued=3, ttft_s=0.1)
    assert replicas.orders == [3]


def test_the_correction_goes_when_first_tokens_are_early() -> None:
    replicas = Replicas(replicas=3)
    replicas.state = replace(replicas.state, feedback=Feedback(CORRECTION_STEP**2, 0.0, (3, 3)))
    replicas.ask_for(CORRECTION_KEPT_S + 2, rate=4.5, here=18)
    assert replicas.state.feedback.correction == pytest.approx(CORRECTION_STEP)
    replicas.ask_for(CORRECTION_KEPT_S + 2, rate=4.5, here=18)
    assert replicas.state.feedback.correction == pytest.approx(1)


def test_a_full_cache_asks_for_replicas() -> None:
    replicas = Replicas(replicas=2)
    assert replicas.ask_for(10, rate=1, here=4, kv=0.85) == 2
    assert replicas.ask_for(10, rate=1, here=4, kv=0.95) == 3


def test_down_comes_after_the_window_and_in_steps() -> None:
    replicas = Replicas(replicas=8)
    replicas.ask_for(60, rate=16, here=64)
    assert replicas.orders == []
    calm = {"rate": 1.0, "here": 4.0}
    replicas.ask_for(HOLD_S - 2, **calm)
    assert replicas.orders == []
    replicas.ask_for(60, **calm)
    assert replicas.orders == [7, 6, 5]
    replicas.ask_for(200, **calm)
    assert replicas.orders == [7, 6, 5, 4, 3, 2, 1]


def test_a_large_fleet_goes_down_by_an_eighth() -> None:
    replicas = Replicas(replicas=64)
    replicas.ask_for(HOLD_S + 2, rate=1, here=4)
    assert replicas.orders[0] == 56


def test_a_replica_stays_that_the_others_could_hardly_spare() -> None:
    # Two replicas hold 4 a second by the utilization, and 3.8 by the hysteresis.
    assert Replicas(replicas=3).ask_for(600, rate=3.9, here=15) == 3
    assert Replicas(replicas=3).ask_for(600, rate=3.7, here=15) == 2


def test_a_need_is_kept_for_four_times_as_long_as_a_replica_takes_to_come() -> None:
    unsaid = SETTINGS.model_copy(update={"hold_s": None})
    replicas = Replicas(unsaid, replicas=3)
    assert replicas.ask_for(4 * unsaid.setup_s - 2, rate=1, here=4) == 3
    assert replicas.ask_for(4, rate=1, here=4) == 2


def test_a_peak_in_the_window_keeps_what_it_needed() -> None:
    replicas = Replicas(replicas=4)
    for _ in range(10):
        replicas.ask_for(HOLD_S - 10, rate=1, here=4)
        replicas.ask(rate=1, here=30)
    assert replicas.orders == []


def test_a_policy_that_was_just_built_keeps_what_is_ordered() -> None:
    replicas = Replicas(replicas=5)
    assert replicas.ask_for(HOLD_S - 4, rate=1, here=4) == 5
    assert replicas.ask_for(10, rate=1, here=4) == 4


def test_without_reports_the_callers_count_decides() -> None:
    seen = Observation(now=0, running=1, target=1, reports=(), queued=0, total=27)
    decision, state = decide(SETTINGS, seen, ScalingState())
    assert (decision.replicas, state.forecast) == (4, None)


def test_a_replica_without_a_report_counts_as_the_others() -> None:
    report = ReplicaReport(engine_running=8, service_s=4, arrivals_per_s=2, finished_per_s=2)
    seen = Observation(now=0, running=2, target=2, reports=(report,), queued=0, total=15)
    decision, state = decide(SETTINGS, seen, ScalingState())
    assert state.forecast == Forecast(4, 0, 4)
    assert decision.here == 15


def test_the_last_replica_stays_unless_told_otherwise() -> None:
    assert Replicas().ask_for(10_000) == 1
    zero = SETTINGS.model_copy(update={"zero_after_s": 300.0})
    replicas = Replicas(zero)
    replicas.ask_for(60, here=1)
    assert replicas.ask_for(298) == 1
    assert replicas.ask_for(4) == 0


def test_a_fleet_that_idles_goes_to_zero_by_way_of_one() -> None:
    zero = SETTINGS.model_copy(update={"zero_after_s": 10.0})
    replicas = Replicas(zero, replicas=3)
    replicas.ask_for(400)
    assert replicas.orders == [2, 1, 0]


NUMBERS = st.floats(min_value=0, max_value=1e6)


@given(
    loads=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.floats(0, 1)), min_size=1, max_size=20),
    replicas=st.integers(0, 20),
)
def test_whatever_is_reported_there_is_a_number_of_replicas_and_no_state_grows(
    loads: list[tuple[float, float, float, float, float]], replicas: int
) -> None:
    state = ScalingState()
    for step, (here, rate, service_s, ttft_s, kv) in enumerate(loads):
        report = ReplicaReport(
            engine_running=here,
            arrivals_per_s=rate,
            service_s=service_s,
            finished_per_s=rate,
            ttft_p95_s=ttft_s,
            kv_usage=kv,
        )
        seen = Observation(10.0 * step, replicas, replicas, (report,) * replicas, 0.0, here)
        decision, state = decide(SETTINGS, seen, state)
        assert decision.replicas >= 1
        assert decision.replicas >= here * replicas / SETTINGS.slots - 1
        assert len(state.needs) <= HOLD_S / 10 + 1
        assert str(decision)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0},
        {"slots": None},
        {"setup_s": 0},
        {"utilization": 1.1},
        {"kv_ceiling": 0},
        {"hysteresis": 1},
        {"hold_s": 0},
        {"zero_after_s": -1},
        {"slot": 10},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TtftPolicy(**{"slots": 10, "setup_s": 30, **wrong})


# The policy, as Serve sees it.


def context(now: float = 100.0, **changes: Any) -> AutoscalingContext:
    given: dict[str, Any] = {
        "deployment_id": None,
        "deployment_name": "Generator",
        "app_name": "rheostat",
        "current_num_replicas": 1,
        "target_num_replicas": 1,
        "running_replicas": ["a"],
        "total_num_requests": 0.0,
        "total_queued_requests": 0.0,
        "aggregated_metrics": None,
        "raw_metrics": series(now, ReplicaReport()),
        "capacity_adjusted_min_replicas": 1,
        "capacity_adjusted_max_replicas": 4,
        "policy_state": {},
        "last_scale_up_time": None,
        "last_scale_down_time": None,
        "current_time": now,
        "config": None,
    }
    return AutoscalingContext(**{**given, **changes})


def series(at: float, *reports: ReplicaReport) -> dict[str, dict[str, list[TimeStampedValue]]]:
    """As a replica's points are kept by the controller: an old one, then the newest."""
    old = TimeStampedValue(at - 8, 1e9)
    return {
        field.name: {
            f"replica-{number}": [old, TimeStampedValue(at, getattr(report, field.name))]
            for number, report in enumerate(reports)
        }
        for field in fields(ReplicaReport)
    }


def make_policy() -> TtftPolicy:
    return TtftPolicy(slots=10, setup_s=30)


def test_the_newest_point_of_each_replica_is_seen() -> None:
    one, two = ReplicaReport(engine_running=3, ttft_p95_s=0.5), ReplicaReport(engine_waiting=2, kv_usage=0.25)
    seen = observe(
        context(raw_metrics=series(99.0, one, two), current_num_replicas=2, total_queued_requests=7.0), stale_s=60
    )
    assert seen.reports == (one, two)
    assert (seen.running, seen.target, seen.queued) == (2, 1, 7.0)


def test_an_old_report_is_not_believed() -> None:
    stale = context(raw_metrics=series(39.0, ReplicaReport(engine_running=30)), total_num_requests=12.0)
    assert observe(stale, stale_s=60).reports == ()
    assert make_policy()(stale)[0] == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "many"])
def test_a_report_that_is_no_number_counts_as_not_given(value: Any) -> None:
    broken = series(99.0, ReplicaReport(engine_running=5))
    broken["engine_running"]["replica-0"].append(TimeStampedValue(99.5, value))
    assert make_policy()(context(raw_metrics=broken, total_num_requests=22.0))[0] == 3


@pytest.mark.parametrize("raw", [None, {}, {"something else": {"a": []}}, {"engine_running": {"a": []}}])
def test_without_reports_it_still_answers(raw: Any) -> None:
    assert make_policy()(context(raw_metrics=raw, total_num_requests=22.0))[0] == 3


def test_it_keeps_to_the_bounds() -> None:
    assert make_policy()(context(total_num_requests=1000.0, raw_metrics=None))[0] == 4
    assert make_policy()(context(capacity_adjusted_min_replicas=2))[0] == 2


def test_between_evaluations_what_is_ordered_stays() -> None:
    policy = make_policy()
    assert policy(context())[0] == 1
    assert policy(context(now=100.5, raw_metrics=series(100.5, ReplicaReport(engine_running=40))))[0] == 1
    assert policy(context(now=101.0, raw_metrics=series(101.0, ReplicaReport(engine_running=40))))[0] == 4


def test_no_number_of_a_report_is_taken_for_serves_own() -> None:
    assert RUNNING_REQUESTS_KEY not in asdict(ReplicaReport())


def test_the_controller_builds_it_without_rheostat_being_there(tmp_path: Path) -> None:
    policy = AutoscalingPolicy(policy_function=NAME, policy_kwargs={"slots": 10, "setup_s": 30})
    shipped = policy.get_serialized_policy_def()
    assert shipped is not None
    (tmp_path / "policy.bin").write_bytes(shipped)
    code = (
        "import sys, types\n"
        "sys.modules['deployments'] = sys.modules['graph'] = None\n"
        "from ray import cloudpickle\n"
        "policy = cloudpickle.loads(open('policy.bin', 'rb').read())(slots=10, setup_s=30)\n"
        "ctx = types.SimpleNamespace(current_time=5.0, raw_metrics=None, current_num_replicas=1, target_num_replicas=1,\n"
        "    total_queued_requests=0.0, total_num_requests=22.0, capacity_adjusted_min_replicas=1,\n"
        "    capacity_adjusted_max_replicas=9, deployment_name='Generator')\n"
        "print(policy(ctx)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.strip() == "3", done.stderr
    assert ROOT not in [Path(path) for path in sys.path if path == str(tmp_path)]


def test_ten_calls_a_second_for_a_day_leave_a_small_state() -> None:
    policy = make_policy()
    for second in range(1000):
        ctx = SimpleNamespace(
            current_time=float(second), raw_metrics=series(second, ReplicaReport(engine_running=1000 - second)),
            current_num_replicas=1, target_num_replicas=1, total_queued_requests=0.0, total_num_requests=0.0,
            capacity_adjusted_min_replicas=1, capacity_adjusted_max_replicas=9, deployment_name="Generator",
        )  # fmt: skip
        policy(ctx)
    assert len(policy._state.needs) <= 181
