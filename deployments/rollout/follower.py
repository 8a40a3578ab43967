"""Follows the registry's aliases from a thread of its own, and tells the registry that this replica is there.

Reading is a stat of one small file every tenth of a second. A thread, because a change must arrive also while the
event loop is busy. What cannot be read changes nothing: the replica goes on with the aliases it knows.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from deployments.rollout.aliases import ALIASES, Aliases
from deployments.rollout.registry import Registry
from deployments.rollout.replicas import ReplicaState, Role, remove_state, sweep, write_state
from graph.errors import RheostatError

logger = logging.getLogger(__name__)
POLL_S = 0.1
BEAT_S = 1.0


class AliasFollower:
    """One replica's view of the registry.

    Args:
        root: The registry's folder; may not exist yet.
        role: What this replica is.
        on_change: Called from the thread, with the new aliases. None: their version counts as served at once; else it
            counts once `report` says so.
    """

    def __init__(self, root: Path, role: Role, on_change: Callable[[Aliases], None] | None = None) -> None:
        self._root = root
        self._registry = Registry(root)
        self._role = role
        self._on_change = on_change
        self._id = f"{role}-{uuid.uuid4().hex[:12]}"
        self._aliases = Aliases()
        self._seen: tuple[int, int, int] | None = None
        self._served = 0
        self._loaded: tuple[str, ...] = ()
        self._problems: dict[str, str] = {}
        self._aliases_problem: str | None = None
        self._beat_at = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.refresh()

    @property
    def aliases(self) -> Aliases:
        """The newest that could be read."""
        return self._aliases

    def start(self) -> None:
        """Follows until `stop`; from here on the replica counts as there."""
        sweep(self._root, time.time_ns() // 1000)
        self._thread = threading.Thread(target=self._run, name="alias-follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The replica is gone from here on. May be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        # With the lock: a `report` of another thread may be writing just now. Also what was reported before `start`.
        with self._lock:
            remove_state(self._root, self._id)

    def report(self, version: int, loaded: tuple[str, ...], problems: Mapping[str, str]) -> None:
        """Say what this replica serves now."""
        self._served, self._loaded, self._problems = version, loaded, dict(problems)
        self._write()

    def refresh(self) -> bool:
        """Read the aliases if their file changed; True if they did."""
        try:
            found = os.stat(self._root / ALIASES)
        except OSError:
            return False
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return False
        try:
            aliases = self._registry.aliases()
        except (RheostatError, OSError) as error:
            if self._aliases_problem is None:
                logger.error("the aliases cannot be read; serving goes on as before: %s", error)
            self._aliases_problem = str(error)
            return False
        self._seen, self._aliases_problem = seen, None
        is_new = aliases.version != self._aliases.version
        self._aliases = aliases
        if self._on_change is None:
            self._served = aliases.version
        return is_new

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                if self.refresh():
                    if self._on_change is None:
                        self._write()
                    else:
                        self._on_change(self._aliases)
                elif time.monotonic() - self._beat_at >= BEAT_S:
                    self._write()
            except Exception:
                # Whatever it is, following must go on, and answering with it.
                logger.exception("following the registry failed")

    def _write(self) -> None:
        problems = self._problems | ({"aliases": self._aliases_problem} if self._aliases_problem else {})
        with self._lock:
            if self._stop.is_set():
                return
            self._beat_at = time.monotonic()
            state = ReplicaState(self._id, self._role, self._served, time.time_ns() // 1000, self._loaded, problems)
            try:
                write_state(self._root, state)
            except OSError as error:
                logger.error("this replica cannot say that it is there: %s", error)
