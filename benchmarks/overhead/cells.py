"""The cells of the comparison: so many users, streamed or not, and what is read off their answers."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contestants.process import Server
from benchmarks.load_prompts import bodies
from benchmarks.record import quantile
from benchmarks.streams import Answer, ask_all

TOKENS = 64
"""Of each answer."""
ANSWERS_PER_USER = 2
LEAST_ANSWERS = 6


@dataclass(frozen=True, slots=True)
class Cell:
    """So many users; each asks again as soon as it has its answer."""

    users: int
    streamed: bool

    @property
    def name(self) -> str:
        return f"{self.users} {'streamed' if self.streamed else 'whole'}"

    @property
    def answers(self) -> int:
        """The same for every contestant, so that all do the same work: the time is what differs."""
        return max(LEAST_ANSWERS, ANSWERS_PER_USER * self.users)


async def measure(server: Server, cell: Cell, seed: int, tokens: int = TOKENS) -> dict[str, Any]:
    """Figures of one cell. No two seeds share a question, nor do two cells of one."""
    asked = itertools.islice(bodies(server.model, seed, streamed=cell.streamed, tokens=tokens), cell.answers)
    cpu_s = server.cpu_s()
    answers = await ask_all(server.url, list(asked), cell.users)
    return figures_of(answers, server.cpu_s() - cpu_s)


async def warm_up(server: Server, users: int, seed: int) -> None:
    """Answers that nobody counts: two alone, then as many at once as will be measured.

    Raises:
        RuntimeError: One of them failed.
    """
    for number, at_once in enumerate((1, users)):
        for streamed in (True, False):
            asked = bodies(server.model, seed + number, streamed=streamed, tokens=16)
            for answer in await ask_all(server.url, list(itertools.islice(asked, at_once)), at_once):
                if answer.failure is not None:
                    raise RuntimeError(f"{server.url} does not answer: {answer.failure}")


def figures_of(answers: Sequence[Answer], cpu_s: float) -> dict[str, Any]:
    """Of one cell; ``cpu_s`` is what the server's processes burnt meanwhile."""
    good = [answer for answer in answers if answer.failure is None]
    failures = [answer.failure for answer in answers if answer.failure is not None]
    wall_s = max(answer.ended for answer in answers) - min(answer.began for answer in answers)
    tokens = sum(answer.tokens for answer in good)
    firsts = [answer.first_s for answer in good if answer.arrivals]
    return {
        "tokens_per_s": round(tokens / wall_s, 2),
        "ttft_p50_ms": round(quantile(firsts, 0.5) * 1e3, 1) if firsts else None,
        "latency_p50_s": round(quantile([a.ended - a.began for a in good], 0.5), 3) if good else None,
        "tokens": tokens,
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "tokens_per_delta": round(sum(a.tokens for a in good) / deltas, 2) if (deltas := _deltas(good)) else None,
        "failed": len(failures),
        "first_failure": failures[0] if failures else None,
        "outcomes": dict(sorted(Counter(a.outcome for a in good if a.outcome is not None).items())),
    }


def _deltas(answers: Sequence[Answer]) -> int:
    return sum(answer.deltas for answer in answers)
