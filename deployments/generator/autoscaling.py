"""How many replicas of the Generator there should be: Serve's autoscaling policy, and what decides in it.

``policy_function: deployments.generator.autoscaling:TtftPolicy`` in a Serve configuration; ``policy_kwargs`` are the
fields of ``ScalingSettings``. Serve ships this module by value into its controller, which need not have Rheostat
installed: it imports nothing but pydantic and the standard library.

What decides is ``decide``, a function of plain data. It orders for what will be there when a replica that is ordered
now is ready, not for what is there:

- feed-forward: by Little's law (L = λW) arrivals hold ``rate x service time`` decoding slots. The rate is looked at
  ``setup_s`` ahead, by Holt's linear smoothing (level and trend; Holt 1957, reprinted in Int. J. Forecasting 20, 2004),
  so that a ramp is met before it breaks the service level. What is here already, running or waiting, is a slot each.
- memory: at the same use per replica, none may be fuller than ``kv_ceiling``.
- feedback: a time to first token above its level, with all that was ordered in place, means that replicas hold less
  than was said: one more at once, and a lasting correction.

Up at once. Down to the highest need of the last ``hold_s``, stepwise. What is ordered and still starts counts as there.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

logger = logging.getLogger("ray.serve")

EVALUATE_EVERY_S = 1.0
"""Serve asks ten times a second; reports are older than this anyway."""
SERVICE_SMOOTHING_S = 120.0
"""Of the mean service time: it moves with the mix of prompts, not with the second."""
TTFT_WINDOW_S = 30.0
"""What a report looks back on, but for arrivals: at one request a second still enough for a high quantile. So long
times from before a change are in it."""
REPORT_AGE_S = 10.0
"""How old what is seen may be: a window of arrivals, and the time until it is pushed. A forecast looks so much
further."""
CORRECTION_STEP = 1.1
CORRECTION_MAX = 3.0
CORRECTION_KEPT_S = 600.0
"""Without a late first token, before a step of the correction is taken back."""
STEP_DOWN_SHARE = 0.125
"""Of the replicas, at least one: how many go at a time."""


class ScalingSettings(BaseModel):
    """``policy_kwargs``. The defaults were chosen by ``python -m benchmarks.autoscaling``, on seeds other than those it
    reports."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slots: PositiveInt
    """Requests that one replica decodes at once with a token interval that you still promise. Measure yours."""
    setup_s: PositiveFloat
    """Seconds from the order of a replica until it answers: a node, the image, the weights."""
    ttft_s: PositiveFloat = 2.0
    """The service level: seconds to the first token that 95% of requests may take."""
    utilization: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the slots that requests may hold; the rest is for chance."""
    kv_ceiling: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the KV cache that may be in use; beyond it engines begin to preempt."""
    hysteresis: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """A replica goes only when the others would be at most ``1 - hysteresis`` full."""
    hold_s: PositiveFloat | None = None
    """The highest need of so many seconds is kept. None: four times ``setup_s``, so that what goes is not missed before
    it could return."""
    step_down_s: PositiveFloat = 30.0
    """Seconds between steps down."""
    smoothing_s: PositiveFloat = 15.0
    """Time constant of the arrival rate's level."""
    trend_s: PositiveFloat = 60.0
    """Time constant of the arrival rate's trend."""
    stale_s: PositiveFloat = 60.0
    """A replica's report is not believed when it is older."""
    zero_after_s: NonNegativeFloat | None = None
    """Seconds without a request after which the last replica goes; needs ``min_replicas: 0``. None: it stays."""


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What ``Generator.record_autoscaling_stats`` returns, by these names. None of them may be ``running_requests``:
    Serve would take it for its own count and stop counting at the handles."""

    engine_running: float = 0.0
    """Requests in the batch."""
    engine_waiting: float = 0.0
    """Requests that the engine has taken and not begun."""
    queued_tokens: float = 0.0
    """Prompt tokens of requests without a token yet."""
    kv_usage: float = 0.0
    """0..1."""
    ttft_mean_s: float = 0.0
    """From a request's arrival at the replica to its first token; 0 where none got one. So are the next two."""
    ttft_p95_s: float = 0.0
    service_s: float = 0.0
    """Mean time from first token to end."""
    arrivals_per_s: float = 0.0
    finished_per_s: float = 0.0
    tokens_per_s: float = 0.0
    """Answer tokens, counted when the answer ends."""


