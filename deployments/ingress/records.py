"""What the service knows of a request and its answer as a row of the log. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from deployments.feedback.events import generation_row
from deployments.ingress.privacy import TextPolicy, protect
from graph.contracts import Message

_COLUMNS = {
    "generation_id",
    "tenant",
    "model",
    "prompt",
    "answer",
    "outcome",
    "controls_hash",
    "controls",
    "quality",
    "timings",
    "versions",
    "source_id",
    "answer_format",
    "language",
    "settings",
    "prompt_template",
    "prompt_hash",
    "adapter",
    "arm",
}


def describe_request(
    messages: Sequence[Message], receipt: Mapping[str, Any], answer_format: str, language: str | None
) -> dict[str, Any]:
    """The columns that reports group by, as far as the request decides them.

    Args:
        messages: As the caller sent them, without our directives.
        receipt: Of the compiled controls.
        language: ISO 639-1 code that was asked for; None: the prompt's own.
    """
    system = [message.content for message in messages if message.role in ("system", "developer")]
    last_user = next((message.content for message in reversed(messages) if message.role == "user"), "")
    return {
        "answer_format": answer_format,
        "language": language or "auto",
        "settings": {name: knob["value"] for kind in ("lp", "ls") for name, knob in receipt[kind].items()},
        "prompt_template": _hash("\n".join(system)) if system else None,
        "prompt_hash": _hash(" ".join(last_user.casefold().split())),
    }


def to_log_row(record: Mapping[str, Any], now_us: int, texts: TextPolicy = "keep") -> Mapping[str, Any]:
    """A generation's row; what has no column of its own goes into ``extra``.

    Args:
        record: ``Plan.record`` and what ``RequestLife`` adds to it.
        now_us: Microseconds since 1970 UTC.
        texts: What of prompt and answer may be kept.
    """
    columns = {name: value for name, value in record.items() if name in _COLUMNS}
    rest = {name: value for name, value in record.items() if name not in _COLUMNS and name != "extra"}
    quality = record.get("quality") or {}
    row = generation_row(
        **columns,
        quality_score=quality.get("score"),
        # An empty list says that the answer was judged and nothing failed.
        failed_checks=_failed_checks(quality["findings"]) if "findings" in quality else None,
        now_us=now_us,
        extra={**record.get("extra", {}), **rest},
    )
    # The gate asks prompts of all tenants by an admin's key: their erasures would not find the copies.
    return protect(row, "drop" if record.get("purpose") == "gate" else texts)


def _failed_checks(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Checks whose finding was more than a note, each once, in order."""
    return list(dict.fromkeys(finding["check"] for finding in findings if finding["action"] != "note"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
