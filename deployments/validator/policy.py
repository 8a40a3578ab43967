"""Decides what happens to a judged text: deliver, fix, regenerate, fall back or block.

Owns the quality policy (``configs/quality.yaml``) and ``judge``; owns no check. Quality checks fail open: one
that raises leaves a note that says so. Hard checks fail closed: one that raises blocks.
"""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deployments.validator.checks import CHECKS, Check
from deployments.validator.fixes import FIXES
from deployments.validator.scores import DEFAULT_CAPS, score
from deployments.validator.thresholds import Thresholds
from graph.contracts import CHECK_FAILED, Action, CheckContext, Finding, Verdict
from graph.errors import ConfigurationError

__all__ = [
    "CheckPolicies",
    "CheckPolicy",
    "QualityPolicy",
    "decide_last_resort",
    "judge",
    "load_policy",
    "parse_policy",
]


_VerdictAction = Literal["deliver", "fix", "regenerate", "fallback", "block"]
_STRENGTH: Mapping[Action, int] = {"note": 0, "fix": 1, "regenerate": 2, "fallback": 3, "block": 4}
_FIX_ROUNDS = 2
"""A repair may bring something to light (an escaped '@' in JSON); what two rounds do not mend is not mended."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CheckPolicy(_Strict):
    """What one check may do."""

    enabled: bool = True
    """A disabled check is not run, neither on whole texts nor on streams."""
    on_fail: Action = "note"
    """What is done first. ``fix`` only where the check has a local fix."""
    otherwise: Literal["note", "regenerate", "fallback", "block"] = "note"
    """What is done when ``fix`` did not help, or when the one regeneration is spent."""


class CheckPolicies(_Strict):
    """One policy a check, by its name."""

    secrets: CheckPolicy = CheckPolicy(on_fail="block", otherwise="block")
    pii: CheckPolicy = CheckPolicy(on_fail="fix", otherwise="block")
    prompt_leak: CheckPolicy = CheckPolicy(on_fail="block", otherwise="block")
    empty: CheckPolicy = CheckPolicy(on_fail="regenerate", otherwise="fallback")
    truncation: CheckPolicy = CheckPolicy(on_fail="fix")
    repetition: CheckPolicy = CheckPolicy(on_fail="regenerate")
    language: CheckPolicy = CheckPolicy(on_fail="regenerate")
    json_schema: CheckPolicy = CheckPolicy(on_fail="fix", otherwise="regenerate")
    structure: CheckPolicy = CheckPolicy(on_fail="regenerate")


class QualityPolicy(_Strict):
    """The whole of ``configs/quality.yaml``; without a value, the measured default."""

    checks: CheckPolicies = CheckPolicies()
    thresholds: Thresholds = Thresholds()
    score_caps: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = Field(default_factory=lambda: dict(DEFAULT_CAPS))
    """The most that the total score can be while the named check fails."""
    fallback_text: str = Field(default="I could not give a good answer to this. Please try again.", min_length=1)
    """Delivered when nothing that the model wrote may or should be."""
    refusal_text: str = Field(default="I can't share that.", min_length=1)
    """Delivered when an answer was blocked."""

    @model_validator(mode="after")
    def _refuse_impossible(self) -> "QualityPolicy":
        for name in CHECKS:
            if self.of(name).on_fail == "fix" and name not in FIXES:
                raise _ImpossibleSetting(f"checks.{name}.on_fail", "fix", f"{name} has no local fix", _NO_FIX)
        for name in self.score_caps:
            if name not in CHECKS:
                raise _ImpossibleSetting(f"score_caps.{name}", self.score_caps[name], "no such check", tuple(CHECKS))
        return self

    def of(self, name: str) -> CheckPolicy:
        """The policy of one check."""
        policy: CheckPolicy = getattr(self.checks, name)
        return policy


_NO_FIX = tuple(action for action in get_args(Action) if action != "fix")


class _ImpossibleSetting(Exception):
    """Not a ValueError: pydantic lets it through as it is."""

    def __init__(self, key: str, value: object, reason: str, allowed: tuple[str, ...]) -> None:
        super().__init__(key, value, reason, allowed)
        self.key, self.value, self.reason, self.allowed = key, value, reason, allowed


def load_policy(path: Path) -> QualityPolicy:
    """Reads a policy file (YAML, UTF-8). Blocks on the disk.

    Raises:
        ConfigurationError: It is missing, no YAML, or says something that cannot be; names file, key and value.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: the quality policy cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid YAML in UTF-8: {' '.join(str(error).split())}") from error
    return parse_policy({} if content is None else content, str(path))


