"""Watches the canary that the registry tells of, and acts on it: the only part that changes the aliases by itself.

Each `CanaryWatcher.poll` reads the registry if it changed, then what is new in the log, counts, judges, and at most
once changes the aliases, by compare-and-swap. If another change came first, the next poll decides anew. Nothing is kept
that the registry and the log do not tell again, so that it may be killed and restarted at any time.

Blocks; no Ray here. The Rollout deployment calls it from a thread of its own.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deployments.rollout.aliases import ALIASES, Aliases
from deployments.rollout.log_tail import LogTail, file_mark
from deployments.rollout.registry import Registry
from deployments.rollout.sequential import CanaryVerdict, Stage, judge_canary
from deployments.rollout.watch import (
    WATCHED_COLUMNS,
    WATCHED_KINDS,
    Canary,
    CanaryTally,
    Counts,
    RolloutRules,
    Step,
    canary_of,
    next_step,
    signals_of,
    sums,
)
from graph.errors import Conflict, RheostatError

logger = logging.getLogger(__name__)
BY = "canary"
"""Who decided, in the history."""
RETRY_S = 30.0
"""How long a promotion that was refused, because no gate was passed for one, is left alone."""
_REST = 4.0
"""Times as long as a judgement took, nothing is judged: at most a fifth of one core."""
_MAX_REASON_CHARS = 1000
_MAX_AHEAD_S = 5.0
"""Clocks that are apart by less lose only answers of that time."""


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """What the last poll knew, for status and metrics."""

    aliases: Aliases = field(default_factory=Aliases)
    at_us: int = 0
    """When it was made; 0: never."""
    problem: str | None = None
    """Why nothing could be judged; what is served goes on."""
    canary: Canary | None = None
    counts: Counts = field(default_factory=dict)
    verdict: CanaryVerdict | None = None
    step: Step | None = None
    held: str | None = None
    """Why a step that was decided upon was not taken."""
    left_out: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it for people and programs; null where there is no canary."""
        return {
            "at_us": self.at_us,
            "version": self.aliases.version,
            "problem": self.problem,
            "canary": None if self.canary is None else self._canary_json(self.canary),
        }

    def _canary_json(self, canary: Canary) -> dict[str, Any]:
        verdict, totals = self.verdict, sums(self.counts)
        shares = [window.share for window in canary.windows if window.share > 0]
        return {
            "challenger": canary.challenger,
            "champion": canary.champion,
            "since_us": canary.since_us,
            "share": canary.windows[-1].share,
            "stage": len(shares),
            "stages": [
                {"share": share, **{name: _stage_json(stages[at]) for name, stages in self.counts.items()}}
                for at, share in enumerate(shares)
                if self.counts
            ],
            "signals": {
                name: {
                    **_stage_json(total),
                    "difference": None if verdict is None else verdict.bounds[name].value,
                    "low": None if verdict is None else verdict.bounds[name].low,
                    "high": None if verdict is None else verdict.bounds[name].high,
                }
                for name, total in totals.items()
            },
            "next": None if self.step is None else self.step.action,
            "reason": None if self.step is None else self.step.reason,
            "held": self.held,
            "left_out": dict(self.left_out),
        }


