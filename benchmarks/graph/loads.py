"""The loads on a server whose engine only keeps time, and what is read off each."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contestants.process import Server
from benchmarks.load_prompts import bodies
from benchmarks.record import quantile
from benchmarks.streams import Answer, keep_asking

TOKENS = 64


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is measured, once all is warm, and the CPU that was burnt in it. Seconds."""

    begin: float
    end: float
    server_cpu_s: float
    client_cpu_s: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def holds(self, at: float) -> bool:
        return self.begin <= at < self.end


@dataclass(frozen=True, slots=True)
class Load:
    """So many users; each asks again as soon as it has its answer."""

    name: str
    users: int
    streamed: bool


WHOLE = Load("whole", 32, False)
STREAMS = (Load("64 streams", 64, True), Load("128 streams", 128, True))


async def measure(server: Server, load: Load, seed: int, warm_s: float, seconds: float) -> dict[str, Any]:
    """One load on one server; the figures of its window."""
    asked = bodies(server.model, seed, streamed=load.streamed, tokens=TOKENS)
    answers, window = await asyncio.gather(
        keep_asking(server.url, asked, load.users, warm_s + seconds), _watch(server, warm_s, seconds)
    )
    return (figures_of_streams if load.streamed else figures_of_whole)(answers, window)


async def _watch(server: Server, warm_s: float, seconds: float) -> Window:
    await asyncio.sleep(warm_s)
    # In a thread: looking through all processes takes a while, in which answers would wait to be read.
    cpu_s = await asyncio.to_thread(server.cpu_s)
    begin, client_s = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    end, client_end_s = time.perf_counter(), time.process_time()
    return Window(begin, end, await asyncio.to_thread(server.cpu_s) - cpu_s, client_end_s - client_s)


def figures_of_streams(answers: Sequence[Answer], window: Window) -> dict[str, Any]:
    """Tokens are counted when their delta arrives; an answer's are spread evenly over its deltas. A gap lies between
    two arrivals of the same answer: what arrives together has none. ``close`` is from the last text to the end."""
    good = [answer for answer in answers if answer.failure is None]
    tokens, gaps, deltas, arrivals = 0.0, [], 0, 0
    for answer in good:
        inside = sum(map(window.holds, answer.arrivals))
        share = inside / len(answer.arrivals)
        tokens += answer.tokens * share
        deltas += round(answer.deltas * share)
        arrivals += inside
        gaps += [
            later - earlier
            for earlier, later in zip(answer.arrivals, answer.arrivals[1:], strict=False)
            if window.holds(later)
        ]
    firsts = [answer.first_s for answer in good if window.holds(answer.began)]
    closes = [answer.ended - answer.arrivals[-1] for answer in good if window.holds(answer.ended)]
    return {
        "tokens_per_s": round(tokens / window.seconds, 1),
        "ttft_p50_ms": round(quantile(firsts, 0.5) * 1e3, 1),
        "ttft_p99_ms": round(quantile(firsts, 0.99) * 1e3, 1),
        "gap_p50_ms": round(quantile(gaps, 0.5) * 1e3, 1),
        "gap_p99_ms": round(quantile(gaps, 0.99) * 1e3, 1),
        "close_p50_ms": round(quantile(closes, 0.5) * 1e3, 1),
        "tokens_per_delta": round(tokens / deltas, 2),
        "cpu_ms_per_1000_tokens": round(window.server_cpu_s / tokens * 1e6, 1),
        "client_cpu_ms_per_1000_tokens": round(window.client_cpu_s / tokens * 1e6, 1),
        **_outcomes(answers),
    }


def figures_of_whole(answers: Sequence[Answer], window: Window) -> dict[str, Any]:
    """Answers are counted when they are there."""
    inside = [answer for answer in answers if answer.failure is None and window.holds(answer.ended)]
    tokens = sum(answer.tokens for answer in inside)
    times = [answer.ended - answer.began for answer in inside]
    return {
        "requests_per_s": round(len(inside) / window.seconds, 1),
        "latency_p50_ms": round(quantile(times, 0.5) * 1e3, 1),
        "latency_p99_ms": round(quantile(times, 0.99) * 1e3, 1),
        "cpu_ms_per_request": round(window.server_cpu_s / len(inside) * 1e3, 2),
        "cpu_ms_per_1000_tokens": round(window.server_cpu_s / tokens * 1e6, 1),
        "client_cpu_ms_per_request": round(window.client_cpu_s / len(inside) * 1e3, 2),
        **_outcomes(answers),
    }


def _outcomes(answers: Sequence[Answer]) -> dict[str, Any]:
    failures = [answer.failure for answer in answers if answer.failure is not None]
    return {
        "answers": len(answers),
        "failed": len(failures),
        "first_failure": failures[0] if failures else None,
        "outcomes": dict(sorted(Counter(a.outcome for a in answers if a.outcome is not None).items())),
    }
