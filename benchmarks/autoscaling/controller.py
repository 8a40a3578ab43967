"""What Serve's controller knows and does, in virtual time: old reports in, Ray's own delays and bounds around a policy.

The policy is wrapped by Ray's own function and asked with Ray's own context. What is modelled here is how old the
numbers are that it sees (ray 2.60, ``_private/router.py``, ``replica.py``, ``autoscaling_state.py``): callers and
replicas note a point every fifth of the look-back period, at most ``metrics_interval_s`` apart, and push the period's
points every ``metrics_interval_s``; the controller takes the mean of the callers' points over the time that all of them
cover. Serve decides every 0.1 s, on reports that are seconds old; here a decision comes every ``tick_s``.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

from ray.serve import autoscaling_policy
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from benchmarks.autoscaling.fleet import Fleet, SimulatedReplica
from deployments.generator.autoscaling import ReplicaReport

DEPLOYMENT = DeploymentID(name="Generator", app_name="simulated")
RECORD_SHARE = 0.2
"""``RAY_SERVE_AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR``."""
_NAMES = tuple(field.name for field in fields(ReplicaReport))


class Point(NamedTuple):
    """Of a series, as ``ray.serve._private.common.TimeStampedValue``."""

    timestamp: float
    value: float


class CallerReport:
    """One caller's points of the look-back period, as they were pushed: queued requests, and those at each replica."""

    def __init__(self, points: list[tuple[float, int, dict[int, int]]]) -> None:
        self._points = points

    def mean_total(self, now: float, running: set[int]) -> float:
        """All requests, averaged over time since the youngest replica's first point; of running replicas only."""
        firsts: dict[int, float] = {}
        for at, _, at_replicas in self._points:
            for number in at_replicas:
                if number in running:
                    firsts.setdefault(number, at)
        start = max(firsts.values(), default=self._points[0][0])
        values = [
            (at, queued + sum(count for number, count in at_replicas.items() if number in running))
            for at, queued, at_replicas in self._points
            if at >= start
        ]
        return _time_mean(values, now)

    def mean_queued(self, now: float) -> float:
        return _time_mean([(at, queued) for at, queued, _ in self._points], now)


def _time_mean(values: list[tuple[float, int]], now: float) -> float:
    """Each value holds until the next, the last one until now."""
    ends = [at for at, _ in values[1:]] + [max(now, values[-1][0] + 1e-3)]
    area = sum(value * (end - at) for (at, value), end in zip(values, ends, strict=True))
    return area / (ends[-1] - values[0][0])


class Controller:
    """At every tick: notes, pushes, asks the policy, orders."""

    def __init__(self, config: AutoscalingConfig, fleet: Fleet, tick_s: float) -> None:
        policy = config.policy.get_policy()
        built = policy(**config.policy.policy_kwargs) if isinstance(policy, type) else policy
        self._policy: Callable[[Any], tuple[Any, dict[str, Any]]] = autoscaling_policy._apply_autoscaling_config(built)
        self._config = config
        self._fleet = fleet
        self._tick_s = tick_s
        self._push_s = config.metrics_interval_s
        self._record_s = min(config.look_back_period_s * RECORD_SHARE, config.metrics_interval_s)
        self._state: dict[str, Any] = {}
        self._points: list[tuple[float, int, dict[int, int]]] = []
        self._caller: CallerReport | None = None
        self._replicas: dict[int, _ReplicaPusher] = {}
        self._needs_reports = not config.policy.is_default_policy_function()

    def tick(self, now: float) -> None:
        self._collect(now)
        fleet = self._fleet
        decided, self._state = self._policy(self._context(now))
        replicas = max(self._config.min_replicas, min(self._config.max_replicas, int(decided)))
        if replicas != fleet.target:
            fleet.order(replicas)

    def _collect(self, now: float) -> None:
        fleet = self._fleet
        if _is_due(now, self._record_s, self._tick_s):
            self._points.append((now, len(fleet.queue), {one.number: one.ongoing for one in fleet.running}))
            self._points = [point for point in self._points if point[0] > now - self._config.look_back_period_s]
        if _is_due(now, self._push_s, self._tick_s):
            self._caller = CallerReport(list(self._points))
        if self._needs_reports:
            alive = {one.number: one for one in fleet.running}
            self._replicas = {
                number: self._replicas.get(number)
                or _ReplicaPusher(one, now, self._push_s, self._record_s, self._tick_s)
                for number, one in alive.items()
            }
            for pusher in self._replicas.values():
                pusher.run(now)

    def _context(self, now: float) -> AutoscalingContext:
        fleet = self._fleet
        running = {one.number for one in fleet.running}
        caller = self._caller
        # Ours are numbers: no policy looks into Ray's ids.
        replicas: Any = list(running)
        return AutoscalingContext(
            deployment_id=DEPLOYMENT,
            deployment_name=DEPLOYMENT.name,
            app_name=DEPLOYMENT.app_name,
            current_num_replicas=len(running),
            target_num_replicas=fleet.target,
            running_replicas=replicas,
            total_num_requests=lambda: caller.mean_total(now, running) if caller else 0.0,
            total_queued_requests=lambda: caller.mean_queued(now) if caller else 0.0,
            aggregated_metrics=None,
            raw_metrics=self._raw_metrics,
            capacity_adjusted_min_replicas=self._config.min_replicas,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state=dict(self._state),
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=now,
            config=self._config,
        )

    def _raw_metrics(self) -> Any:
        """By name and replica, a series of one ``Point``: only the newest is looked at."""
        pushed = {number: pusher.pushed for number, pusher in self._replicas.items() if pusher.pushed}
        return {name: {number: [points[name]] for number, points in pushed.items()} for name in _NAMES}


class _ReplicaPusher:
    """One replica's two tasks, which begin when it is ready. The push comes first in Serve, so what it carries was
    noted the last time."""

    def __init__(self, replica: SimulatedReplica, now: float, push_s: float, record_s: float, tick_s: float) -> None:
        self.pushed: dict[str, Point] = {}
        self._noted: dict[str, Point] = {}
        self._replica = replica
        self._began_s = now
        self._push_s = push_s
        self._record_s = record_s
        self._tick_s = tick_s

    def run(self, now: float) -> None:
        age_s = now - self._began_s
        if _is_due(age_s, self._push_s, self._tick_s):
            self.pushed = self._noted
        # Of the points that are noted between two pushes only the last one is looked at.
        if _is_due(age_s, self._record_s, self._tick_s) and age_s % self._push_s >= self._push_s - self._record_s:
            report = self._replica.report(now)
            self._noted = {name: Point(now, getattr(report, name)) for name in _NAMES}


def _is_due(now: float, interval_s: float, tick_s: float) -> bool:
    return now % interval_s < tick_s


@contextmanager
def virtual_time(now: Callable[[], float]) -> Iterator[None]:
    """Ray's delays take their time from ``now``."""
    with mock.patch.object(autoscaling_policy, "time", SimpleNamespace(time=now, monotonic=time.monotonic)):
        yield
