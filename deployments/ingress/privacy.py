"""What of a row's texts may reach the log: all, all but personal values and secrets, or none. Pure.

Applied to every row on its way to the log: before it, not after it, for what was never written need not be erased.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from deployments.feedback.schema import to_row
from deployments.validator.checks import pii, secrets
from deployments.validator.fixes import redact
from graph.contracts import CheckContext

TextPolicy = Literal["keep", "redact", "drop"]
"""``AppArgs.feedback_texts``."""
_TEXTS = ("prompt", "answer", "text")
_NOBODY = CheckContext()
"""No text is known: what the caller sent is redacted too."""


def protect(row: Mapping[str, Any], policy: TextPolicy) -> Mapping[str, Any]:
    """``row``, a whole row of the log, with its prompt, answer, text and tags as ``policy`` allows; itself when kept.

    Of tags the values are redacted and the names kept; ``drop`` keeps no tags, for a comment may be one. Ids, scores,
    settings and hashes stay. Two corrections that differ only in what was taken out have equal content.
    """
    if policy == "keep":
        return row
    texts = {name: row[name] for name in _TEXTS if row[name] is not None}
    changed: dict[str, Any] = {name: protect_text(value, policy) for name, value in texts.items()}
    if "prompt" in texts and policy == "redact":
        # Turn by turn, not in its JSON text: that spells characters in ways that the checks do not look for.
        turns = json.loads(texts["prompt"])
        changed["prompt"] = [{**turn, "content": protect_text(turn["content"], policy)} for turn in turns]
    if row["tags"] is not None:
        tags = json.loads(row["tags"]).items()
        changed["tags"] = {name: protect_text(value, policy) for name, value in tags} if policy == "redact" else None
    return to_row({**row, **changed})


def protect_text(text: str, policy: TextPolicy) -> str | None:
    """One text as ``policy`` allows it."""
    if policy == "keep":
        return text
    if policy == "drop":
        return None
    return redact(text, (*secrets.check(text, _NOBODY), *pii.check(text, _NOBODY)))
