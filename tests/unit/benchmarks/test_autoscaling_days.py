"""The simulation by which scaling policies are compared: its replicas, its router, and how old what a policy sees is."""

import asyncio
import heapq
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.serve._private.common import TimeStampedValue
from ray.serve._private.metrics_utils import aggregate_timeseries, merge_instantaneous_total
from ray.serve.config import AggregationFunction, AutoscalingConfig

from benchmarks.autoscaling import __main__ as command
from benchmarks.autoscaling import live
from benchmarks.autoscaling.candidates import ours, serves_default
from benchmarks.autoscaling.controller import CallerReport, Controller, virtual_time
from benchmarks.autoscaling.day import BINS, FULL_DAY, Course, DayFigures, run_day
from benchmarks.autoscaling.fleet import EngineModel, Fleet
from benchmarks.autoscaling.search import BestTarget, kept_on
from benchmarks.autoscaling.traffic import DAY_S, DayShape, Request, day_of_requests, rates_by_second
from deployments.generator.simulated import SimulatedEngine, SimulatedSettings
from deployments.generator.simulated_capacity import SimulatedCapacity
from graph.contracts import GenerationJob, Message, Sampling

CAPACITY = SimulatedCapacity(max_running=2, slowdown=0.5, prompt_token_s=0.01, kv_tokens=1000)
SMALL = EngineModel(first_token_s=0.5, token_s=0.1, start_s=10, capacity=CAPACITY, max_ongoing_requests=3)
ASK = Request(at_s=10.0, prompt_tokens=50, output_tokens=20)


def make_fleet(replicas: int = 1, model: EngineModel = SMALL, max_queued: int = 100) -> Fleet:
    """A fleet whose replicas are ready at 10 s."""
    fleet = Fleet(model, max_queued, seed=1)
    fleet.order(replicas)
    return fleet


def test_one_request_alone_takes_prefill_and_its_tokens() -> None:
    fleet = make_fleet()
    fleet.run_until(12.8, [ASK], 0)
    assert fleet.ttfts == [pytest.approx(1.0)]
    assert fleet.running[0].ongoing == 1
    fleet.run_until(13.0, [ASK], 1)
    assert fleet.running[0].ongoing == 0


def test_two_requests_share_the_pace_and_a_third_waits_for_a_place() -> None:
    fleet = make_fleet()
    fleet.run_until(60, [ASK] * 3, 0)
    # Together each further token takes 0.15 s, so that the third begins after some 3.9 s, and its prefill takes one.
    assert fleet.ttfts == [pytest.approx(1.0), pytest.approx(1.0), pytest.approx(4.85, abs=0.4)]


def test_a_request_that_finds_no_room_waits_at_the_caller_and_takes_it_on_a_new_replica() -> None:
    fleet = make_fleet()
    fleet.run_until(10.5, [ASK] * 5, 0)
    assert (fleet.running[0].ongoing, len(fleet.queue)) == (3, 2)
    fleet.order(2)
    fleet.run_until(10.6, [], 0)
    assert len(fleet.queue) == 2, "it is not ready yet"
    fleet.run_until(21, [], 0)
    assert len(fleet.queue) == 0
    assert len(fleet.ttfts) == 5
    assert max(fleet.ttfts) > 5, "what they waited at the caller counts"


def test_requests_beyond_the_queue_are_refused() -> None:
    fleet = make_fleet(max_queued=1)
    fleet.run_until(60, [ASK] * 6, 0)
    assert (len(fleet.ttfts), fleet.refused) == (4, 2)


def test_replicas_that_start_go_first_then_the_youngest_which_finishes_what_it_began() -> None:
    fleet = make_fleet(2)
    fleet.run_until(10.1, [ASK] * 4, 0)
    oldest, youngest = fleet.running
    fleet.order(3)
    fleet.order(2)
    assert (fleet.running, fleet.starting) == ([oldest, youngest], [])
    fleet.order(1)
    assert (fleet.running, youngest.state) == ([oldest], "draining")
    fleet.run_until(30, [], 0)
    assert (youngest.state, len(fleet.ttfts)) == ("gone", 4)


