"""Ways to choose a replica: Rheostat's, halves of it, and what Ray Serve ships. Each sees a request's key and loads."""

import bisect
import hashlib
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from deployments.generator.placement import Placement, PlacementSettings, ReplicaLoad
from graph.contracts import PrefixKey

VIRTUAL_NODES = 100
"""Of a replica, as in ``ray.serve.experimental.consistent_hash_router``."""
KeyPart = Callable[[PrefixKey], int]
PREFIX, POWER_OF_TWO = "prefix", "power of two"
STRICT_BY_CONVERSATION = "strict ring, by conversation"
ALL_CACHES, ONE_CACHE = "one replica, all caches as one", "one replica, one cache"
"""Names in tables and records."""


class Policy(Protocol):
    """One router's. ``loads`` is what that router knows of each replica."""

    def choose(self, key: PrefixKey, loads: Sequence[int]) -> int: ...


class Prefix:
    """Rheostat's own, as the Generator's router has it.

    Args:
        part: In place of the two keys this one of them alone; None: both.
    """

    def __init__(
        self, names: Sequence[str], settings: PlacementSettings, limit: int, part: KeyPart | None = None
    ) -> None:
        self._names = names
        self._limit = limit
        self._placement = Placement(settings)
        self._part = part

    def choose(self, key: PrefixKey, loads: Sequence[int]) -> int:
        if self._part is not None:
            key = PrefixKey(self._part(key), self._part(key))
        self._placement.count(key)
        known = [ReplicaLoad(name, load, self._limit) for name, load in zip(self._names, loads, strict=True)]
        return self._names.index(self._placement.rank(key, known).names[0])


class StrictRing:
    """Consistent hashing without a bound: where Ray's ``ConsistentHashRouter`` sends a request that is not refused."""

    def __init__(self, names: Sequence[str], part: KeyPart) -> None:
        self._part = part
        points = sorted((_hash(f"{name}:{node}"), at) for at, name in enumerate(names) for node in range(VIRTUAL_NODES))
        self._places = [place for place, _ in points]
        self._owners = [at for _, at in points]

    def choose(self, key: PrefixKey, loads: Sequence[int]) -> int:
        return self._owners[bisect.bisect_right(self._places, _hash(str(self._part(key)))) % len(self._owners)]


class PowerOfTwo:
    """Of two replicas at random the less busy: Ray Serve's default."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def choose(self, key: PrefixKey, loads: Sequence[int]) -> int:
        first, second = self._rng.sample(range(len(loads)), 2)
        return first if loads[first] <= loads[second] else second


class RoundRobin:
    """One replica after the other."""

    def __init__(self) -> None:
        self._turns = itertools.count()

    def choose(self, key: PrefixKey, loads: Sequence[int]) -> int:
        return next(self._turns) % len(loads)


class OnlyOne:
    """For a service of one replica."""

    def choose(self, key: PrefixKey, loads: Sequence[int]) -> int:
        return 0


def all_policies(
    names: Sequence[str], settings: PlacementSettings, limit: int, seed: int
) -> Mapping[str, Callable[[], Policy]]:
    """By name, what makes one router's."""
    rng = random.Random(seed)
    return {
        PREFIX: lambda: Prefix(names, settings, limit),
        "bounded, by conversation": lambda: Prefix(names, settings, limit, lambda key: key.conversation),
        "bounded, by beginning": lambda: Prefix(names, settings, limit, lambda key: key.beginning),
        STRICT_BY_CONVERSATION: lambda: StrictRing(names, lambda key: key.conversation),
        "strict ring, by beginning": lambda: StrictRing(names, lambda key: key.beginning),
        POWER_OF_TWO: lambda: PowerOfTwo(random.Random(rng.random())),
        "round robin": RoundRobin,
    }


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
