"""What each replica says of itself in the registry's folder, so that whoever promotes knows when all serve it.

    ROOT/replicas/<id>.json    written anew every second by the replica, removed when it ends

A file whose process is gone from this machine, or that another machine has not written for `LIVE_S`, is a replica that
was killed. One that is only late must not be taken for dead: a promotion would be done without it. Needs neither Ray
nor HTTP, so that a promotion by hand sees the same. The nodes' clocks must agree to a second or two.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Role = Literal["generator", "ingress"]
FOLDER = "replicas"
LIVE_S = 6.0
"""Several times the second between two beats: a busy machine is late."""
RUNNING_LIVE_S = 60.0
"""The same where its process still runs here: on a starved machine a beat was seen to be later than `LIVE_S`. Not for
ever, since process ids are used again."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica, as it sees itself."""

    id: str
    role: Role
    version: int
    """Of the aliases that its next request is served by."""
    at_us: int
    loaded: tuple[str, ...] = ()
    """Adapters in its engine; empty for an ingress."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """By adapter (or ``aliases``), why it is not served as it should be."""
    host: str = field(default_factory=lambda: this_host())
    """Where its ``pid`` means something; see `this_host`."""
    pid: int = field(default_factory=os.getpid)


def this_host() -> str:
    """Name the place whose process ids are ours: the machine, and in it the container (its PID namespace).

    Containers often share the machine's name but not its process ids: by name alone, a promotion from outside would
    take the replicas inside for dead.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {namespace}".rstrip()


def write_state(root: Path, state: ReplicaState) -> None:
    """Replace this replica's file. Not synced: after a crash of the machine no replica is there.

    Raises:
        OSError: The disk is full, or fails.
    """
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{state.id}.json"
    temporary = folder / f".{state.id}.tmp"
    temporary.write_text(json.dumps(asdict(state)))
    temporary.rename(path)


def remove_state(root: Path, replica_id: str) -> None:
    """Take the file away, if it is there."""
    with suppress(OSError):
        (root / FOLDER / f"{replica_id}.json").unlink(missing_ok=True)


def live_replicas(root: Path, now_us: int) -> list[ReplicaState]:
    """Return the replicas that are there, by role and id; files of those that were killed are passed over."""
    return sorted(
        (state for state in _states(root) if _is_live(state, now_us)), key=lambda state: (state.role, state.id)
    )


def sweep(root: Path, now_us: int) -> None:
    """Remove files of replicas that were killed."""
    for state in _states(root):
        if not _is_live(state, now_us):
            remove_state(root, state.id)


def _states(root: Path) -> Iterator[ReplicaState]:
    for path in (root / FOLDER).glob("*.json"):
        # Gone since it was listed, or written by a version that says more or less.
        with suppress(OSError, ValueError, TypeError, KeyError):
            said = json.loads(path.read_text())
            state = ReplicaState(**{**said, "loaded": tuple(said["loaded"]), "problems": dict(said["problems"])})
            if state.id == path.stem and all(isinstance(n, int) for n in (state.version, state.at_us, state.pid)):
                yield state


def _is_live(state: ReplicaState, now_us: int) -> bool:
    is_here = state.host == this_host()
    if now_us - state.at_us > (RUNNING_LIVE_S if is_here else LIVE_S) * 1e6:
        return False
    return not is_here or _is_running(state.pid)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
