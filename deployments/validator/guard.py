"""Holds a stream back just far enough that nothing leaves which a hard check would object to.

Pure and incremental: text goes in as it comes, the text that is safe to send comes out. What may still become
part of a secret, a personal value or a leak is held; the rest leaves at once. Because every hard check judges
each value by a bounded stretch of text (see ``watch.py``), what is released does not depend on how the stream
was cut. Quality checks need the whole text and are not run here. The end of a sentence flushes nothing by itself, for
a value may go on behind a full stop ("jane.doe@..."); the white space after it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile

from deployments.validator.checks import CHECKS, Check
from deployments.validator.fixes import FIXES, redact
from deployments.validator.policy import QualityPolicy
from deployments.validator.watch import LEFT_CONTEXT
from graph.contracts import CHECK_FAILED, Action, CheckContext, Finding

__all__ = ["Released", "StreamGuard"]

_RESCAN_SHARE = 32
"""Held text is looked at again when it grew by this fraction: with thousands of characters held (an open key
block) a look at each delta would make the cost quadratic. Under 64 held characters every delta is looked at."""


@dataclass(frozen=True, slots=True)
class Released:
    """What may leave now."""

    text: str
    findings: tuple[Finding, ...] = ()
    """New ones, with their action; spans count from the start of the stream as it came in."""
    stop: bool = False
    """Nothing more will ever be released: close the engine's stream and end the client's with an error."""


class StreamGuard:
    """Watches one stream with the hard checks that the policy enables. Not thread-safe; one a stream.

    ``fix`` redacts in place and goes on, ``note`` tells and goes on, every stronger action stops: what has left
    cannot be taken back, so there is nothing to regenerate. From the start of a stopping value on, nothing is
    released. A check that raises stops the stream too: a hard check cannot be set to fail open.
    """

    def __init__(self, context: CheckContext, policy: QualityPolicy) -> None:
        self._context = context
        self._actions: dict[str, Action] = {}
        self._checks: list[Check] = []
        for check in CHECKS.values():
            chosen = policy.of(check.name)
            if check.watch is not None and chosen.enabled:
                self._checks.append(check)
                self._actions[check.name] = chosen.on_fail
        self._left = ""  # what was released last, raw, as left context
        self._held = ""  # looked at and held
        self._fresh: list[str] = []  # not looked at yet
        self._fresh_size = 0
        self._passed = 0  # raw characters before _held
        self._stopped = False

    @property
    def held(self) -> int:
        """Characters that came in and were neither released nor redacted yet; 0 after a stop."""
        return len(self._held) + self._fresh_size

    def feed(self, text: str) -> Released:
        """Takes the next piece of the stream, of any length, and returns what may leave now."""
        if self._stopped:
            return Released("", (), True)
        self._fresh.append(text)
        self._fresh_size += len(text)
        if self._fresh_size == 0 or self._fresh_size < len(self._held) // _RESCAN_SHARE:
            return Released("")
        return self._advance(is_final=False)

    def flush(self) -> Released:
        """Says that the stream has ended, and returns what was still held."""
        if self._stopped:
            return Released("", (), True)
        return self._advance(is_final=True)

    def _advance(self, is_final: bool) -> Released:
        text = "".join([self._left, self._held, *self._fresh])
        self._fresh, self._fresh_size = [], 0
        start = len(self._left)
        found: list[Finding] = []
        settled = len(text)
        open_from: dict[str, int] = {}
        for check in self._checks:
            assert check.watch is not None
            try:
                sight = check.watch(text, self._context, start, is_final)
            except Exception as error:  # noqa: BLE001 - hard checks fail closed, whatever they raise
                failed = Finding(check.name, "hard", f"{CHECK_FAILED}: {type(error).__name__}", None, "block")
                return self._stop("", [failed])
            found += [replace(finding, action=self._actions[check.name]) for finding in sight.findings]
            open_from[check.name] = sight.open_from
            settled = min(settled, sight.open_from)
        # Stable: at one place the checks stay in their order.
        found.sort(key=_start)

        stopping = next((f for f in found if _stops(f) and _start(f) <= settled), None)
        if stopping is not None and self._is_first(stopping, open_from):
            cut = _move_before_straddling(found, _start(stopping))
            passed = [f for f in found if _end(f) <= cut]
            return self._stop(self._emit(text, start, cut, passed), self._place([*passed, stopping], start))
        cut = _move_before_straddling(found, settled)
        passed = [f for f in found if _end(f) <= cut]
        released = self._emit(text, start, cut, passed)
        findings = self._place(passed, start)
        self._passed += cut - start
        self._left, self._held = text[max(0, cut - LEFT_CONTEXT) : cut], text[cut:]
        return Released(released, tuple(findings))

    def _is_first(self, stopping: Finding, open_from: Mapping[str, int]) -> bool:
        """Whether no check before this one may still find something at the same place: the verdict would depend on
        how the stream was cut."""
        before = takewhile(lambda check: check.name != stopping.check, self._checks)
        return all(open_from[check.name] > _start(stopping) for check in before)

    def _emit(self, text: str, start: int, cut: int, passed: list[Finding]) -> str:
        redacted = [_shift(finding, -start) for finding in passed if finding.action == "fix"]
        return redact(text[start:cut], redacted)

    def _place(self, findings: list[Finding], start: int) -> list[Finding]:
        return [_shift(finding, self._passed - start) for finding in findings]

    def _stop(self, text: str, findings: list[Finding]) -> Released:
        self._stopped = True
        self._left = self._held = ""
        return Released(text, tuple(findings), True)


def _start(finding: Finding) -> int:
    assert finding.span is not None, "a hard check names the place of what it finds"
    return finding.span[0]


def _end(finding: Finding) -> int:
    assert finding.span is not None, "a hard check names the place of what it finds"
    return finding.span[1]


def _shift(finding: Finding, by: int) -> Finding:
    return replace(finding, span=(_start(finding) + by, _end(finding) + by))


def _stops(finding: Finding) -> bool:
    return finding.action not in ("note", "fix") or (finding.action == "fix" and finding.check not in FIXES)


def _move_before_straddling(findings: list[Finding], cut: int) -> int:
    """The last place at or before ``cut`` that is inside no finding."""
    for finding in reversed(findings):
        if _start(finding) < cut < _end(finding):
            cut = _start(finding)
    return cut