_REPORTED = tuple(field.name for field in fields(ReplicaReport))


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known at one moment."""

    now: float
    running: int
    """Replicas that answer."""
    target: int
    """Replicas that are ordered: running ones and those that still start."""
    reports: tuple[ReplicaReport, ...]
    """Of running replicas; not of each there need be one."""
    queued: float
    """Requests that wait for a place in any replica, by the callers' count."""
    total: float
    """Requests by the callers' count, running and queued; a mean of the look-back period."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Arrivals and their service time, smoothed."""

    rate: float
    """Level of the arrivals per second."""
    trend: float = 0.0
    """Of the rate, per second."""
    service_s: float = 0.0
    """0: no request has ended yet."""

    def ahead(self, seconds: float) -> float:
        """The rate in so many seconds. A fall is not believed before it is there."""
        return self.rate + max(0.0, self.trend) * seconds


@dataclass(frozen=True, slots=True)
class Feedback:
    """What times to first token have taught."""

    correction: float = 1.0
    """Of the need."""
    settled_at: float = -math.inf
    """When the number of ordered or of running replicas, or the correction, last changed."""
    counts: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What one evaluation leaves to the next."""

    evaluated_at: float = -math.inf
    forecast: Forecast | None = None
    """None: no report yet."""
    feedback: Feedback = Feedback()
    needs: tuple[tuple[float, float], ...] = ()
    """Time and need, falling: each is the highest since the one before it."""
    stepped_at: float = -math.inf
    """When the number of ordered replicas was last changed."""
    busy_at: float = math.inf
    """When there was last a request, or the first evaluation."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas to order, and by which numbers."""

    replicas: int
    here: float
    rate: float
    ahead: float
    service_s: float
    late_s: float
    need: float
    highest: float

    def __str__(self) -> str:
        return (
            f"{self.here:.0f} requests here, {self.rate:.2f}/s becoming {self.ahead:.2f}/s x {self.service_s:.1f} s, "
            f"TTFT {self.late_s:.2f} s: need {self.need:.2f}, lately {self.highest:.2f}"
        )


def decide(settings: ScalingSettings, seen: Observation, state: ScalingState) -> tuple[Decision, ScalingState]:
    """The number of replicas for what is ``seen``, and the state for the next call. Bounds are the caller's."""
    now = seen.now
    forecast = _learn(settings, seen, state)
    here = _requests_here(seen)
    ahead = forecast.ahead(settings.setup_s + REPORT_AGE_S) if forecast else 0.0
    service_s = forecast.service_s if forecast else 0.0
    late_s = _late_s(seen)
    need = max(
        max(here, ahead * service_s) / (settings.slots * settings.utilization),
        sum(report.kv_usage for report in seen.reports) / settings.kv_ceiling,
    )
    feedback, least = _react(settings, seen, state.feedback, late_s)
    need = max(need * feedback.correction, least)
    # A policy that was just built knows no past: what is ordered was needed.
    needs = state.needs or ((now, seen.target * (1 - settings.hysteresis)),)
    needs = _remember(needs, now, need, settings.hold_s or 4 * settings.setup_s)
    busy_at = now if here or math.isinf(state.busy_at) else state.busy_at
    is_idle = settings.zero_after_s is not None and now - busy_at >= settings.zero_after_s
    replicas = _follow(settings, seen.target, needs, is_idle, now - state.stepped_at)
    state = ScalingState(
        evaluated_at=now,
        forecast=forecast,
        feedback=feedback,
        needs=needs,
        stepped_at=state.stepped_at if replicas == seen.target else now,
        busy_at=busy_at,
    )
    rate = forecast.rate if forecast else 0.0
    return Decision(replicas, here, rate, ahead, service_s, late_s, need, needs[0][1]), state


def _requests_here(seen: Observation) -> float:
    here = sum(report.engine_running + report.engine_waiting for report in seen.reports) + seen.queued
    # Of replicas that have not reported, the callers know.
    return here if len(seen.reports) >= seen.running else max(here, seen.total)


def _late_s(seen: Observation) -> float:
    """A high quantile of the times to first token, the wait for a replica included; 0 where no request was answered."""
    arrivals = sum(report.arrivals_per_s for report in seen.reports)
    finished = sum(report.finished_per_s for report in seen.reports)
    if not arrivals:
        return 0.0
    inside = sum(report.ttft_p95_s * report.arrivals_per_s for report in seen.reports) / arrivals
    return inside + (seen.queued / finished if finished else 0.0)


def _learn(settings: ScalingSettings, seen: Observation, state: ScalingState) -> Forecast | None:
    """Weights are those of exponential smoothing with a time constant, since evaluations need not come evenly."""
    before = state.forecast
    if not seen.reports:
        return before
    # Replicas without a report get as much as the others.
    rate = sum(report.arrivals_per_s for report in seen.reports) * max(1.0, seen.running / len(seen.reports))
    finished = sum(report.finished_per_s for report in seen.reports)
    service_s = sum(report.service_s * report.finished_per_s for report in seen.reports) / finished if finished else 0.0
    if before is None:
        return Forecast(rate, service_s=service_s)
    since_s = seen.now - state.evaluated_at
    expected = before.rate + before.trend * since_s
    level = max(0.0, expected + _weight(since_s, settings.smoothing_s) * (rate - expected))
    trend = before.trend + _weight(since_s, settings.trend_s) * ((level - before.rate) / since_s - before.trend)
    if not finished:
        service_s = before.service_s
    elif before.service_s:
        service_s = before.service_s + _weight(since_s, SERVICE_SMOOTHING_S) * (service_s - before.service_s)
    return Forecast(level, trend, service_s)


