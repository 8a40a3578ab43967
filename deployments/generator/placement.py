"""Which replica answers a request: one that has its prompt's beginning in the cache, as long as it has room. Pure.

Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, SODA 2018): a key prefers the replicas in an
order of its own, and takes the first whose load is below ``ceil(bound x mean)``. No replica is asked anything. What is
done otherwise than in the paper, and why:

- The order comes from rendezvous hashing (Thaler and Ravishankar, IEEE/ACM Trans. Networking 6, 1998) and not from a
  ring. Shares are even without virtual nodes (a hundred a replica still leave them 10% apart), what one replica cannot
  take spreads over all others and not over a neighbour, and a replica that comes or goes moves only the keys that it
  wins or had. The price is two multiplications a replica and key.
- A request has two keys (``graph.contracts.PrefixKey``). With the conversation's alone, each replica ends up with each
  long system prompt; with the beginning's alone, the conversations behind a popular one are thrown about by whatever
  is busy at the moment, and lose their histories. So a beginning has the first ``k`` replicas of its order, ``k`` by
  how much of the traffic it has: none of them gets more of it than ``1 / spread`` of a replica's fair share. The
  conversation chooses among those ``k``, always alike. However many beginnings there are, that makes at most
  ``spread`` copies a replica beyond the first of each.
- A replica may always hold ``slack`` requests more than the mean. Between few requests chance differences are large,
  and whoever is sent elsewhere for one loses more than is gained; from ``slack / (bound - 1)`` on, the bound is wider.

Chosen and compared by ``python -m benchmarks.prefix``.
"""

import hashlib
import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from graph.contracts import PrefixKey

_MASK = 2**64 - 1
_WARM_UP = 10
"""Until the window holds 1/10 of its requests, shares are of that tenth: two requests are no half of the traffic."""


class PlacementSettings(BaseModel):
    """``request_router_kwargs`` of the Generator. The defaults were chosen by ``python -m benchmarks.prefix``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bound: Annotated[float, Field(ge=1, le=10)] = 1.28
    """Requests that a replica may hold, as a multiple of the mean over all; beyond it the next one of the order is
    taken. The last one is rounded up, so that 1.28 is 1.3 at 64 requests a replica."""
    slack: NonNegativeInt = 2
    """Requests more than the mean that it may hold even where the bound is below that."""
    spread: Annotated[float, Field(gt=0, le=1000)] = 6.0
    """A prompt's beginning goes to so many replicas that none gets more of it than 1/spread of its fair share of all
    requests. Higher: more even, with more copies in the caches."""
    window: PositiveInt = 1000
    """The last requests of one ingress replica, by which it knows how popular a beginning is."""


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What a router knows of one replica."""

    name: str
    """The same in every process, and never that of another."""
    load: int
    """Requests that it works on, or that are on their way to it."""
    limit: int
    """Requests that it takes at once; it refuses more."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The replicas for one request."""

    names: tuple[str, ...]
    """All of them, the best first."""
    is_at_home: bool
    """The best is the one that the keys choose when nobody is busy."""


class Placement:
    """Ranks replicas for the requests of one ingress replica; remembers how popular each beginning is."""

    def __init__(self, settings: PlacementSettings) -> None:
        self._settings = settings
        self._recent = _Recent(settings.window)

    def count(self, key: PrefixKey) -> None:
        """Says that there is a new request; not for another attempt to place it."""
        self._recent.count(key.beginning)

    def rank(self, key: PrefixKey, replicas: Sequence[ReplicaLoad]) -> Ranking:
        """The replicas with room in the order of the keys, then the others by load.

        Raises:
            ValueError: There are no replicas.
        """
        if not replicas:
            raise ValueError("no replicas to rank")
        settings = self._settings
        share = self._recent.share(key.beginning)
        by_name = {replica.name: replica for replica in replicas}
        order = preference(key, by_name, fan_out(share, len(replicas), settings.spread))
        most = max_load(sum(replica.load for replica in replicas), len(replicas), settings.bound, settings.slack)
        full = {replica.name for replica in replicas if replica.load >= min(most, replica.limit)}
        # The sort is stable: of two that are as full, the one that the keys prefer.
        names = [name for name in order if name not in full]
        names += sorted((name for name in order if name in full), key=lambda name: by_name[name].load)
        return Ranking(tuple(names), names[0] == order[0])


def max_load(total: int, count: int, bound: float, slack: int) -> int:
    """Below this load a replica may be given one request more.

    Args:
        total: Requests at all replicas together, without the one to be placed.
        count: Of replicas, at least 1.
    """
    mean = (total + 1) / count
    return math.ceil(max(bound * mean, mean + slack))


def fan_out(share: float, count: int, spread: float) -> int:
    """How many of ``count`` replicas a beginning has that makes up ``share`` (0..1) of the requests: 1 to ``count``."""
    return min(count, max(1, math.ceil(share * count * spread)))


def preference(key: PrefixKey, names: Iterable[str], copies: int) -> list[str]:
    """All replicas in the order of the keys: the beginning's first ``copies`` by conversation, then its others."""
    by_beginning = _ordered(key.beginning, names)
    return _ordered(key.conversation, by_beginning[:copies]) + by_beginning[copies:]


def _ordered(key: int, names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: _weight(key, name), reverse=True)


def _weight(key: int, name: str) -> int:
    """A number below 2**64 that looks random: the last steps of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    bits = key ^ _seed(name)
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & _MASK
    return bits ^ bits >> 31


@lru_cache(maxsize=4096)
def _seed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


class _Recent:
    """How often each key was among the last ``window``."""

    def __init__(self, window: int) -> None:
        self._keys: deque[int] = deque()
        self._counts: Counter[int] = Counter()
        self._window = window

    def count(self, key: int) -> None:
        self._keys.append(key)
        self._counts[key] += 1
        if len(self._keys) > self._window:
            oldest = self._keys.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    def share(self, key: int) -> float:
        """From 0 to 1."""
        return self._counts[key] / max(len(self._keys), self._window // _WARM_UP, 1)
