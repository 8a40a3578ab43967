"""What one simulated replica can do at once: places, a pace that falls with them, prefill, and memory."""

import asyncio
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt


class SimulatedCapacity(BaseModel):
    """``engine.simulated.capacity``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_running: PositiveInt
    """Requests that decode at once; the rest wait, first come, first served."""
    slowdown: NonNegativeFloat = 0.0
    """By how much each further running request lengthens the interval between tokens, as a share of ``token_s``."""
    prompt_token_s: NonNegativeFloat = 0.0
    """Seconds of prefill for each prompt token, on top of ``first_token_s``."""
    kv_tokens: PositiveInt | None = None
    """Tokens of prompts and answers that the KV cache holds. Its use is reported, and holds nobody back. None: it is
    reported as 0."""


def token_interval_s(token_s: float, capacity: SimulatedCapacity, running: int) -> float:
    """Seconds between two tokens of a request while ``running`` of them decode."""
    return token_s * (1 + capacity.slowdown * (running - 1))


@dataclass(eq=False, slots=True)
class Place:
    """One running request, and the tokens of prompt and answer that it keeps in memory."""

    tokens: int


class Places:
    """The running requests, and those that wait for them. In one event loop."""

    def __init__(self, capacity: SimulatedCapacity) -> None:
        self.capacity = capacity
        self.waiting = 0
        self._free = asyncio.Semaphore(capacity.max_running)  # wakes its waiters in the order in which they came
        self._taken: set[Place] = set()

    @property
    def running(self) -> int:
        return len(self._taken)

    @property
    def kv_usage(self) -> float:
        """0..1."""
        if self.capacity.kv_tokens is None:
            return 0.0
        return min(1.0, sum(place.tokens for place in self._taken) / self.capacity.kv_tokens)

    async def take(self, prompt_tokens: int) -> Place:
        """Waits for a place. It belongs to the caller until ``leave``."""
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        place = Place(prompt_tokens)
        self._taken.add(place)
        return place

    def leave(self, place: Place) -> None:
        self._taken.remove(place)
        self._free.release()
