"""Mirrors the registry's decisions into the feedback log: each exactly once, in order, also those of a time without us.

The registry is the truth; the log is where they are read beside answers and feedback. What is there already is looked
up once, newest first; then each decision is sent until the log has it. No Ray here; the Rollout deployment calls it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.rollout.adapter_store import CARD, GateRecord
from deployments.rollout.aliases import ALIASES, Change
from deployments.rollout.decisions import change_id, change_row, gate_id, gate_row
from deployments.rollout.log_tail import file_mark
from deployments.rollout.registry import Registry
from graph.contracts import LogAck
from graph.errors import Conflict, RheostatError

logger = logging.getLogger(__name__)
AppendMany = Callable[[Sequence[Mapping[str, Any]]], Awaitable[Sequence[LogAck | RheostatError]]]
FindEvent = Callable[[str], Awaitable[Mapping[str, Any] | None]]


@dataclass(frozen=True, slots=True)
class Decision:
    """One change of the aliases, or one run of the gate."""

    event_id: str
    at_us: int
    adapter: str
    what: Change | GateRecord

    def row(self) -> dict[str, Any]:
        """The row of the log."""
        return change_row(self.what) if isinstance(self.what, Change) else gate_row(self.adapter, self.what)


class DecisionMirror:
    """See the module.

    Args:
        registry: Whose decisions are mirrored.
        registry_root: Its folder; need not exist yet.
        append_many: Puts rows into the log; an outcome a row.
        find_event: Looks a row up by its event_id.
        on_mirrored: Told of each decision that was not in the log before.
    """

    def __init__(
        self,
        registry: Registry,
        registry_root: Path,
        append_many: AppendMany,
        find_event: FindEvent,
        on_mirrored: Callable[[Decision], None] = lambda decision: None,
    ) -> None:
        self._registry = registry
        self._root = registry_root
        self._append_many = append_many
        self._find_event = find_event
        self._on_mirrored = on_mirrored
        self._marks: dict[str, object] = {}
        self._known: dict[str, set[str]] = {}
        """event_ids that are in the log, by source: the aliases, or an adapter's card."""
        self.pending = 0
        """Decisions that the log does not have yet, as far as the last run knew."""
        self.last_ack: LogAck | None = None

    async def run(self) -> None:
        """Mirror what is new; the first run looks up what the log has already.

        Raises:
            RheostatError, OSError: The registry cannot be read, or the log did not take a row. Run again later: no row
                is lost, doubled or out of order.
        """
        changed = await asyncio.to_thread(self._read_changed)
        missing: list[Decision] = []
        for source, (_, decisions) in changed.items():
            missing += await self._missing(source, decisions)
        missing.sort(key=lambda decision: decision.at_us)  # stable: changes keep the order of their versions
        self.pending = len(missing)
        for decision in missing:
            await self._send(decision)
            self.pending -= 1
        # Only now: what was not sent must be found again.
        self._marks |= {source: mark for source, (mark, _) in changed.items()}

    def _read_changed(self) -> dict[str, tuple[object, list[Decision]]]:
        """(mark, decisions, oldest first) of what changed since the last run, by source."""
        changed: dict[str, tuple[object, list[Decision]]] = {}
        mark = file_mark(self._root / ALIASES)
        if mark != self._marks.get(ALIASES):
            changed[ALIASES] = mark, list(_of_changes(self._registry.aliases().history))
        for adapter in self._registry.adapters():
            mark = file_mark(self._registry.path(adapter) / CARD)
            if mark == self._marks.get(adapter):
                continue
            try:
                gates = self._registry.card(adapter).gates
            except RheostatError as error:
                # One damaged card must not keep all other decisions out of the log.
                logger.error("the gates of %s cannot be mirrored: %s", adapter, error.message)
                gates = ()
            changed[adapter] = mark, [Decision(gate_id(adapter, gate), gate.at_us, adapter, gate) for gate in gates]
        return changed

    async def _missing(self, source: str, decisions: Sequence[Decision]) -> list[Decision]:
        """Those of one source that the log does not have, oldest first."""
        known = self._known.get(source)
        if known is None:
            known = set()
            for at in reversed(range(len(decisions))):
                # They are sent in order, so all before one that is there are there too.
                if await self._find_event(decisions[at].event_id) is not None:
                    known |= {decision.event_id for decision in decisions[: at + 1]}
                    break
            self._known[source] = known
        return [decision for decision in decisions if decision.event_id not in known]

    async def _send(self, decision: Decision) -> None:
        (outcome,) = await self._append_many([decision.row()])
        if isinstance(outcome, Conflict):
            # It is there, told by another version of this code: the first one stays.
            logger.warning("the decision %s is in the log with other content: %s", decision.event_id, outcome.message)
        elif isinstance(outcome, RheostatError):
            raise outcome
        else:
            self.last_ack = outcome
            if not outcome.duplicate:
                self._on_mirrored(decision)
        source = ALIASES if isinstance(decision.what, Change) else decision.adapter
        self._known[source].add(decision.event_id)


def _of_changes(history: Sequence[Change]) -> list[Decision]:
    """In the order of their versions, also where a clock went back."""
    decisions, latest_us = [], 0
    for change in history:
        latest_us = max(latest_us, change.at_us)
        decisions.append(Decision(change_id(change), latest_us, change.adapter, change))
    return decisions
