"""What one replica tells autoscaling: its engine's load, and times and rates of the last seconds' requests.

Plain data and given times: the Generator feeds it from its clock, ``benchmarks/autoscaling`` from a virtual one.
"""

from collections import deque

from deployments.generator.autoscaling import TTFT_WINDOW_S, ReplicaReport
from graph.contracts import EngineLoad

ARRIVAL_WINDOW_S = 10.0
"""Of arrivals: shorter than that of the rest, since a burst must be seen before it is felt; the policy smooths it."""
_HIGH_SHARE = 0.95


class RecentRequests:
    """Remembers the requests of a window. Times are seconds of one clock and never go back."""

    def __init__(self) -> None:
        self._arrivals: deque[float] = deque()
        self._first_tokens: deque[tuple[float, float]] = deque()
        self._ends: deque[tuple[float, float, int]] = deque()

    def arrived(self, now: float) -> None:
        self._arrivals.append(now)
        self._forget(now)

    def answered(self, now: float, ttft_s: float) -> None:
        """A request got its first token, ``ttft_s`` after it arrived."""
        self._first_tokens.append((now, ttft_s))

    def finished(self, now: float, service_s: float, tokens: int) -> None:
        """A request that got a first token ended, whole or not, ``service_s`` after that."""
        self._ends.append((now, service_s, tokens))

    def report(self, now: float, load: EngineLoad) -> ReplicaReport:
        """Rates are per second of the whole window, also when the replica is younger: only so do the rates of several
        replicas add up to that of all."""
        self._forget(now)
        ttfts = sorted([ttft_s for _, ttft_s in self._first_tokens])
        ends = len(self._ends)
        return ReplicaReport(
            engine_running=load.running_requests,
            engine_waiting=load.waiting_requests,
            queued_tokens=load.queued_tokens,
            kv_usage=load.kv_usage,
            ttft_mean_s=sum(ttfts) / len(ttfts) if ttfts else 0.0,
            ttft_p95_s=ttfts[int(_HIGH_SHARE * (len(ttfts) - 1) + 0.5)] if ttfts else 0.0,
            service_s=sum([service_s for _, service_s, _ in self._ends]) / ends if ends else 0.0,
            arrivals_per_s=len(self._arrivals) / ARRIVAL_WINDOW_S,
            finished_per_s=ends / TTFT_WINDOW_S,
            tokens_per_s=sum([tokens for _, _, tokens in self._ends]) / TTFT_WINDOW_S,
        )

    def _forget(self, now: float) -> None:
        while self._arrivals and self._arrivals[0] <= now - ARRIVAL_WINDOW_S:
            self._arrivals.popleft()
        while self._first_tokens and self._first_tokens[0][0] <= now - TTFT_WINDOW_S:
            self._first_tokens.popleft()
        while self._ends and self._ends[0][0] <= now - TTFT_WINDOW_S:
            self._ends.popleft()