class CanaryWatcher:
    """See the module. Not thread safe.

    Args:
        registry: Whose aliases are watched and changed.
        registry_root: Its folder; need not exist yet.
        log_root: Of the feedback log; need not exist yet.
        rules: When to act.
        acts: False: it only looks and says what it would do.
        now_us: Microseconds since 1970.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        registry: Registry,
        registry_root: Path,
        log_root: Path,
        rules: RolloutRules,
        acts: bool = True,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._aliases_path = registry_root / ALIASES
        self._log_root = log_root
        self._rules = rules
        self._acts = acts
        self._now_us = now_us
        self._clock = clock
        self._mark: object = ()
        self._aliases = Aliases()
        self._tally: CanaryTally | None = None
        self._tail: LogTail | None = None
        self._is_dirty = False
        self._rest_until_s = 0.0
        self._hold_until_s = 0.0
        self.report = CanaryReport()
        """Of the last poll; replaced as a whole, so any thread may read it."""

    def retune(self, rules: RolloutRules, acts: bool) -> None:
        """Go by these from the next poll on; what was counted is counted anew by them."""
        if (rules, acts) != (self._rules, self._acts):
            self._rules, self._acts = rules, acts
            self._tally = None

    def poll(self) -> CanaryReport:
        """Look, judge, and act at most once. What goes wrong is in the report, and is tried again by the next poll."""
        try:
            self._refresh()
            self.report = self._watch()
        except (RheostatError, OSError) as error:
            problem = error.message if isinstance(error, RheostatError) else f"{type(error).__name__}: {error}"
            if problem != self.report.problem:
                logger.error("the canary cannot be watched just now: %s", problem)
            self.report = replace(self.report, aliases=self._aliases, at_us=self._now_us(), problem=problem)
        return self.report

    def _refresh(self) -> None:
        mark = file_mark(self._aliases_path)
        if mark == self._mark:
            return
        self._aliases = self._registry.aliases()
        self._mark = mark

    def _watch(self) -> CanaryReport:
        canary = canary_of(self._aliases)
        if canary is None:
            self._tally = self._tail = None
            return CanaryReport(self._aliases, self._now_us())
        tally = self._read(canary)
        old, now_s = self.report, self._clock()
        is_same = old.canary == canary and old.problem is None and old.step is not None
        # What is held may be possible by now, with the same counts: the gate may have passed it.
        is_held = old.held is not None and now_s >= self._hold_until_s
        if is_same and (now_s < self._rest_until_s or not (self._is_dirty or is_held)):
            return replace(old, aliases=self._aliases, at_us=self._now_us(), left_out=dict(tally.left_out))
        counts = tally.counts()
        verdict = judge_canary(signals_of(counts, self._rules), self._rules.canary)
        step = next_step(canary, counts, verdict, self._rules)
        ended_s = self._clock()
        self._is_dirty, self._rest_until_s = False, ended_s + _REST * (ended_s - now_s)
        held = self._act(canary, step)
        problem = self._clock_problem(canary)
        return CanaryReport(
            self._aliases, self._now_us(), problem, canary, counts, verdict, step, held, dict(tally.left_out)
        )

    def _clock_problem(self, canary: Canary) -> str | None:
        ahead_s = (canary.windows[-1].since_us - self._now_us()) / 1e6
        if ahead_s < _MAX_AHEAD_S:
            return None
        return (
            f"The canary's share was changed {ahead_s:.0f} s in the future: the clock of whoever did it is wrong, and "
            "no answer counts until then. Set the clocks, then clear the canary (python -m training canary --clear) "
            "and start it again."
        )

    def _read(self, canary: Canary) -> CanaryTally:
        """The tally of this canary, with all that is in the log by now."""
        tally, tail = self._tally, self._tail
        if tally is None or tail is None or not _is_same(tally.canary, canary):
            tally, tail = (
                CanaryTally(canary, self._rules),
                LogTail(self._log_root, canary.since_us, WATCHED_KINDS, WATCHED_COLUMNS),
            )
            self._is_dirty = True
        found = tail.read()
        if found.restarted and tally is self._tally:
            tally, self._is_dirty = CanaryTally(canary, self._rules), True
        # Kept only now: a first reading that failed must begin again.
        self._tally, self._tail = tally, tail
        if tally.canary != canary:
            tally.follow(canary)
            self._is_dirty = True
        self._is_dirty |= tally.add(found.rows)
        return tally

    def _act(self, canary: Canary, step: Step) -> str | None:
        """Take the step, unless it is to wait. Returns why it was not taken; None: it was, or there is none."""
        if step.action == "wait":
            return None
        if not self._acts:
            return "it does not act by itself: canary_acts is off"
        decided: dict[str, Any] = {
            "expected_version": self._aliases.version,
            "now_us": self._now_us(),
            "by": BY,
            "reason": step.reason[:_MAX_REASON_CHARS],
        }
        try:
            match step.action:
                case "roll_back":
                    aliases = self._registry.clear_challenger(**decided)
                case "promote":
                    aliases = self._registry.promote(canary.challenger, **decided)
                case "advance":
                    assert step.share is not None
                    aliases = self._registry.set_share(step.share, **decided)
        except Conflict as error:
            # Another change came first (the next poll sees it), or the gate did not pass it.
            self._mark = ()
            self._hold_until_s = self._clock() + RETRY_S if self._registry.aliases() == self._aliases else 0.0
            logger.warning("the canary's step %s was not taken: %s", step.action, error.message)
            return error.message
        logger.warning("canary %s: %s; %s", canary.challenger[:12], step.action, step.reason)
        self._aliases, self._mark = aliases, ()
        return None


def _is_same(one: Canary, other: Canary) -> bool:
    return (one.challenger, one.champion, one.since_us) == (other.challenger, other.champion, other.since_us)


def _stage_json(stage: Stage) -> dict[str, int]:
    return {
        "champion_answers": stage.champion.answers,
        "champion_failures": stage.champion.failures,
        "canary_answers": stage.canary.answers,
        "canary_failures": stage.canary.failures,
    }
