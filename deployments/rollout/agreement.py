"""Waits until every live replica serves what the aliases say: only then is a promotion or rollback done."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployments.rollout.adapter_store import BASE
from deployments.rollout.replicas import ReplicaState, live_replicas

POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether all replicas agree."""

    agreed: bool
    """True also where no replica runs: the next one starts with the current aliases."""
    replicas: int
    waiting: tuple[str, ...]
    """One line a replica that does not serve it yet: who, and why."""
    seconds: float = 0.0


def serving(root: Path, version: int, adapter: str, now_us: int) -> Agreement:
    """Return whether all live replicas are at ``version`` or later, and all generators have ``adapter`` loaded."""
    replicas = live_replicas(root, now_us)
    waiting = tuple(fault for state in replicas if (fault := _fault(state, version, adapter)))
    return Agreement(not waiting, len(replicas), waiting)


def wait_until_all_serve(
    root: Path,
    version: int,
    adapter: str,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Agreement:
    """Block until `serving` agrees, or for ``timeout_s``; the answer says how long it took and who is missing.

    Args:
        version: Of the aliases after the change.
        adapter: What they must have loaded: the new champion, or the challenger. `BASE` needs no loading.
    """
    began = clock()
    while True:
        agreement = serving(root, version, adapter, now_us())
        waited = clock() - began
        if agreement.agreed or waited >= timeout_s:
            return Agreement(agreement.agreed, agreement.replicas, agreement.waiting, waited)
        sleep(POLL_S)


def _fault(state: ReplicaState, version: int, adapter: str) -> str | None:
    who = f"{state.role} {state.id}"
    if "aliases" in state.problems:
        return f"{who}: {state.problems['aliases']}"
    if state.version < version:
        return f"{who}: still at version {state.version}"
    if state.role == "generator" and adapter != BASE and adapter not in state.loaded:
        return f"{who}: {state.problems.get(adapter, f'has not loaded {adapter[:12]} yet')}"
    return None
