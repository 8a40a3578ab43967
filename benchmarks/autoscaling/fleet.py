"""A fleet of simulated engines in virtual time: what ``SimulatedEngine`` with a capacity does, without waiting for it.

Running requests share a replica: at ``n`` of them each gets a token every ``token_s * (1 + slowdown * (n - 1))``. So
one progress, in tokens, serves them all, and the next end is where the least of their goals is reached: an event a
request instead of one a token.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.autoscaling.traffic import Request
from deployments.generator.autoscaling import ReplicaReport
from deployments.generator.recent_requests import RecentRequests
from deployments.generator.simulated_capacity import SimulatedCapacity, token_interval_s
from graph.contracts import EngineLoad


@dataclass(frozen=True, slots=True)
class EngineModel:
    """One replica, as ``engine.simulated`` describes it, and Serve's limit on what it is given."""

    first_token_s: float
    token_s: float
    start_s: float
    capacity: SimulatedCapacity
    max_ongoing_requests: int

    def paces_s(self) -> list[float]:
        """Seconds between two tokens of a request, by the number of requests that run."""
        numbers = range(self.capacity.max_running + 1)
        return [token_interval_s(self.token_s, self.capacity, number) for number in numbers]

    def described(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "capacity": self.capacity.model_dump()}


class SimulatedReplica:
    """One engine: running requests, those that wait for a place, and what it would report."""

    __slots__ = (
        "_ends", "_joined", "_model", "_paces_s", "_progress", "_prompts", "_recent", "_updated_s", "_waiting",
        "announced", "number", "ordered_s", "state", "version",
    )  # fmt: skip

    def __init__(self, number: int, ordered_s: float, model: EngineModel, paces_s: Sequence[float]) -> None:
        self.number = number
        self.ordered_s = ordered_s
        self.state: Literal["starting", "running", "draining", "gone"] = "starting"
        self.version = 0
        """Of ``next_end_s``: one that was announced before is void when this has changed."""
        self.announced = 0
        self._model = model
        self._paces_s = paces_s
        self._recent = RecentRequests()
        self._ends: list[tuple[float, float, float, int, int]] = []
        self._waiting: deque[tuple[float, Request]] = deque()
        self._progress = 0.0
        self._joined = 0.0
        self._prompts = 0
        self._updated_s = 0.0

    @property
    def ongoing(self) -> int:
        return len(self._ends) + len(self._waiting)

    def take(self, now: float, request: Request) -> list[float]:
        """A request comes from the router. Returns the times to first token, since arrival at the service, of
        requests that began by it."""
        self._recent.arrived(now)
        self._waiting.append((now, request))
        return self._begin_waiting(now)

    def end_one(self, now: float) -> list[float]:
        """The request ends whose turn it was. Returns as ``take`` does."""
        self._advance(now)
        _, joined, began_s, prompt_tokens, tokens = heapq.heappop(self._ends)
        self._joined -= joined
        self._prompts -= prompt_tokens
        self._recent.finished(now, now - began_s, tokens)
        self.version += 1
        return self._begin_waiting(now)

    def next_end_s(self, now: float) -> float | None:
        """When the next request ends, if nothing else happens; None: it is idle."""
        if not self._ends:
            return None
        self._advance(now)
        return now + max(0.0, self._ends[0][0] - self._progress) * self._paces_s[len(self._ends)]

    def report(self, now: float) -> ReplicaReport:
        """What ``Generator.record_autoscaling_stats`` would return."""
        self._advance(now)
        held = self._prompts + len(self._ends) * self._progress - self._joined
        load = EngineLoad(
            running_requests=len(self._ends),
            queued_tokens=sum([request.prompt_tokens for _, request in self._waiting]),
            waiting_requests=len(self._waiting),
            kv_usage=min(1.0, held / (self._model.capacity.kv_tokens or math.inf)),
        )
        return self._recent.report(now, load)

    def _begin_waiting(self, now: float) -> list[float]:
        ttfts = []
        while self._waiting and len(self._ends) < self._model.capacity.max_running:
            arrived_s, request = self._waiting.popleft()
            self._advance(now)
            prefill_s = self._model.first_token_s + request.prompt_tokens * self._model.capacity.prompt_token_s
            # Prefill counts as the tokens that the others get meanwhile: not worth an event of its own.
            goal = self._progress + request.output_tokens - 1 + prefill_s / self._paces_s[len(self._ends) + 1]
            began = (goal, self._progress, now + prefill_s, request.prompt_tokens, request.output_tokens)
            heapq.heappush(self._ends, began)
            self._joined += self._progress
            self._prompts += request.prompt_tokens
            self._recent.answered(now, now + prefill_s - arrived_s)
            self.version += 1
            ttfts.append(now + prefill_s - request.at_s)
        return ttfts

    def _advance(self, now: float) -> None:
        if self._ends:
            self._progress += (now - self._updated_s) / self._paces_s[len(self._ends)]
        self._updated_s = now


