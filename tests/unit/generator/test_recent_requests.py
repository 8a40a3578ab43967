"""What a replica tells autoscaling."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from deployments.generator.autoscaling import TTFT_WINDOW_S, ReplicaReport
from deployments.generator.deployment import Generator
from deployments.generator.recent_requests import ARRIVAL_WINDOW_S, RecentRequests
from graph.contracts import EngineLoad, GenerationJob, Message, Sampling

IDLE = EngineLoad(0, 0)


def test_a_replica_that_did_nothing_reports_zeros() -> None:
    assert RecentRequests().report(5.0, IDLE) == ReplicaReport()


def test_the_engines_load_is_passed_on() -> None:
    report = RecentRequests().report(0.0, EngineLoad(3, 400, 2, 0.5))
    assert (report.engine_running, report.queued_tokens, report.engine_waiting, report.kv_usage) == (3, 400, 2, 0.5)


def test_times_and_rates_are_those_of_the_window() -> None:
    recent = RecentRequests()
    for second in range(20):
        recent.arrived(float(second))
        recent.answered(float(second), 0.1 * second)
    for second in range(15):
        recent.finished(float(second), 4.0, 30)
    report = recent.report(19.0, IDLE)
    assert report.arrivals_per_s == pytest.approx(1.0)
    assert report.ttft_mean_s == pytest.approx(0.95)
    assert report.ttft_p95_s == pytest.approx(1.8)
    assert report.service_s == 4.0
    assert report.finished_per_s == pytest.approx(15 / TTFT_WINDOW_S)
    assert report.tokens_per_s == pytest.approx(15 * 30 / TTFT_WINDOW_S)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    recent = RecentRequests()
    recent.arrived(0.0)
    recent.answered(1.0, 1.0)
    recent.finished(1.0, 3.0, 5)
    assert recent.report(ARRIVAL_WINDOW_S - 0.1, IDLE).arrivals_per_s > 0
    assert recent.report(ARRIVAL_WINDOW_S, IDLE).arrivals_per_s == 0
    assert recent.report(TTFT_WINDOW_S + 0.9, IDLE).ttft_p95_s == 1.0
    assert recent.report(TTFT_WINDOW_S + 1.0, IDLE) == ReplicaReport()


def test_the_rates_of_several_replicas_add_up_also_when_one_is_new() -> None:
    old, new = RecentRequests(), RecentRequests()
    for tenth in range(100):
        (new if tenth >= 80 and tenth % 2 else old).arrived(tenth / 10)
    rates = [recent.report(9.9, IDLE).arrivals_per_s for recent in (old, new)]
    assert sum(rates) == pytest.approx(10.0)


async def make_generator(data_dir: Path, **simulated: Any) -> Any:
    made: Any = Generator.func_or_class
    generator = made.__new__(made)
    await generator.__init__({"engine": {"kind": "simulated", "simulated": simulated}, "data_dir": str(data_dir)})
    return generator


async def test_the_generator_reports_numbers_whatever_became_of_its_engine(tmp_path: Path) -> None:
    generator = await make_generator(tmp_path, first_token_s=0, token_s=0)
    try:
        assert await generator.record_autoscaling_stats() == asdict(ReplicaReport())
        job = GenerationJob("g", 0, (Message("user", "Why?"),), Sampling(max_tokens=7, ignore_eos=True))
        await generator.generate(job, None)
        stats = await generator.record_autoscaling_stats()
        assert (stats["arrivals_per_s"], stats["tokens_per_s"]) == (1 / ARRIVAL_WINDOW_S, 7 / TTFT_WINDOW_S)
        generator._engine.load = raise_unavailable
        assert {type(value) for value in (await generator.record_autoscaling_stats()).values()} <= {int, float}
    finally:
        await generator.__del__()


def raise_unavailable() -> EngineLoad:
    from graph.errors import Unavailable

    raise Unavailable("The engine is not running.")
