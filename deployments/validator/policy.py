"""Decides what happens to a judged text: deliver, fix, regenerate, fall back or block.

Owns the quality policy (``configs/quality.yaml``) and ``judge``; owns no check. A check that cannot run leaves a note
that says so where it fails open, and blocks where it fails closed; hard checks always fail closed.
"""

import difflib
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from deployments.validator.checks import CHECKS, Check
from deployments.validator.checks.model_score import SEVERITY as SLOT_SEVERITY
from deployments.validator.checks.model_score import SlotKind, make_check
from deployments.validator.fixes import FIXES
from deployments.validator.scores import DEFAULT_CAPS, SLOT_SUB_SCORES, SUB_SCORES, score
from deployments.validator.thresholds import Thresholds
from graph.contracts import CHECK_FAILED, Action, CheckContext, Finding, Verdict
from graph.errors import ConfigurationError
from graph.strict_yaml import read_yaml

__all__ = [
    "CheckPolicies",
    "CheckPolicy",
    "HardCheckPolicy",
    "ModelSlot",
    "QualityPolicy",
    "judge",
    "load_policy",
    "parse_policy",
]


_VerdictAction = Literal["deliver", "fix", "regenerate", "fallback", "block"]
OnError = Literal["open", "closed"]
HASH_COMMAND = "python -m deployments.validator.model_slots hash FOLDER"
"""Prints what a model slot's ``sha256`` has to be."""
_SLOT_NAME = re.compile(r"[a-z_]{1,32}")
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
    on_error: OnError = "open"
    """When the check itself cannot run. open: the answer leaves, as ``unvalidated``. closed: it is blocked."""


class HardCheckPolicy(CheckPolicy):
    """What a hard check may do."""

    on_error: OnError = "closed"
    """Never open: whoever finds a text that crashes the check could switch it off. ``enabled: false`` does so too, but
    by the operator's hand and for everybody to see."""


class CheckPolicies(_Strict):
    """One policy a check, by its name."""

    secrets: HardCheckPolicy = HardCheckPolicy(on_fail="block", otherwise="block")
    pii: HardCheckPolicy = HardCheckPolicy(on_fail="fix", otherwise="block")
    prompt_leak: HardCheckPolicy = HardCheckPolicy(on_fail="block", otherwise="block")
    near_leak: HardCheckPolicy = HardCheckPolicy(on_fail="regenerate", otherwise="block")
    empty: CheckPolicy = CheckPolicy(on_fail="regenerate", otherwise="fallback")
    truncation: CheckPolicy = CheckPolicy(on_fail="fix", otherwise="regenerate")
    repetition: CheckPolicy = CheckPolicy(on_fail="regenerate")
    language: CheckPolicy = CheckPolicy(on_fail="regenerate")
    json_schema: CheckPolicy = CheckPolicy(on_fail="fix", otherwise="regenerate")
    structure: CheckPolicy = CheckPolicy(on_fail="regenerate")
    nonwords: CheckPolicy = CheckPolicy(on_fail="regenerate")
    relevance: CheckPolicy = CheckPolicy(on_fail="regenerate")
    control_fit: CheckPolicy = CheckPolicy()
    readability: CheckPolicy = CheckPolicy()
    refusal: CheckPolicy = CheckPolicy()
    profanity: CheckPolicy = CheckPolicy()

    @model_validator(mode="before")
    @classmethod
    def _keep_defaults(cls, given: Any) -> Any:
        """What is not said of a check stays as it is by default for that check; CheckPolicy's own would only note."""
        if not isinstance(given, Mapping):
            return given
        return {name: cls._keep_default(name, said) for name, said in given.items()}

    @classmethod
    def _keep_default(cls, name: Any, said: Any) -> Any:
        if name not in cls.model_fields or not isinstance(said, Mapping):
            return said
        return {**cls.model_fields[name].default.model_dump(), **said}


_Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class ModelSlot(CheckPolicy):
    """A check that an operator's own classifier makes: a transformers model for sequence classification."""

    on_fail: Literal["note", "regenerate", "fallback", "block"] = "note"
    path: str = Field(min_length=1)
    """A local folder with the model (``*.safetensors``) and its tokenizer; relative to ``RHEOSTAT_HOME``."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hash over all files of the folder, as HASH_COMMAND prints it."""
    kind: SlotKind
    """text: the model reads the answer. pair: it reads what the caller sent, and the answer."""
    label: str = Field(min_length=1)
    """The class, by its name in the model's ``id2label``, whose probability is the score."""
    at_most: _Probability | None = None
    """A higher score is a finding: for what should not be there, such as toxicity."""
    at_least: _Probability | None = None
    """A lower score is a finding: for what should be there, such as support by the sources. One of the two is given."""
    required: bool = True
    """A model that cannot be loaded stops start-up; false: it is logged, and the check fails by its ``on_error``."""
    max_tokens: int = Field(default=512, ge=64, le=8192)
    """What the model reads at once. A longer answer is read in windows, and the worst one counts."""


class QualityPolicy(_Strict):
    """The whole of ``configs/quality.yaml``; without a value, the measured default."""

    checks: CheckPolicies = CheckPolicies()
    models: dict[str, ModelSlot] = Field(default_factory=dict)
    """By their names, the checks that operators' own models make; see ``docs/quality-policy.md``."""
    thresholds: Thresholds = Thresholds()
    score_caps: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = Field(default_factory=lambda: dict(DEFAULT_CAPS))
    """The most that the total score can be while the named check fails."""
    regenerations_per_answer: _Probability = 0.2
    """How many answers may be written again, of those that are not streams, and none for a reason for which it has not
    helped (``graph/regeneration_budget.py``); 1: each, once."""
    fallback_text: str = Field(default="I could not give a good answer to this. Please try again.", min_length=1)
    """Delivered when nothing that the model wrote may or should be."""
    refusal_text: str = Field(default="I can't share that.", min_length=1)
    """Delivered when an answer was blocked."""

    @field_validator("score_caps", mode="before")
    @classmethod
    def _keep_default_caps(cls, said: Any) -> Any:
        return {**DEFAULT_CAPS, **said} if isinstance(said, Mapping) else said

    @model_validator(mode="after")
    def _refuse_impossible(self) -> "QualityPolicy":
        for name, slot in self.models.items():
            _refuse_impossible_slot(name, slot)
            _refuse_spent_regeneration(f"models.{name}", slot, is_hard=False)
        for name, check in CHECKS.items():
            if self.of(name).on_fail == "fix" and name not in FIXES:
                raise _ImpossibleSetting(f"checks.{name}.on_fail", "fix", f"{name} has no local fix", _NO_FIX)
            for key, only in (("on_fail", "note"), ("otherwise", "note"), ("on_error", "open")):
                value = getattr(self.of(name), key)
                if check.severity == "note" and value != only:
                    raise _ImpossibleSetting(f"checks.{name}.{key}", value, f"{name} only tells", (only,))
            _refuse_spent_regeneration(f"checks.{name}", self.of(name), is_hard=check.severity == "hard")
            if check.severity == "hard" and self.of(name).on_error == "open":
                reason = "a text that crashes a hard check must not get past it; to do without it, say enabled: false"
                raise _ImpossibleSetting(f"checks.{name}.on_error", "open", reason, ("closed",))
        known = (*CHECKS, *self.models)
        for name in self.score_caps:
            if name not in known:
                raise _ImpossibleSetting(f"score_caps.{name}", self.score_caps[name], "no such check", known)
        return self

    def of(self, name: str) -> CheckPolicy:
        """The policy of one check or model slot, by a name that this policy has.

        Not of findings by another policy, such as the pool's in the ingress: it may have slots that this one lacks, and
        its verdict says by itself what is to be done.
        """
        policy: CheckPolicy = self.models[name] if name in self.models else getattr(self.checks, name)
        return policy

    @property
    def closed_beyond_guard(self) -> tuple[str, ...]:
        """The checks that fail closed and that the stream guard does not run: without the pool no answer may leave."""
        return tuple(
            check.name for check in _enabled(self) if check.watch is None and self.of(check.name).on_error == "closed"
        )


