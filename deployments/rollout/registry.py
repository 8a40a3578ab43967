"""The registry: adapters that never change, and the aliases that say which of them is served.

    ROOT/adapters/                      see `adapter_store`
         aliases.json                   champion, challenger, previous, and their history; the only truth
         adapters.lock, aliases.lock    flocks: the kernel frees them when their holder ends, by whatever end

Aliases change by compare-and-swap: the caller says which version it decided upon, and if another one came first
nothing happens but a `Conflict`. Each change is one atomic rename: a crash leaves the old state or the new one.
Readers take no lock. Writers must share a file system whose flock holds between them: one machine, or NFS from v4 on.

Knows nothing of Ray, vLLM or HTTP. The command line, the admin route and the canary's monitor write, replicas read.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from deployments.feedback.files import FileLayer, LocalFiles
from deployments.rollout.adapter_store import ADAPTER_NAME, BASE, AdapterStore
from deployments.rollout.aliases import (
    ALIASES,
    HISTORY_CHANGES,
    MAX_REASON_CHARS,
    Action,
    Aliases,
    Change,
    promoted,
    rolled_back,
    with_challenger,
    with_share,
    without_challenger,
)
from deployments.rollout.registry_files import RegistryFiles, decode, encode
from graph.errors import Conflict, InternalError, InvalidRequest


class Registry(AdapterStore):
    """Adapters and aliases below one folder. Any number of objects and processes may share it.

    Args:
        root: Made at the first registration or change if missing.
        files: How it is written; None: the real file system.
        lock_wait_s: How long a change waits for another one, which takes milliseconds.
        clock: Monotonic seconds, for that wait.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        root: Path,
        files: FileLayer | None = None,
        lock_wait_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(RegistryFiles(root, files or LocalFiles(), lock_wait_s, clock, sleep))

    def aliases(self) -> Aliases:
        """Return the current aliases; before the first change, the base model is champion. Takes no lock.

        Raises:
            InternalError: The file is damaged. Whoever serves goes on with the aliases it knows.
        """
        path = self._root / ALIASES
        try:
            stated = decode(path.read_bytes())
            aliases = Aliases(**{**stated, "history": tuple(Change(**change) for change in stated["history"])})
            for name in (aliases.champion, aliases.challenger, aliases.previous):
                if name is not None and name != BASE and not ADAPTER_NAME.fullmatch(name):
                    raise ValueError(f"{name!r} is no adapter's name")
            return aliases
        except FileNotFoundError:
            return Aliases()
        except (KeyError, TypeError, ValueError) as error:
            raise InternalError(
                f"The aliases {path} cannot be trusted: {error}. Restore the file from a copy; what is served stays."
            ) from error

    def set_challenger(self, adapter: str, *, expected_version: int, now_us: int, by: str, reason: str = "") -> Aliases:
        """Make a registered adapter the challenger, so that replicas load it. Returns the new aliases.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, another adapter is the challenger, or this one
                is the champion.
            InvalidRequest, NotFound, InternalError: As `verify` does.
            Unavailable: Another change takes too long.
        """
        self.verify(adapter)
        return self._change(
            "set_challenger",
            lambda now: adapter,
            lambda now: with_challenger(now, adapter),
            expected_version,
            now_us,
            by,
            reason,
        )

    def set_share(self, share: float, *, expected_version: int, now_us: int, by: str, reason: str = "") -> Aliases:
        """Give the challenger this share of the traffic. Returns the new aliases.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, or there is no challenger.
            InvalidRequest: The share is not from 0 to 1.
            Unavailable: Another change takes too long.
        """
        if not 0 <= share <= 1:
            raise InvalidRequest(f"The share is {share}; it must be from 0 to 1, such as 0.05.", param="share")
        return self._change(
            "set_share",
            lambda now: now.challenger or "",
            lambda now: with_share(now, share),
            expected_version,
            now_us,
            by,
            reason,
        )

    def clear_challenger(self, *, expected_version: int, now_us: int, by: str, reason: str = "") -> Aliases:
        """Take the challenger away: its canary failed, or nobody wants it. Returns the new aliases.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, or there is no challenger.
            Unavailable: Another change takes too long.
        """
        return self._change(
            "clear_challenger",
            lambda now: now.challenger or "",
            without_challenger,
            expected_version,
            now_us,
            by,
            reason,
        )

    def promote(
        self, adapter: str, *, expected_version: int, now_us: int, by: str, reason: str = "", ungated: bool = False
    ) -> Aliases:
        """Make the challenger champion and the champion previous, in one step. Returns the new aliases.

        After a rollback, ``previous`` can be promoted in the same way.

        Args:
            adapter: The challenger, or previous.
            expected_version: Of the aliases that this was decided upon.
            now_us: Time of the change, microseconds since 1970.
            by: Who decided.
            reason: Why; for the history.
            ungated: Promote although the gate did not pass it against this champion; say in ``reason`` why.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, the adapter is neither challenger nor previous,
                or its last gate against this champion did not pass or never ran.
            InvalidRequest, NotFound, InternalError: As `verify` does.
            Unavailable: Another change takes too long.
        """
        self.verify(adapter)
        gates = self.card(adapter).gates
        return self._change(
            "promote",
            lambda now: adapter,
            lambda now: promoted(now, adapter, gates, ungated),
            expected_version,
            now_us,
            by,
            reason,
        )

    def roll_back(self, *, expected_version: int, now_us: int, by: str, reason: str = "") -> Aliases:
        """Bring the previous champion back, in one step: promotion's inverse. Returns the new aliases.

        Nothing is read but the aliases: it must work when disks are slow, and the previous adapter is loaded anyway.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, nothing was promoted yet, or the champion is
                itself what a rollback brought back: a second one would serve again what was taken back.
            Unavailable: Another change takes too long.
        """
        return self._change("roll_back", lambda now: now.champion, rolled_back, expected_version, now_us, by, reason)

    def _change(
        self,
        action: Action,
        about: Callable[[Aliases], str],
        move: Callable[[Aliases], Aliases],
        expected_version: int,
        now_us: int,
        by: str,
        reason: str,
    ) -> Aliases:
        if len(reason) > MAX_REASON_CHARS:
            raise InvalidRequest(
                f"The reason has {len(reason)} characters; at most {MAX_REASON_CHARS}.", param="reason"
            )
        with self._files.locked("aliases.lock"):
            now = self.aliases()
            if now.version != expected_version:
                raise Conflict(_outdated(now, expected_version))
            after = replace(move(now), version=now.version + 1)
            change = Change(
                after.version,
                action,
                about(now),
                after.champion,
                after.challenger,
                after.previous,
                after.share,
                now_us,
                by,
                reason,
            )
            after = replace(after, history=(*now.history, change)[-HISTORY_CHANGES:])
            self._files.replace(self._root / ALIASES, encode(asdict(after)))
        return after


def _outdated(now: Aliases, expected_version: int) -> str:
    last = f", by {now.history[-1].action} of {now.history[-1].adapter}" if now.history else ""
    return (
        f"The aliases are at version {now.version}{last}, and this change was decided upon version {expected_version}: "
        f"another one came first. The champion is {now.champion}. Look again (python -m training status), then decide."
    )