def test_a_replica_costs_from_its_order_to_the_end_of_its_last_request() -> None:
    fleet = make_fleet(2)
    fleet.run_until(10.1, [ASK, ASK], 0)
    fleet.order(1)
    fleet.run_until(30, [], 0)
    # Its request takes 2.9 s from 10 s on.
    assert fleet.total_replica_s() == pytest.approx(30 + 12.9)


@pytest.mark.parametrize("seed", range(5))
def test_every_request_is_answered_refused_or_still_there(seed: int) -> None:
    requests = [one for one in day_of_requests(seed, DayShape(squeeze=48)) if one.at_s < 1700]
    fleet = Fleet(replace(FULL_DAY.model, max_ongoing_requests=20), 30, seed)
    index, now = 0, 0.0
    while now < 1800:
        now += 20
        fleet.order(1 + int(now / 20 + seed) % 4)
        index = fleet.run_until(now, requests, index)
        began = sum(one.ongoing for one in [*fleet.running, *fleet._draining])
        waiting = sum(one.report(now).engine_waiting for one in [*fleet.running, *fleet._draining])
        assert len(fleet.ttfts) + fleet.refused + len(fleet.queue) + waiting == index
        assert began >= waiting
    assert min(fleet.ttfts) > FULL_DAY.model.first_token_s