def parse_policy(mapping: Any, where: str) -> QualityPolicy:
    """Makes a policy of plain data.

    Args:
        mapping: What the YAML file holds.
        where: Its name, for the error message.

    Raises:
        ConfigurationError: It names the file, the key, the value, what is allowed and the nearest known name.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigurationError(f"{where}: expected a mapping of settings, got {mapping!r}")
    try:
        return QualityPolicy.model_validate(dict(mapping))
    except _ImpossibleSetting as error:
        raise _explain(where, error.key, error.value, error.reason, error.allowed) from error
    except ValidationError as error:
        first = error.errors()[0]
        keys = tuple(str(part) for part in first["loc"])
        allowed: tuple[str, ...] = ()
        reason = first["msg"].lower()
        if first["type"] == "extra_forbidden":
            allowed, reason = _list_keys(keys[:-1]), "no such key"
            raise _explain(where, ".".join(keys), keys[-1], reason, allowed) from error
        if first["type"] == "literal_error":
            allowed = tuple(
                str(first.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
            )
            reason = "not one of the allowed values"
        raise _explain(where, ".".join(keys), first["input"], reason, allowed) from error


def _explain(where: str, key: str, value: object, reason: str, allowed: tuple[str, ...]) -> ConfigurationError:
    message = f"{where}: {key}: got {value!r}: {reason}"
    if allowed:
        message += f"; allowed: {', '.join(allowed)}"
        near = difflib.get_close_matches(str(value) if key.endswith(".on_fail") else key.rpartition(".")[2], allowed, 1)
        near = near or difflib.get_close_matches(str(value), allowed, 1)
        message += f"; did you mean {near[0]!r}?" if near else ""
    return ConfigurationError(message, param=key)


def _list_keys(path: tuple[str, ...]) -> tuple[str, ...]:
    model: type[BaseModel] = QualityPolicy
    for part in path:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ()
        model = annotation
    return tuple(model.model_fields)


def judge(text: str, context: CheckContext, policy: QualityPolicy) -> Verdict:
    """Runs every enabled check on a whole text, mends what can be mended, and says what is to be done.

    Pure; about 1 ms for 200 words. Never raises because of the text.

    Returns:
        A verdict whose findings are those of the given text, fixed ones with action ``fix``, the others with
        what the policy asks for now; spans refer to the given text. A finding that only the mended text has
        comes last and has no span. ``fixed_text`` is given whenever a fix changed something, also when more
        is wrong with the text than fixes can mend; ``scores`` are those of the text as it would be delivered.
    """
    original = _run_checks(text, context, policy)
    fixed, fixed_context = _apply_fixes(text, original, context, policy)
    has_fixed = (fixed, fixed_context) != (text, context)
    left = _run_checks(fixed, fixed_context, policy) if has_fixed else original
    left_names = {finding.check for finding in left if finding.severity != "note"}
    original_names = {finding.check for finding in original if finding.severity != "note"}

    told: list[Finding] = []
    mended: list[Finding] = []
    remaining: list[Finding] = []
    for finding in original:
        if finding.severity == "note" or finding.check in left_names:
            action = _choose_action(finding, policy)
            told.append(replace(finding, action=action))
            remaining.append(told[-1])
        else:
            # A fix that left the text as it is has only confirmed that it can be delivered.
            told.append(replace(finding, action="fix" if fixed != text else "note"))
            mended.append(told[-1])
    for finding in left:
        if finding.severity != "note" and finding.check not in original_names:
            told.append(replace(finding, span=None, action=_choose_action(finding, policy)))
            remaining.append(told[-1])

    strongest: Action = max((finding.action for finding in remaining), key=_STRENGTH.__getitem__, default="note")
    verdict: _VerdictAction = strongest if strongest != "note" else "fix" if fixed != text else "deliver"
    sub_scores, total = score(remaining, mended, policy.score_caps)
    return Verdict(verdict, tuple(told), sub_scores, total, fixed if fixed != text else None)


def decide_last_resort(verdict: Verdict, policy: QualityPolicy) -> Literal["deliver", "fallback", "block"]:
    """What to do with the better candidate when the one regeneration is spent; ``deliver`` means as degraded."""
    if verdict.action in ("fallback", "block"):
        return verdict.action
    asked = {policy.of(finding.check).otherwise for finding in verdict.findings if finding.action == "regenerate"}
    return "block" if "block" in asked else "fallback" if "fallback" in asked else "deliver"


def _run_checks(text: str, context: CheckContext, policy: QualityPolicy) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    for check in CHECKS.values():
        if policy.of(check.name).enabled:
            findings += _run_check(check, text, context, policy.thresholds)
    return tuple(findings)


def _run_check(check: Check, text: str, context: CheckContext, thresholds: Thresholds) -> tuple[Finding, ...]:
    try:
        return check.run(text, context, thresholds)
    except Exception as error:  # noqa: BLE001 - what a check raises decides nothing but open or closed
        reason = f"{CHECK_FAILED}: {type(error).__name__}"
        return (Finding(check.name, "hard" if check.severity == "hard" else "note", reason),)


def _choose_action(finding: Finding, policy: QualityPolicy) -> Action:
    if finding.severity == "note":
        return "note"
    if finding.severity == "hard" and finding.message.startswith(CHECK_FAILED):
        return "block"
    chosen = policy.of(finding.check)
    return chosen.otherwise if chosen.on_fail == "fix" else chosen.on_fail


def _apply_fixes(
    text: str, findings: tuple[Finding, ...], context: CheckContext, policy: QualityPolicy
) -> tuple[str, CheckContext]:
    """The mended text, and the context with which it is judged again.

    A text that was trimmed or cut ends where the fix says so, no longer where the engine stopped.
    """
    failing = {finding.check for finding in findings if finding.severity != "note"}
    for _ in range(_FIX_ROUNDS):
        before = text
        for name, fix in FIXES.items():
            if name not in failing or policy.of(name).on_fail != "fix":
                continue
            current = _run_check(CHECKS[name], text, context, policy.thresholds)
            current = tuple(finding for finding in current if finding.severity != "note")
            mended = fix(text, current, context) if current else None
            if mended is not None:
                text = mended
                if context.finish_reason in ("length", "repetition"):
                    context = replace(context, finish_reason="stop")
        failing = {finding.check for finding in _run_checks(text, context, policy) if finding.severity != "note"}
        if text == before or not failing:
            break
    return text, context