def _refuse_impossible_slot(name: str, slot: ModelSlot) -> None:
    where = f"models.{name}"
    if not _SLOT_NAME.fullmatch(name):
        raise _ImpossibleSetting(where, name, "a slot's name has 1 to 32 characters, a to z and _")
    if name in CHECKS:
        raise _ImpossibleSetting(where, name, "a built-in check has this name; give the slot another")
    if (slot.at_most is None) == (slot.at_least is None):
        raise _ImpossibleSetting(f"{where}.at_most", slot.at_most, "give at_most or at_least, and not both")
    if slot.at_most == 1.0:
        raise _ImpossibleSetting(f"{where}.at_most", 1.0, "no probability is higher; give 0 or more, below 1")
    if slot.at_least == 0.0:
        raise _ImpossibleSetting(f"{where}.at_least", 0.0, "no probability is lower; give more than 0, at most 1")


def _refuse_spent_regeneration(where: str, policy: CheckPolicy, *, is_hard: bool) -> None:
    if policy.otherwise != "regenerate":
        return
    if is_hard:
        reason = "a text that was written again and is still not good would be delivered"
    elif policy.on_fail == "regenerate":
        reason = "on_fail has asked for the one regeneration by then; say what is done when it did not help"
    else:
        return
    raise _ImpossibleSetting(f"{where}.otherwise", "regenerate", reason, _WITHOUT_REGENERATION)


_WITHOUT_REGENERATION = ("note", "fallback", "block")
_NO_FIX = tuple(action for action in get_args(Action) if action != "fix")


