"""The same question on a Ray cluster: Serve's controller, logical GPUs, simulated engines, clients over HTTP.

All time is squeezed to a fifth: replicas start in 6 s instead of 30, the day passes five times as fast, answers are as
much shorter, and Serve's own delays are a fifth of what they are. What our policy cannot be told, its windows of 10 and
30 s, stays as it is. Of the day a stretch is played, from `BEGIN_H` on: the office fills up.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.autoscaling.candidates import ours, serves_default
from benchmarks.autoscaling.day import DayFigures, Scenario, run_day
from benchmarks.autoscaling.fleet import EngineModel
from benchmarks.autoscaling.search import BestTarget, kept_on
from benchmarks.autoscaling.traffic import DayShape, Request, day_of_requests
from benchmarks.record import quantile
from benchmarks.service import Running, running
from deployments.generator.simulated_capacity import SimulatedCapacity

TIME_SCALE = 0.2
MAX_REPLICAS = 6
SLOTS = 8
CAPACITY = SimulatedCapacity(max_running=SLOTS, slowdown=0.05, prompt_token_s=0.0002, kv_tokens=8_000)
ENGINE = {
    "first_token_s": 0.05,
    "token_s": 0.05,
    "start_s": 2.0,  # a process of Ray's takes three to five besides
    "capacity": CAPACITY.model_dump(),
}
SETUP_S = 6.0
TTFT_S = 1.0
"""The service level, at the client: the stream guard holds a word back, which is three tokens here."""
ENGINE_TTFT_S = 0.5
"""The same at the engine."""
BEGIN_H = 7.5
BURSTS = 48
"""Of a whole day: two an hour, or a stretch may have none."""
RAMP_S = 90.0
"""In which the first requests get more: one replica is there, and the day did not begin at that moment."""
SHAPE = DayShape(
    peak_per_s=4.5,
    unrest_s=240.0 * TIME_SCALE,
    bursts=BURSTS,
    burst_rise_s=(30.0 * TIME_SCALE, 180.0 * TIME_SCALE),
    burst_hold_s=(60.0 * TIME_SCALE, 300.0 * TIME_SCALE),
    prompt_tokens=(20.0, 0.5),
    output_tokens=(55.0, 0.7),
    max_output_tokens=300,
    squeeze=1 / TIME_SCALE,
)
GENERATOR: Mapping[str, Any] = {
    "num_replicas": None,
    "max_ongoing_requests": 2 * SLOTS,
    "max_queued_requests": 256,
    "graceful_shutdown_timeout_s": 60,
    "ray_actor_options": {"num_cpus": 0, "num_gpus": 1},
}
SERVES = "Serve's policy"
TARGETS = tuple(0.5 + 0.25 * step for step in range(31))
"""``target_ongoing_requests`` of a replica with 8 slots."""
ROUTER_SEEDS = range(1, 9)
SAMPLE_EVERY_S = 0.5
CLIENT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    """0: the connection failed, or the stream ended without its end."""
    ttft_s: float | None


@dataclass(frozen=True, slots=True)
class Predicted:
    """One policy, and what the simulation says of it on this stretch."""

    configuration: Mapping[str, Any]
    in_time: float
    gpu_s: float


def requests_of(minutes: float, seed: int) -> list[Request]:
    """The stretch of the day that passes in so many minutes; it begins at 0."""
    begin_s = BEGIN_H * 3600 * TIME_SCALE
    rng = np.random.default_rng(seed)
    shifted = (replace(request, at_s=request.at_s - begin_s) for request in day_of_requests(seed, SHAPE))
    return [each for each in shifted if 0 <= each.at_s < 60 * minutes and rng.random() * RAMP_S <= each.at_s]


def predict(requests: Sequence[Request], minutes: float) -> dict[str, Predicted]:
    """Both policies on the stretch in virtual time, with several routers' luck. Serve's has the highest target that
    keeps there as much as ours does, or as `TARGETS` allow."""
    scenario = Scenario(
        model=EngineModel(0.05, 0.05, SETUP_S, CAPACITY, GENERATOR["max_ongoing_requests"]),
        ttft_s=TTFT_S,
        min_replicas=1,
        max_replicas=MAX_REPLICAS,
        max_queued=GENERATOR["max_queued_requests"],
        day_s=60 * minutes,
        tick_s=0.4,
    )

    def run(configuration: Mapping[str, Any]) -> list[DayFigures]:
        return [run_day(requests, configuration, seed, scenario) for seed in ROUTER_SEEDS]

    settings = {
        "slots": SLOTS,
        "setup_s": SETUP_S,
        "ttft_s": ENGINE_TTFT_S,
        "hold_s": 4 * 30.0 * TIME_SCALE,
        "step_down_s": 30.0 * TIME_SCALE,
        "smoothing_s": 15.0 * TIME_SCALE,
        "trend_s": 60.0 * TIME_SCALE,
    }
    mine = ours(TIME_SCALE, **settings)
    figures = run(mine)
    best = BestTarget(TARGETS, lambda tried: run(serves_default(tried, TIME_SCALE)))
    target, _ = best.highest(kept_on(figures))
    serves = serves_default(target, TIME_SCALE)
    return {SERVES: _predicted(serves, run(serves)), "ours": _predicted(mine, figures)}


def _predicted(configuration: Mapping[str, Any], figures: Sequence[DayFigures]) -> Predicted:
    return Predicted(configuration, kept_on(figures), mean(day.gpu_hours for day in figures) * 3600)


def measure(requests: Sequence[Request], policies: Mapping[str, Predicted]) -> dict[str, dict[str, Any]]:
    """The figures by policy; starts and stops the service for each."""
    figures = {}
    for name, policy in policies.items():
        scaling = {"min_replicas": 1, "max_replicas": MAX_REPLICAS, **policy.configuration}
        deployments = {"Generator": {**GENERATOR, "autoscaling_config": scaling}}
        engine = {"engine": {"kind": "simulated", "simulated": ENGINE}}
        gpus = {"RAY_OVERRIDE_RESOURCES": json.dumps({"GPU": MAX_REPLICAS + 2})}  # those that drain keep theirs
        wide = {"Ingress": {"max_inflight_choices": 4096}}
        with running(engine, wide, deployments=deployments, environment=gpus) as service:
            measured = asyncio.run(_one_stretch(service, requests, name))
        forecast = {"in_time_simulated": round(policy.in_time, 4), "gpu_s_simulated": round(policy.gpu_s, 1)}
        figures[name] = {**measured, **forecast}
    return figures


def together(stretches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One policy's figures of all stretches: shares weighted by their requests, the rest added up or the worst."""
    requests: int = sum(each["requests"] for each in stretches)

    def share(key: str) -> float:
        total: float = sum(each[key] * each["requests"] for each in stretches)
        return round(total / requests, 4)

    def added(key: str) -> float:
        total: float = sum(each[key] for each in stretches)
        return round(total, 1)

    return {
        "in_time": share("in_time"),
        "in_time_simulated": share("in_time_simulated"),
        "gpu_s": added("gpu_s"),
        "gpu_s_simulated": added("gpu_s_simulated"),
        "requests": requests,
        **{key: added(key) for key in ("refused", "failed")},
        **{f"worst_{key}": max(each[key] for each in stretches) for key in ("ttft_p99_s", "clients_late_s")},
        "most_replicas": max(each["most_replicas"] for each in stretches),
    }