def _weight(since_s: float, constant_s: float) -> float:
    return 1.0 - math.exp(-since_s / constant_s)


def _react(settings: ScalingSettings, seen: Observation, before: Feedback, late_s: float) -> tuple[Feedback, float]:
    """Feedback on the time to first token, and the replicas that it asks for at least. Only when what was ordered is
    there and its effect is seen, so that one delay is never answered twice."""
    counts = seen.running, seen.target
    settled_s = seen.now - before.settled_at
    if counts != before.counts:
        return replace(before, counts=counts, settled_at=seen.now), 0.0
    if seen.running < seen.target or settled_s < TTFT_WINDOW_S:
        return before, 0.0
    if late_s > settings.ttft_s:
        correction = min(CORRECTION_MAX, before.correction * CORRECTION_STEP)
        return replace(before, correction=correction, settled_at=seen.now), seen.running + 1.0
    if late_s < settings.ttft_s / 2 and before.correction > 1 and settled_s >= CORRECTION_KEPT_S:
        return replace(before, correction=max(1.0, before.correction / CORRECTION_STEP), settled_at=seen.now), 0.0
    return before, 0.0


def _remember(
    needs: tuple[tuple[float, float], ...], now: float, need: float, hold_s: float
) -> tuple[tuple[float, float], ...]:
    """A sliding maximum: what is older than ``hold_s``, or lower than what came later, is forgotten."""
    return (*[past for past in needs if past[1] > need and past[0] > now - hold_s], (now, need))


def _follow(
    settings: ScalingSettings, target: int, needs: tuple[tuple[float, float], ...], is_idle: bool, stepped_s: float
) -> int:
    """Up to the need at once, down to the highest need of the window in steps."""
    may_step = stepped_s >= settings.step_down_s
    if is_idle and (target == 0 or (target == 1 and may_step)):
        return 0
    wanted = _whole(needs[-1][1])
    if wanted > target:
        return wanted
    if not may_step:
        return target
    floor = _whole(needs[0][1] / (1 - settings.hysteresis))
    return min(target, max(floor, target - max(1, int(target * STEP_DOWN_SHARE))))


def _whole(need: float) -> int:
    """Replicas for a need: at least one. A rounding error makes no replica."""
    return max(1, math.ceil(need - 1e-9))


class TtftPolicy:
    """Serve's policy: reads what the controller knows, and keeps the state. Serve builds it once from
    ``policy_kwargs``, calls it ten times a second and applies bounds, factors and delays to what it says.

    It never raises: an error here would stop the controller's loop for every application. What a report lacks counts
    as 0, a report with a number that is none as not given.

    Raises:
        pydantic.ValidationError: A setting that is unknown or impossible; ``graph.check_config`` says so before.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = ScalingSettings(**settings)
        self._state = ScalingState()

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        if ctx.current_time - self._state.evaluated_at < EVALUATE_EVERY_S:
            return ctx.target_num_replicas, {}
        decision, self._state = decide(self._settings, observe(ctx, self._settings.stale_s), self._state)
        replicas = max(ctx.capacity_adjusted_min_replicas, min(ctx.capacity_adjusted_max_replicas, decision.replicas))
        if replicas != ctx.target_num_replicas:
            logger.info(f"{ctx.deployment_name}: {ctx.target_num_replicas} -> {replicas} replicas. {decision}.")
        return replicas, {}


def observe(ctx: Any, stale_s: float) -> Observation:
    """What ``ctx``, a ``ray.serve.config.AutoscalingContext``, says now. Reports are series of the look-back period;
    the newest point counts."""
    raw: Mapping[str, Mapping[Any, Any]] = ctx.raw_metrics or {}
    oldest = ctx.current_time - stale_s
    newest: dict[Any, dict[str, float]] = {}
    for name in _REPORTED:
        for replica, series in raw.get(name, {}).items():
            if series and series[-1].timestamp > oldest:
                newest.setdefault(replica, {})[name] = series[-1].value
    reports = [ReplicaReport(**values) for values in newest.values() if all(map(_is_number, values.values()))]
    return Observation(
        now=ctx.current_time,
        running=ctx.current_num_replicas,
        target=ctx.target_num_replicas,
        reports=tuple(reports),
        queued=ctx.total_queued_requests or 0.0,
        total=ctx.total_num_requests,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