class VirtualSleep:
    """Time for a simulated engine: passes when all tasks wait for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    async def __call__(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (self.now + seconds, self._count, future))
        await future

    async def run(self) -> None:
        while True:
            for _ in range(10):
                await asyncio.sleep(0)
            if not self._waiting:
                return
            self.now, _, future = heapq.heappop(self._waiting)
            future.set_result(None)


async def test_the_fleets_replica_does_what_the_simulated_engine_does() -> None:
    requests = [Request(0.7 * number, 50 + 10 * number, 30 + 7 * number) for number in range(8)]
    sleep = VirtualSleep()
    capacity = CAPACITY.model_copy(update={"max_running": 4})
    engine = SimulatedEngine(
        SimulatedSettings(first_token_s=0.5, token_s=0.1, capacity=capacity), sleep=sleep, clock=None
    )
    await engine.start()
    firsts: dict[int, float] = {}
    ends: dict[int, float] = {}

    async def ask(number: int, request: Request) -> None:
        await sleep(request.at_s)
        prompt = Message("user", "x" * (4 * request.prompt_tokens))
        job = GenerationJob("g", 0, (prompt,), Sampling(max_tokens=request.output_tokens, ignore_eos=True))
        async for _ in engine.generate(job):
            firsts.setdefault(number, sleep.now - request.at_s)
        ends[number] = sleep.now

    tasks = [asyncio.create_task(ask(number, request)) for number, request in enumerate(requests)]
    await sleep.run()
    await asyncio.gather(*tasks)

    model = EngineModel(0.5, 0.1, 0.0, capacity, max_ongoing_requests=100)
    fleet = make_fleet(model=model)
    gone: list[float] = []
    index, now = 0, 0.0
    while len(gone) < len(requests):
        now += 0.01
        index = fleet.run_until(now, requests, index)
        gone += [now] * (index - fleet.running[0].ongoing - len(gone))
    # The engine looks at its pace once a token, the fleet always.
    assert fleet.ttfts == pytest.approx([firsts[number] for number in range(8)], abs=0.5)
    assert gone == pytest.approx(sorted(ends.values()), abs=0.5)


# What the controller sees.


def test_the_callers_mean_is_the_one_that_serve_takes() -> None:
    points = [
        (0.0, 2, {1: 5, 2: 3}),
        (6.0, 0, {1: 4, 2: 6}),
        (12.0, 1, {1: 7, 2: 2, 3: 9}),
        (18.0, 4, {1: 8, 2: 8, 3: 1}),
    ]
    for running in ({1, 2}, {1, 2, 3}, {3}, {1}):
        series = [[TimeStampedValue(at, float(queued)) for at, queued, _ in points]]
        series += [
            [TimeStampedValue(at, float(counts[number])) for at, _, counts in points if number in counts]
            for number in sorted(running)
        ]
        merged = merge_instantaneous_total(series)
        start = max(one[0].timestamp for one in series)
        theirs = aggregate_timeseries(merged, AggregationFunction.MEAN, last_window_s=21.0 - 18.0, window_start=start)
        assert CallerReport(points).mean_total(21.0, running) == pytest.approx(theirs)


class Flat:
    """A fleet with a load that is said, whose orders are there at once."""

    def __init__(self, load: Callable[[float], int]) -> None:
        self.queue: list[Any] = []
        self.running: list[Any] = []
        self.starting: list[Any] = []
        self.load = load
        self.order(1)

    @property
    def target(self) -> int:
        return len(self.running)

    def order(self, replicas: int) -> None:
        self.running = [type("R", (), {"number": number, "ongoing": 0})() for number in range(replicas)]

    def at(self, now: float) -> None:
        for replica in self.running:
            replica.ongoing = self.load(now) // len(self.running)


def test_serves_policy_waits_for_its_delays_and_its_reports() -> None:
    flat = Flat(lambda now: 40 if 100 < now < 200 else 4)
    config = AutoscalingConfig(min_replicas=1, max_replicas=9, **serves_default(10.0))
    changes = []
    with virtual_time(lambda: now):
        controller = Controller(config, flat, FULL_DAY.tick_s)  # type: ignore[arg-type]
        now = 0.0
        while now < 1200:
            now += FULL_DAY.tick_s
            flat.at(now)
            before = flat.target
            controller.tick(now)
            if flat.target != before:
                changes.append((now, flat.target))
    up_at, up_to = changes[0]
    # Noted at 102, pushed at 110, and then wanted for 30 s.
    assert 138 <= up_at <= 146
    assert up_to > 1
    # The load is gone from the mean of 30 s after 230 s at the latest, and then 600 s pass.
    down = [at for (at, replicas), (_, before) in zip(changes[1:], changes, strict=False) if replicas < before]
    assert 800 <= min(down) <= 842


def test_a_day_is_the_same_by_its_seed_and_has_its_shape() -> None:
    shape = DayShape(unrest=0, bursts=0)
    day = day_of_requests(3, shape)
    assert day == day_of_requests(3, shape)
    assert day != day_of_requests(4, shape)
    by_hour = [sum(int(one.at_s // 3600) == hour for one in day) / 3600 for hour in range(24)]
    assert max(by_hour) == pytest.approx(shape.peak_per_s, rel=0.1)
    assert by_hour[3] == pytest.approx(0.05 * shape.peak_per_s, rel=0.3)
    assert all(0 <= one.at_s < DAY_S for one in day)


def test_the_rate_has_the_unrest_that_was_measured() -> None:
    shape = DayShape(bursts=0)
    rates, calm = (rates_by_second(np.random.default_rng(1), each) for each in (shape, replace(shape, unrest=0.0)))
    unrest = np.log(rates / calm)
    later = int(shape.unrest_s)
    assert unrest.std() == pytest.approx(shape.unrest, rel=0.1)
    assert np.corrcoef(unrest[:-later], unrest[later:])[0, 1] == pytest.approx(np.exp(-1), abs=0.1)
    assert rates.mean() == pytest.approx(calm.mean(), rel=0.05)


# The command.


def figures_of(in_time: float, gpu_hours: float = 10.0) -> DayFigures:
    return DayFigures(in_time, gpu_hours, 1, 0, 1, Course([1], [1], [1.0]))


def test_the_highest_target_that_keeps_the_level_is_found() -> None:
    tried: list[float] = []

    def run(target: float) -> list[DayFigures]:
        tried.append(target)
        return [figures_of(0.999 if target + 0.01 * seed <= 9.3 else 0.98) for seed in (1, 2)]

    best = BestTarget(command.TARGETS, run)
    target, found = best.highest(0.99)
    assert (target, kept_on(found)) == (9.25, 0.999)
    before = len(tried)
    assert best.highest(0.985)[0] == 9.25
    assert len(tried) == before, "no target is tried twice"
    with pytest.raises(RuntimeError, match="lower ones"):
        best.highest(1.0)


@pytest.mark.parametrize(("kept", "cost", "met"), [(0.99, 8.0, True), (0.989, 8.0, False), (0.999, 8.1, False)])
def test_the_aim_is_the_level_and_the_cost(kept: float, cost: float, met: bool) -> None:
    assert command.is_met(kept, cost, yardstick=10.0) is met


@pytest.mark.parametrize(("cost", "status"), [(8.0, 0), (8.1, 1)])
def test_the_exit_status_says_whether_the_aim_is_met(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cost: float, status: int
) -> None:
    def run_days(_: Any, configuration: Any) -> list[DayFigures]:
        target = configuration.get("target_ongoing_requests")
        return [figures_of(0.996, cost) if target is None else figures_of(1 - target / 1000)]

    monkeypatch.setattr(command, "run_days", run_days)
    monkeypatch.setattr(command, "day_of_requests", lambda *_: [])
    assert command.main(["--json", str(tmp_path / "record.json"), "--pictures", str(tmp_path)]) == status
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["aim_met"] is (status == 0)
    assert record["configuration"]["policies"][command.YARDSTICK]["target_ongoing_requests"] == 4.0
    assert (tmp_path / "autoscaling-day.svg").stat().st_size > 0


def test_a_day_ends_with_a_course_that_adds_up_to_its_figures() -> None:
    shape = DayShape(squeeze=48)
    scenario = replace(FULL_DAY, day_s=1800.0)
    day = run_day(day_of_requests(1, shape), serves_default(4.0), 1, scenario)
    assert len(day.course.requests) == BINS
    assert day.requests * 0.98 < sum(day.course.requests) <= day.requests
    assert sum(day.course.in_time) == round(day.in_time * day.requests)
    assert max(day.course.replicas) <= day.most_replicas
    # Of replicas that were ordered; those that drain come on top.
    assert np.mean(day.course.replicas) * 0.5 <= day.gpu_hours < 24 * np.mean(day.course.replicas)


async def test_live_and_simulation_speak_of_the_same_engine_and_find_a_target_for_serves_policy() -> None:
    SimulatedSettings.model_validate(live.ENGINE)
    requests = live.requests_of(4, 1)
    assert 0 <= min(request.at_s for request in requests) < 30 < 200 < max(request.at_s for request in requests) < 240
    assert sum(each.at_s < 45 for each in requests) < 0.7 * sum(45 <= each.at_s < 90 for each in requests)
    predicted = live.predict(requests, 4)
    assert list(predicted) == [live.SERVES, "ours"]
    assert predicted[live.SERVES].in_time >= predicted["ours"].in_time


def test_stretches_count_by_their_requests_and_cost_what_they_cost_together() -> None:
    of_both = {"in_time_simulated": 1.0, "gpu_s_simulated": 1.0, "refused": 1, "failed": 0, "clients_late_s": 0.0}
    short = {**of_both, "in_time": 1.0, "gpu_s": 10.0, "requests": 100, "ttft_p99_s": 0.5, "most_replicas": 2}
    long = {**of_both, "in_time": 0.9, "gpu_s": 30.0, "requests": 300, "ttft_p99_s": 2.0, "most_replicas": 5}
    found = live.together([short, long])
    assert (found["in_time"], found["gpu_s"], found["requests"], found["refused"]) == (0.925, 40.0, 400, 2)
    assert (found["worst_ttft_p99_s"], found["most_replicas"]) == (2.0, 5)


def test_our_candidate_is_what_the_configuration_check_would_pass() -> None:
    config = AutoscalingConfig(min_replicas=1, max_replicas=9, **ours(**command.OURS))
    assert (config.upscale_delay_s, config.downscale_delay_s) == (0, 0)
    assert config.policy.policy_kwargs == dict(command.OURS)
