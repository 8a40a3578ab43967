"""One day of the fleet under one autoscaling configuration, in virtual time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.serve.config import AutoscalingConfig

from benchmarks.autoscaling.controller import Controller, virtual_time
from benchmarks.autoscaling.fleet import EngineModel, Fleet
from benchmarks.autoscaling.traffic import DAY_S, Request
from deployments.generator.simulated_capacity import SimulatedCapacity

BINS = 144
"""Parts of a day in ``Course``: ten minutes each where the day is not squeezed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a day is lived on."""

    model: EngineModel
    ttft_s: float
    """The service level."""
    min_replicas: int
    max_replicas: int
    max_queued: int
    """Requests that may wait at the caller; those beyond it are refused."""
    day_s: float
    tick_s: float
    """Between two decisions of the controller."""


FULL_DAY = Scenario(
    model=EngineModel(
        first_token_s=0.05,
        token_s=0.025,
        start_s=30.0,
        capacity=SimulatedCapacity(max_running=16, slowdown=0.06, prompt_token_s=0.0002, kv_tokens=30_000),
        max_ongoing_requests=32,
    ),
    ttft_s=2.0,
    min_replicas=1,
    max_replicas=32,
    max_queued=512,
    day_s=DAY_S,
    tick_s=2.0,
)
"""A full replica gives each request a token every 48 ms: 0.7 answers a second of 500 tokens each."""


@dataclass(frozen=True, slots=True)
class Course:
    """A day in ``BINS`` equal parts, one number each."""

    requests: list[int]
    """That got a first token or were refused."""
    in_time: list[int]
    replicas: list[float]
    """Ordered ones, starting or running; the mean."""


@dataclass(frozen=True, slots=True)
class DayFigures:
    """What became of a day."""

    in_time: float
    """Share of all requests, the refused ones too, with a first token within the level of their arrival."""
    gpu_hours: float
    """Of replicas, from order to end: starting and draining ones cost as much as those that answer."""
    requests: int
    refused: int
    most_replicas: int
    course: Course


def run_day(
    requests: Sequence[Request], configuration: Mapping[str, Any], seed: int, scenario: Scenario = FULL_DAY
) -> DayFigures:
    """The figures of one day. ``configuration`` is an ``autoscaling_config``; the bounds are the scenario's."""
    bounds = {"min_replicas": scenario.min_replicas, "max_replicas": scenario.max_replicas}
    config = AutoscalingConfig.model_validate({**bounds, **configuration})
    fleet = Fleet(scenario.model, scenario.max_queued, seed)
    controller = Controller(config, fleet, scenario.tick_s)
    fleet.order(config.min_replicas)
    ticks = round(scenario.day_s / scenario.tick_s)
    most, index, part, area, since = fleet.target, 0, 0, 0, 0
    counted = (0, 0)
    course = Course([], [], [])
    with virtual_time(lambda: fleet.now):
        for tick in range(1, ticks + 1):
            now = tick * scenario.tick_s
            index = fleet.run_until(now, requests, index)
            controller.tick(now)
            most = max(most, fleet.target)
            area += fleet.target
            since += 1
            if tick * BINS >= (part + 1) * ticks:
                begun = len(fleet.ttfts)
                new = fleet.ttfts[counted[0] :]
                course.requests.append(begun - counted[0] + fleet.refused - counted[1])
                course.in_time.append(sum(ttft_s <= scenario.ttft_s for ttft_s in new))
                course.replicas.append(round(area / since, 2))
                counted, part, area, since = (begun, fleet.refused), part + 1, 0, 0
    in_time = sum(ttft_s <= scenario.ttft_s for ttft_s in fleet.ttfts)
    return DayFigures(
        in_time=in_time / len(requests),
        gpu_hours=fleet.total_replica_s() / 3600,
        requests=len(requests),
        refused=fleet.refused,
        most_replicas=most,
        course=course,
    )