class Fleet:
    """Replicas behind Serve's router: of two replicas taken by chance the less busy one, one that has room where
    those have none, and a queue at the caller where none has."""

    def __init__(self, model: EngineModel, max_queued: int, seed: int) -> None:
        self.now = 0.0
        self.ttfts: list[float] = []
        self.refused = 0
        """Requests beyond ``max_queued_requests``, which are answered 503."""
        self.replica_s = 0.0
        """Seconds of replicas that are gone, from order to end."""
        self.queue: deque[Request] = deque()
        self.starting: list[SimulatedReplica] = []
        self.running: list[SimulatedReplica] = []
        self._draining: set[SimulatedReplica] = set()
        self._model = model
        self._paces_s = model.paces_s()
        self._max_queued = max_queued
        self._rng = random.Random(seed)
        self._numbers = 0
        self._events: list[tuple[float, int, int, SimulatedReplica]] = []

    @property
    def target(self) -> int:
        return len(self.starting) + len(self.running)

    def order(self, replicas: int) -> None:
        """Starts or stops replicas, as Serve does: those that still start go first, then the youngest; one that runs
        finishes what it began."""
        while self.target < replicas:
            replica = SimulatedReplica(self._numbers, self.now, self._model, self._paces_s)
            self._numbers += 1
            self.starting.append(replica)
            heapq.heappush(self._events, (self.now + self._model.start_s, replica.number, 0, replica))
        while self.target > replicas:
            if self.starting:
                self._end(self.starting.pop())
                continue
            replica = self.running.pop()
            replica.state = "draining"
            if replica.ongoing:
                self._draining.add(replica)
            else:
                self._end(replica)

    def run_until(self, end_s: float, requests: Sequence[Request], index: int) -> int:
        """All events before ``end_s``. Takes ``requests`` from ``index`` on; returns the index of the next one."""
        events = self._events
        while True:
            at_s = requests[index].at_s if index < len(requests) else math.inf
            if events and events[0][0] <= at_s:
                if events[0][0] >= end_s:
                    break
                self.now, _, version, replica = heapq.heappop(events)
                if replica.state == "starting":
                    self._make_ready(replica)
                elif version == replica.version and replica.state != "gone":
                    self._follow(replica, replica.end_one(self.now))
            elif at_s < end_s:
                self.now = at_s
                self._route(requests[index])
                index += 1
            else:
                break
        self.now = end_s
        return index

    def total_replica_s(self) -> float:
        """Seconds of all replicas so far, starting and draining included."""
        alive = [*self.starting, *self.running, *self._draining]
        return self.replica_s + sum(self.now - replica.ordered_s for replica in alive)

    def _make_ready(self, replica: SimulatedReplica) -> None:
        self.starting.remove(replica)
        replica.state = "running"
        self.running.append(replica)
        while self.queue and replica.ongoing < self._model.max_ongoing_requests:
            self._follow(replica, replica.take(self.now, self.queue.popleft()))

    def _route(self, request: Request) -> None:
        limit = self._model.max_ongoing_requests
        replicas = self.running
        if len(replicas) > 2:
            one = self._rng.randrange(len(replicas))
            other = (one + 1 + self._rng.randrange(len(replicas) - 1)) % len(replicas)
            chosen = min(replicas[one], replicas[other], key=lambda replica: replica.ongoing)
            if chosen.ongoing >= limit:
                chosen = min(replicas, key=lambda replica: replica.ongoing)
        elif replicas:
            chosen = min(replicas, key=lambda replica: replica.ongoing)
        if replicas and chosen.ongoing < limit:
            self._follow(chosen, chosen.take(self.now, request))
        elif len(self.queue) < self._max_queued:
            self.queue.append(request)
        else:
            self.refused += 1

    def _follow(self, replica: SimulatedReplica, ttfts: list[float]) -> None:
        """After anything that happened to a replica: what began, what comes next, who else may come in."""
        self.ttfts += ttfts
        if replica.state == "draining":
            if not replica.ongoing:
                self._draining.discard(replica)
                self._end(replica)
                return
        else:
            while self.queue and replica.ongoing < self._model.max_ongoing_requests:
                self.ttfts += replica.take(self.now, self.queue.popleft())
        next_s = replica.next_end_s(self.now)
        if next_s is not None and replica.announced != replica.version:
            replica.announced = replica.version
            heapq.heappush(self._events, (next_s, replica.number, replica.version, replica))

    def _end(self, replica: SimulatedReplica) -> None:
        replica.state = "gone"
        self.replica_s += self.now - replica.ordered_s