async def _one_stretch(service: Running, requests: Sequence[Request], name: str) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=None)
    replicas: list[int] = []
    async with httpx.AsyncClient(
        base_url=service.url, timeout=CLIENT_TIMEOUT_S, trust_env=False, limits=limits
    ) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task(f"under {name}", total=len(requests))
            watching = asyncio.create_task(_watch(service, replicas))
            began = time.monotonic()
            tasks = []
            for request in requests:
                # Open loop: a request comes at its time, whatever became of those before.
                await asyncio.sleep(max(0.0, began + request.at_s - time.monotonic()))
                task = asyncio.create_task(_ask(client, model, request))
                task.add_done_callback(lambda _: progress.advance(bar))
                tasks.append(task)
            late_s = time.monotonic() - began - requests[-1].at_s
            answers = await asyncio.gather(*tasks)
            watching.cancel()
    ttfts = [answer.ttft_s for answer in answers if answer.ttft_s is not None]
    return {
        "in_time": round(sum(ttft_s <= TTFT_S for ttft_s in ttfts) / len(answers), 4),
        "gpu_s": round(sum(replicas) * SAMPLE_EVERY_S, 1),
        "requests": len(answers),
        "refused": sum(answer.status in (429, 503) for answer in answers),
        "failed": sum(answer.status not in (200, 429, 503) for answer in answers),
        "most_replicas": max(replicas),
        "ttft_p50_s": round(quantile(ttfts, 0.5), 3),
        "ttft_p99_s": round(quantile(ttfts, 0.99), 3),
        "clients_late_s": round(late_s, 2),
        "replicas": replicas,
    }


async def _watch(service: Running, replicas: list[int]) -> None:
    """Notes how many processes of replicas there are, starting and draining ones too, until it is cancelled."""
    while True:
        began = time.monotonic()
        replicas.append(len(await asyncio.to_thread(service.replicas, "Generator")))
        await asyncio.sleep(max(0.0, SAMPLE_EVERY_S - (time.monotonic() - began)))


async def _ask(client: httpx.AsyncClient, model: str, request: Request) -> _Answer:
    """One streamed answer of just so many tokens."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "word " * max(1, round(request.prompt_tokens * 4 / 5))}],
        "max_tokens": request.output_tokens,
        "ignore_eos": True,
        "stream": True,
    }
    began, first_s, is_whole = time.monotonic(), None, False
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                return _Answer(response.status_code, None)
            async for line in response.aiter_lines():
                if first_s is None and line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    if choices and choices[0]["delta"].get("content"):
                        first_s = time.monotonic() - began
                is_whole = is_whole or line == "data: [DONE]"
    except (httpx.HTTPError, KeyError):
        return _Answer(0, first_s)
    return _Answer(200 if is_whole else 0, first_s)