class _ImpossibleSetting(Exception):
    """Not a ValueError: pydantic lets it through as it is."""

    def __init__(self, key: str, value: object, reason: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(key, value, reason, allowed)
        self.key, self.value, self.reason, self.allowed = key, value, reason, allowed


def load_policy(path: Path) -> QualityPolicy:
    """Reads a policy file (YAML, UTF-8; see ``graph/strict_yaml.py``). Blocks on the disk.

    Raises:
        ConfigurationError: It is missing, no YAML, or says something that cannot be; names file, key and value.
    """
    try:
        content = read_yaml(path).data
    except ConfigurationError:
        raise
    except RecursionError as error:
        raise ConfigurationError(f"{path}: is nested too deep to be a policy") from error
    except yaml.YAMLError as error:
        # A character that YAML does not have; the rest is read_yaml's.
        raise ConfigurationError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    except (ValueError, LookupError, AttributeError) as error:
        # PyYAML 6 lets these out where a value is not of the type that it looks like, such as the date 2001-99-99.
        raise ConfigurationError(f"{path}: holds a value that YAML cannot read; put it in quotes: {error}") from error
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
        raise ConfigurationError(f"{where}: expected a mapping of settings, got {_show(mapping)}")
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
        if first["type"] == "missing":
            raise ConfigurationError(f"{where}: {'.'.join(keys)}: is missing{_mend(keys)}", ".".join(keys)) from error
        if first["type"] == "literal_error":
            allowed = tuple(
                str(first.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
            )
            reason = "not one of the allowed values"
        raise _explain(where, ".".join(keys), first["input"], reason + _mend(keys), allowed) from error


def _mend(keys: tuple[str, ...]) -> str:
    return f"; {HASH_COMMAND} prints it" if keys[0] == "models" and keys[-1] == "sha256" else ""


def _explain(where: str, key: str, value: object, reason: str, allowed: tuple[str, ...] = ()) -> ConfigurationError:
    key = key[:_MAX_KEY]
    message = f"{where}: {key}: got {_show(value)}: {reason}"
    if allowed:
        message += f"; allowed: {', '.join(allowed)}"
        name = key.rpartition(".")[2]
        near = _find_near(value if name == "on_fail" else name, allowed) or _find_near(value, allowed)
        message += f"; did you mean {near!r}?" if near else ""
    return ConfigurationError(message, param=key)


_MAX_KEY = 200
"""Characters of a key that a message shows: it is the file's, and may be anything."""
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 2, 80, 80, 80


def _show(value: object) -> str:
    """The value, cut short: aliases can make a small file hold a list of a billion."""
    try:
        return _REPR.repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _find_near(word: object, allowed: tuple[str, ...]) -> str | None:
    if not isinstance(word, str) or len(word) > _MAX_COMPARED:
        return None
    return next(iter(difflib.get_close_matches(word, allowed, 1)), None)


_MAX_COMPARED = 40
"""Characters. difflib's time grows with the square of them."""


def _list_keys(path: tuple[str, ...]) -> tuple[str, ...]:
    model: type[BaseModel] = QualityPolicy
    parts = iter(path)
    for part in parts:
        annotation = model.model_fields[part].annotation
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
            next(parts, None)  # the key, which may be any
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ()
        model = annotation
    return tuple(model.model_fields)


def judge(text: str, context: CheckContext, policy: QualityPolicy) -> Verdict:
    """Runs every enabled check on a whole text, mends what can be mended, and says what is to be done.

    Pure; about 3 ms for 300 words. Never raises because of the text.

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
    grades = _grade(fixed, fixed_context, policy)
    belongs_to = {**SUB_SCORES, **{name: SLOT_SUB_SCORES[slot.kind] for name, slot in policy.models.items()}}
    sub_scores, total = score(remaining, mended, policy.score_caps, grades, belongs_to)
    return Verdict(
        verdict,
        tuple(told),
        sub_scores,
        total,
        fixed if fixed != text else None,
        is_degraded=any(_is_unmended(finding, policy) for finding in remaining),
        last_resort=_find_last_resort(verdict, remaining, policy),
    )


def _is_unmended(finding: Finding, policy: QualityPolicy) -> bool:
    """Whether something was to be done about it that did not help, and it is only told."""
    return finding.severity != "note" and finding.action == "note" and policy.of(finding.check).on_fail != "note"


def _find_last_resort(
    action: _VerdictAction, remaining: Sequence[Finding], policy: QualityPolicy
) -> Literal["deliver", "fallback", "block"]:
    if action in ("fallback", "block"):
        return action
    asked = {policy.of(finding.check).otherwise for finding in remaining if finding.action == "regenerate"}
    return "block" if "block" in asked else "fallback" if "fallback" in asked else "deliver"


def _enabled(policy: QualityPolicy) -> Iterator[Check]:
    """The checks that run: the built-in ones in their order, then the model slots."""
    for check in CHECKS.values():
        if policy.of(check.name).enabled:
            yield check
    for name, slot in policy.models.items():
        if slot.enabled:
            run = make_check(name, slot.kind, slot.label, slot.at_most, slot.at_least)
            yield Check(name, SLOT_SEVERITY, run, tier=2)


def _run_checks(text: str, context: CheckContext, policy: QualityPolicy) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    for check in _enabled(policy):
        findings += _run_check(check, text, context, policy)
    return tuple(findings)


def _run_check(check: Check, text: str, context: CheckContext, policy: QualityPolicy) -> tuple[Finding, ...]:
    reason = context.unmeasured.get(check.name)
    if reason is None:
        try:
            return check.run(text, context, policy.thresholds)
        except Exception as error:  # noqa: BLE001 - what a check raises decides nothing but open or closed
            reason = type(error).__name__
    is_closed = policy.of(check.name).on_error == "closed"
    return (Finding(check.name, "hard" if is_closed else "note", f"{CHECK_FAILED}: {reason}"),)


def _grade(text: str, context: CheckContext, policy: QualityPolicy) -> dict[str, float]:
    grades: dict[str, float] = {}
    for check in _enabled(policy):
        if check.grade is None:
            continue
        try:
            grade = check.grade(text, context, policy.thresholds)
        except Exception:  # noqa: BLE001 - the check itself says that it failed
            grade = None
        if grade is not None:
            grades[check.name] = grade
    return grades


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
            current = _run_check(CHECKS[name], text, context, policy)
            current = tuple(finding for finding in current if finding.severity != "note")
            mended = fix(text, current, context) if current else None
            if mended is not None:
                text = mended
                if context.finish_reason in ("length", "repetition"):
                    context = replace(context, finish_reason="stop")
        if text == before:
            break
        failing = {finding.check for finding in _run_checks(text, context, policy) if finding.severity != "note"}
        if not failing:
            break
    return text, context
