"""Which adapter is served in which part, and the moves from one state of these aliases to the next. Pure.

    champion, challenger, previous = C, X, P
      promote X   ->  X, none, C
      roll back   ->  C, none, X      the inverse; X can be promoted again, and a second roll back is refused

A move refuses what the state forbids. It leaves version and history alone: the registry counts and records changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from deployments.rollout.adapter_store import BASE, GateRecord
from graph.errors import Conflict

ALIASES = "aliases.json"
HISTORY_CHANGES = 1000
"""Kept in the aliases' file; all of them are events in the feedback log."""
MAX_REASON_CHARS = 2000

Action = Literal["set_challenger", "set_share", "clear_challenger", "promote", "roll_back"]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history: what was done, and the aliases after it."""

    version: int
    action: Action
    adapter: str
    """What the action was about: the adapter, or `BASE`."""
    champion: str
    challenger: str | None
    previous: str | None
    share: float
    at_us: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Aliases:
    """Which adapter plays which part; each is an adapter's name or, but for the challenger, may be `BASE`."""

    version: int = 0
    champion: str = BASE
    challenger: str | None = None
    previous: str | None = None
    """What a rollback would serve; None: nothing was promoted yet."""
    share: float = 0.0
    """Of the traffic that the challenger answers, from 0 to 1; 0: only the gate and its likes reach it."""
    rolled_back: bool = False
    """Whether the champion is what a rollback brought back."""
    history: tuple[Change, ...] = ()
    """Oldest first, the newest `HISTORY_CHANGES`."""

    @property
    def resident(self) -> tuple[str, ...]:
        """Adapters that every replica keeps loaded."""
        named = (self.champion, self.challenger, self.previous)
        return tuple(dict.fromkeys(name for name in named if name is not None and name != BASE))


def with_challenger(now: Aliases, adapter: str) -> Aliases:
    """Make an adapter the challenger, without traffic yet.

    Raises:
        Conflict: Another adapter is the challenger, or this one is the champion.
    """
    if now.challenger not in (None, adapter):
        raise Conflict(
            f"The challenger is {now.challenger}; promote it or clear it before {adapter} can take its place."
        )
    if now.champion == adapter:
        raise Conflict(f"The adapter {adapter} is the champion already; there is nothing to challenge.")
    return now if now.challenger == adapter else replace(now, challenger=adapter, share=0.0)


def with_share(now: Aliases, share: float) -> Aliases:
    """Give the challenger this share of the traffic, from 0 to 1.

    Raises:
        Conflict: There is no challenger.
    """
    if now.challenger is None:
        raise Conflict("There is no challenger to give traffic to; name one: python -m training canary")
    return replace(now, share=share)


def without_challenger(now: Aliases) -> Aliases:
    """Take the challenger away.

    Raises:
        Conflict: There is no challenger.
    """
    if now.challenger is None:
        raise Conflict("There is no challenger to clear.")
    return replace(now, challenger=None, share=0.0)


def promoted(now: Aliases, adapter: str, gates: Sequence[GateRecord], ungated: bool) -> Aliases:
    """Make the challenger, or previous, champion and the champion previous.

    Args:
        now: Before.
        adapter: The challenger, or previous.
        gates: All of the adapter's, oldest first.
        ungated: Promote it whatever they say.

    Raises:
        Conflict: The adapter is neither, or its last gate against this champion did not pass or never ran.
    """
    if adapter not in (now.challenger, now.previous):
        raise Conflict(
            f"The adapter {adapter} is neither challenger ({now.challenger or 'none'}) nor previous "
            f"({now.previous or 'none'}); make it the challenger first."
        )
    if not ungated:
        _check_gate(adapter, [gate for gate in gates if gate.champion == now.champion], now.champion)
    challenger = None if now.challenger == adapter else now.challenger
    return replace(
        now,
        champion=adapter,
        challenger=challenger,
        previous=now.champion,
        share=0.0,
        rolled_back=False,
    )


def rolled_back(now: Aliases) -> Aliases:
    """Bring the previous champion back: the inverse of `promoted`.

    Raises:
        Conflict: Nothing was promoted yet, or the champion is itself what a rollback brought back.
    """
    if now.previous is None:
        raise Conflict(f"Nothing was promoted yet, so there is nothing to roll back to; serving {now.champion}.")
    if now.rolled_back:
        raise Conflict(
            f"It was rolled back already: {now.champion} is served and {now.previous} was taken back. "
            f"To serve that one again, promote it."
        )
    # A canary was compared with the champion that goes: it gets no more traffic.
    challenger = None if now.challenger == now.previous else now.challenger
    return replace(
        now,
        champion=now.previous,
        challenger=challenger,
        previous=now.champion,
        share=0.0,
        rolled_back=True,
    )


def _check_gate(adapter: str, gates: list[GateRecord], champion: str) -> None:
    if not gates:
        raise Conflict(
            f"The gate has not compared {adapter} with the champion, {champion}; run: python -m training gate"
        )
    if not gates[-1].passed:
        reasons = gates[-1].report.get("reasons", ())
        raise Conflict(f"The gate did not pass {adapter} against {champion}: {'; '.join(reasons) or 'see its card'}")
