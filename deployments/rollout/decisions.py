"""Decisions of the learning loop as rows of the feedback log: each change of the aliases, each run of the gate.

The event_id follows from what was decided, so that mirroring the same decision twice writes one row. Pure.
"""

import json
from collections.abc import Mapping
from typing import Any

from deployments.feedback.markers import derive_id
from deployments.feedback.schema import to_row
from deployments.rollout.adapter_store import BASE, GateRecord
from deployments.rollout.aliases import Change

TENANT = "rheostat"
"""Decisions are nobody's data. No route shows a tenant rows of this kind, whatever its name."""
GATE = "gate"
"""The ``name`` of a run of the gate; a change has its action's."""
MAX_REPORT_BYTES = 32 * 1024
"""Of a gate's report in the log; the card has all of it."""


def change_id(change: Change) -> str:
    """The event_id of a change. The version alone would not do: a registry that is made anew counts from 1 again."""
    parts = (change.action, str(change.version), change.adapter, str(change.at_us), change.by)
    return derive_id("decision", *parts)


def gate_id(adapter: str, gate: GateRecord) -> str:
    """The event_id of a run of the gate."""
    return derive_id("decision", GATE, adapter, gate.champion, str(gate.at_us))


def change_row(change: Change) -> dict[str, Any]:
    """The row of a change: ``name`` its action, ``text`` its reason, ``extra`` the aliases after it."""
    return to_row(
        {
            "event_id": change_id(change),
            "kind": "decision",
            "tenant": TENANT,
            "name": change.action,
            "adapter": _column(change.adapter),
            "text": change.reason or None,
            "source_type": "code",
            "source_id": change.by,
            "ts_server_us": change.at_us,
            "extra": {
                "about": change.adapter,
                "version": change.version,
                "champion": change.champion,
                "challenger": change.challenger,
                "previous": change.previous,
                "share": change.share,
                "by": change.by,
            },
        }
    )


def gate_row(adapter: str, gate: GateRecord) -> dict[str, Any]:
    """The row of a run of the gate: ``value_bool`` whether it passed, ``extra.gate`` its report if not too long."""
    reasons = gate.report.get("reasons", ())
    return to_row(
        {
            "event_id": gate_id(adapter, gate),
            "kind": "decision",
            "tenant": TENANT,
            "name": GATE,
            "value_bool": gate.passed,
            "adapter": _column(adapter),
            "text": "; ".join(map(str, reasons)) or None,
            "source_type": "code",
            "source_id": GATE,
            "ts_server_us": gate.at_us,
            "extra": {"about": adapter, "champion": gate.champion, "by": GATE, "gate": _summary(gate.report)},
        }
    )


def _column(adapter: str) -> str | None:
    """As rows of answers have it: the base model is no adapter."""
    return None if adapter == BASE else adapter


def _summary(report: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(json.dumps(report)) <= MAX_REPORT_BYTES:
        return report
    return {name: value for name, value in report.items() if isinstance(value, bool | int | float)}
