"""What people do with a rollout: look, promote, roll back, give a canary traffic. The command line and HTTP share it.

Each change is one compare-and-swap, then a wait until every live replica serves it. Works on the registry's folder
alone, with or without a running service. Blocks.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deployments.rollout.agreement import Agreement, serving, wait_until_all_serve
from deployments.rollout.aliases import Aliases
from deployments.rollout.registry import Registry
from deployments.rollout.replicas import live_replicas
from graph.errors import Conflict, InvalidRequest, RheostatError

RECENT_CHANGES = 10
ADAPTERS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Done:
    """A change that was made, and whether all replicas serve it."""

    action: str
    adapter: str
    """What they have to serve: the champion, or the challenger that gets traffic."""
    aliases: Aliases
    agreement: Agreement

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "action": self.action,
            "adapter": self.adapter,
            **_names(self.aliases),
            "agreed": self.agreement.agreed,
            "replicas": self.agreement.replicas,
            "waiting": list(self.agreement.waiting),
            "seconds": round(self.agreement.seconds, 3),
        }


class Operations:
    """See the module.

    Args:
        root: The registry's folder; need not exist yet.
        by: Who acts, for the history.
        timeout_s: How long to wait for the replicas.
        now_us: Microseconds since 1970.
    """

    def __init__(
        self,
        root: Path,
        by: str,
        timeout_s: float,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._root = root
        self._registry = Registry(root)
        self._by = by
        self._timeout_s = timeout_s
        self._now_us = now_us

    def status(self) -> dict[str, Any]:
        """Return aliases, replicas and the last changes.

        Raises:
            InternalError: The aliases are damaged.
        """
        aliases, now_us = self._registry.aliases(), self._now_us()
        agreement = serving(self._root, aliases.version, aliases.champion, now_us)
        return {
            **_names(aliases),
            "champion_since_us": champion_since_us(aliases),
            "rolled_back": aliases.rolled_back,
            "adapters": self._adapters(),
            "challenger_gate": self._gate(aliases),
            "agreed": agreement.agreed,
            "waiting": list(agreement.waiting),
            "replicas": [
                {"id": state.id, "role": state.role, "version": state.version, "loaded": list(state.loaded)}
                for state in live_replicas(self._root, now_us)
            ],
            "changes": [asdict(change) for change in reversed(aliases.history[-RECENT_CHANGES:])],
        }

    def _adapters(self) -> list[dict[str, Any]]:
        """The newest first, as far as people choose by it; one whose card is damaged is told as such."""
        known: list[dict[str, Any]] = []
        for name in self._registry.adapters():
            try:
                card = self._registry.card(name)
            except RheostatError:
                known.append({"name": name, "created_us": 0, "dataset": None, "passed": None})
                continue
            passed = card.gates[-1].passed if card.gates else None
            known.append({"name": name, "created_us": card.created_us, "dataset": card.dataset, "passed": passed})
        return sorted(known, key=lambda each: (-each["created_us"], each["name"]))[:ADAPTERS_TOLD]

    def promote(
        self, adapter: str, *, expected_version: int | None = None, reason: str = "", ungated: bool = False
    ) -> Done:
        """Make the challenger champion.

        Args:
            adapter: Its whole name.
            expected_version: What was looked at; None: whatever is there now.
            reason: For the history.
            ungated: Although no gate passed it; there must be a reason.

        Raises:
            As `Registry.promote`; InvalidRequest also: ungated without a reason.
        """
        if ungated and not reason.strip():
            raise InvalidRequest("Promoting past the gate needs a reason; say why.", param="reason")
        aliases = self._registry.promote(adapter, ungated=ungated, **self._decided(expected_version, reason))
        return self._wait("promote", aliases.champion, aliases)

    def roll_back(self, *, expected_version: int | None = None, reason: str = "") -> Done:
        """Bring the previous champion back.

        Raises:
            As `Registry.roll_back`.
        """
        aliases = self._registry.roll_back(**self._decided(expected_version, reason))
        return self._wait("roll_back", aliases.champion, aliases)

    def canary(self, adapter: str, share: float, *, expected_version: int | None = None, reason: str = "") -> Done:
        """Give an adapter this share of the traffic; it becomes the challenger if there is none.

        Two changes then: if the second one loses to another writer, it is challenger without a share.

        Raises:
            As `Registry.set_challenger` and `Registry.set_share`.
        """
        if not 0 <= share <= 1:
            # Before anything changes.
            raise InvalidRequest(f"The share is {share}; it must be from 0 to 1, such as 0.05.", param="share")
        decided = self._decided(expected_version, reason)
        if self._registry.aliases().challenger != adapter:
            aliases = self._registry.set_challenger(adapter, **decided)
            decided["expected_version"] = aliases.version
        else:
            # Named by its caller, so that it is refused if it is damaged.
            self._registry.verify(adapter)
        aliases = self._registry.set_share(share, **decided)
        return self._wait("canary", adapter, aliases)

    def clear(self, *, expected_version: int | None = None, reason: str = "") -> Done:
        """Take the challenger away.

        Raises:
            As `Registry.clear_challenger`.
        """
        aliases = self._registry.clear_challenger(**self._decided(expected_version, reason))
        return self._wait("clear_challenger", aliases.champion, aliases)

    def _decided(self, expected_version: int | None, reason: str) -> dict[str, Any]:
        version = self._registry.aliases().version if expected_version is None else expected_version
        return {"expected_version": version, "now_us": self._now_us(), "by": self._by, "reason": reason}

    def _wait(self, action: str, adapter: str, aliases: Aliases) -> Done:
        agreement = wait_until_all_serve(self._root, aliases.version, adapter, self._timeout_s)
        return Done(action, adapter, aliases, agreement)

    def _gate(self, aliases: Aliases) -> dict[str, Any] | None:
        """The challenger's last gate against this champion."""
        if aliases.challenger is None:
            return None
        try:
            gates = self._registry.card(aliases.challenger).gates
        except RheostatError as error:
            return {"passed": False, "problem": error.message}
        found = [gate for gate in gates if gate.champion == aliases.champion]
        return {"passed": found[-1].passed, "at_us": found[-1].at_us} if found else None


def champion_since_us(aliases: Aliases) -> int | None:
    """Return when the champion became it; None: it is the base model that nobody chose, or history does not say."""
    for change in reversed(aliases.history):
        if change.action in ("promote", "roll_back"):
            return change.at_us
    return None


def complete_name(registry: Registry, given: str) -> str:
    """Return the one registered adapter whose name begins with this, for people at a terminal.

    Raises:
        InvalidRequest: None does, or several do.
    """
    found = [name for name in registry.adapters() if name.startswith(given)] if len(given) >= 6 else []
    if len(found) != 1:
        several = (
            f"several adapters begin with it: {', '.join(name[:16] for name in found)}" if found else "none has it"
        )
        raise InvalidRequest(
            f"{given[:80]!r} names no adapter ({several}); give its name or its first digits, at least 6. "
            "See: python -m training status",
            param="adapter",
        )
    return found[0]


def current_challenger(registry: Registry) -> str:
    """Return the challenger.

    Raises:
        Conflict: There is none.
    """
    challenger = registry.aliases().challenger
    if challenger is None:
        raise Conflict("There is no challenger now; name an adapter. See: python -m training status")
    return challenger


def _names(aliases: Aliases) -> dict[str, Any]:
    return {
        "version": aliases.version,
        "champion": aliases.champion,
        "challenger": aliases.challenger,
        "previous": aliases.previous,
        "share": aliases.share,
    }
