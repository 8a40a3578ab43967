"""Counts what the log says of both arms of a canary, by stage, and decides what to do next. Pure.

Which rows count
    Answers since the challenger got a share of the traffic, written by the adapter that their arm names; not those
    whose arm was chosen by the caller (``extra.purpose``, such as the gate's): nobody drew lots for them.
Signals
    validator   an answer that arrived, and that a check found fault with. What was not judged says nothing.
    errors      an answer that never arrived (row ``undelivered``).
    thumbs      a thumb down among thumbs; of a rater and an answer the latest, with retracts and supersedes.
A stage is the time between two changes of the share. Each holds its own counts: see `sequential.Stage`.

One unit (a person, or a conversation where nobody says who asks) gives at most ``outcomes_per_unit`` outcomes an arm
and stage, its first ones: answers of one person are alike, and the bounds hold for outcomes that are not. So does one
rater.

The counts follow from the *set* of rows that were added, not from their order or from how often each came, so that a
restart that reads them again counts the same. `canary` feeds it; `sequential` judges.
"""

import hashlib
import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import Aliases
from deployments.rollout.sequential import ArmCounts, CanaryRules, CanaryVerdict, Signal, Stage
from graph.errors import InvalidRequest

Row = Mapping[str, Any]
Counts = Mapping[str, tuple[Stage, ...]]
"""Stages by signal."""
SIGNALS = ("validator", "errors", "thumbs")
WATCHED_KINDS = ("generation", "undelivered", "thumb", "supersede", "retract")
WATCHED_COLUMNS = (
    "event_id",
    "kind",
    "generation_id",
    "tenant",
    "name",
    "value_bool",
    "source_type",
    "source_id",
    "supersedes",
    "adapter",
    "arm",
    "ts_server_us",
    "failed_checks",
    "outcome",
    "extra",
    "prompt",
    "prompt_hash",
)
"""What `CanaryTally.add` looks at."""
THUMB = "thumb"
"""The metric that is watched; other boolean metrics may mean anything."""
MAX_KEPT = 10_000
"""Answers of an arm and stage that are remembered, some 300 bytes each. The first ones: more would tell little."""
_BAD_OUTCOMES = ("degraded", "blocked")
_NOT_JUDGED = "unvalidated"
_ARMS = ("champion", "challenger")


@dataclass(frozen=True, slots=True)
class Window:
    """A stage as a time: from one change of the share to the next."""

    share: float
    since_us: int
    """By the clock of whoever changed it."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A challenger that gets traffic, and whom it is compared with."""

    challenger: str
    champion: str
    windows: tuple[Window, ...]
    """Oldest first, each until the next one begins; those without a share too."""

    @property
    def since_us(self) -> int:
        """When it began."""
        return self.windows[0].since_us

    def stage_at(self, at_us: int) -> int | None:
        """Return the index among `windows` of this time; None: before the canary, or while it had no share."""
        at = bisect_right(self.windows, at_us, key=lambda window: window.since_us) - 1
        return at if at >= 0 and self.windows[at].share > 0 else None


@dataclass(frozen=True, slots=True)
class RolloutRules:
    """When the rollout acts by itself.

    Raises:
        InvalidRequest: A share is not between 0 and 1 or they do not rise, or a number is not positive.
    """

    shares: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5)
    """Of the traffic, one stage after the other."""
    stage_answers: int = 50
    """Outcomes of the canary in a stage before the next one begins."""
    outcomes_per_unit: int = 5
    """Of a person or conversation, in an arm and stage. With 1 the bounds are exact however alike one's answers are;
    more decides sooner where few people ask."""
    validator_margin: float = 0.05
    error_margin: float = 0.05
    """How much worse the canary's rate may be, surely, when it is promoted."""
    canary: CanaryRules = field(default_factory=CanaryRules)

    def __post_init__(self) -> None:
        if not self.shares or list(self.shares) != sorted(set(self.shares)) or not 0 < self.shares[0] <= 1:
            raise InvalidRequest(f"The shares are {self.shares}; they must rise, each between 0 and 1.", "shares")
        if self.shares[-1] > 1:
            raise InvalidRequest(f"The last share is {self.shares[-1]}; it must be at most 1.", param="shares")
        for name in ("stage_answers", "outcomes_per_unit"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be at least 1.", param=name)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with the canary now."""

    action: Literal["wait", "advance", "roll_back", "promote"]
    reason: str
    share: float | None = None
    """Of an advance: the next one."""


def canary_of(aliases: Aliases) -> Canary | None:
    """Return the canary that the aliases' history tells of; None: no challenger, or it never had a share.

    It begins anew when another champion takes over: what was counted against the old one says nothing.
    """
    if aliases.challenger is None:
        return None
    changes = []
    for change in reversed(aliases.history):
        if (change.challenger, change.champion) != (aliases.challenger, aliases.champion):
            break
        changes.append(change)
    windows: list[Window] = []
    for change in reversed(changes):
        last = windows[-1] if windows else Window(0.0, 0)
        # The same share again is the same stage; and before the first share there is nothing to count.
        if change.share != last.share:
            # Stages follow each other also where the clocks of those who changed the share do not.
            windows.append(Window(change.share, max(change.at_us, last.since_us)))
    return Canary(aliases.challenger, aliases.champion, tuple(windows)) if windows else None


def signals_of(counts: Counts, rules: RolloutRules) -> Mapping[str, Signal]:
    """Return what `sequential.judge_canary` takes. Thumbs are rare, so promotion does not wait for them."""
    margins = {"validator": rules.validator_margin, "errors": rules.error_margin, "thumbs": None}
    return {name: Signal(counts[name], margins[name]) for name in SIGNALS}


def next_step(canary: Canary, counts: Counts, verdict: CanaryVerdict, rules: RolloutRules) -> Step:
    """Decide from all that was counted so far and what the sequential test makes of it."""
    if verdict.action != "continue":
        return Step(verdict.action, "; ".join(verdict.reasons))
    share = canary.windows[-1].share
    if share == 0:
        return Step("wait", "the canary has no share of the traffic now")
    outcomes = counts["errors"][-1].canary.answers
    following = next((each for each in rules.shares if each > share), None)
    if following is None:
        return Step("wait", "; ".join(verdict.reasons))
    if outcomes < rules.stage_answers:
        missing = f"{outcomes} outcomes of the canary at a share of {share:g}; the next needs {rules.stage_answers}"
        return Step("wait", "; ".join((missing, *verdict.reasons)))
    return Step("advance", f"{outcomes} outcomes at a share of {share:g}, and none of it shows harm", following)


@dataclass(frozen=True, slots=True)
class _Answer:
    generation_id: str
    is_canary: bool
    unit: str
    at_us: int
    failed: bool | None
    """None: not judged."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A thumb, or what changes one."""

    event_id: str
    kind: str
    rater: str | None
    at_us: int
    is_down: bool | None
    target: str | None


class CanaryTally:
    """What was counted of one canary; see the module. Not thread safe."""

    def __init__(self, canary: Canary, rules: RolloutRules) -> None:
        self._canary = canary
        self._rules = rules
        self._answers: dict[str, _Answer] = {}
        self._undelivered: set[str] = set()
        self._said: dict[str, dict[str, _Said]] = defaultdict(dict)
        self._kept: Counter[tuple[int | None, bool]] = Counter()
        self.left_out: Counter[str] = Counter()
        """Answers of either arm that do not count, by reason; for people, and only since the last restart."""

    @property
    def canary(self) -> Canary:
        return self._canary

    def follow(self, canary: Canary) -> None:
        """Take the windows of the same canary as they are now: answers move to the stage of their time."""
        self._canary = canary
        self._kept = Counter((canary.stage_at(answer.at_us), answer.is_canary) for answer in self._answers.values())

    def add(self, rows: Sequence[Row]) -> bool:
        """Take in rows with `WATCHED_COLUMNS`; others than those of the canary change nothing. True: some counted."""
        changed = False
        for row in rows:
            if row["kind"] == "generation":
                changed |= self._add_answer(row)
        # After the answers: what is said of an answer may have been read in another order than it was written in.
        for row in rows:
            if row["kind"] != "generation" and row["generation_id"] in self._answers:
                changed |= self._add_about(row)
        return changed

    def counts(self) -> Counts:
        """Return all counts, a stage for each of the canary's windows with a share, in order."""
        stages = [at for at, window in enumerate(self._canary.windows) if window.share > 0]
        tallies = {name: {at: (_Arm(), _Arm()) for at in stages} for name in SIGNALS}
        used: Counter[tuple[Any, ...]] = Counter()
        thumbs: list[tuple[int, str, int, bool, str, bool]] = []
        for answer in sorted(self._answers.values(), key=lambda answer: (answer.at_us, answer.generation_id)):
            at = self._canary.stage_at(answer.at_us)
            if at is None:
                continue
            arm = answer.is_canary
            for said in self._thumbs_of(answer):
                rater = said.rater or answer.unit
                thumbs.append((said.at_us, said.event_id, at, arm, rater, bool(said.is_down)))
            used[at, arm, answer.unit] += 1
            if used[at, arm, answer.unit] > self._rules.outcomes_per_unit:
                continue
            is_lost = answer.generation_id in self._undelivered
            tallies["errors"][at][arm].add(is_lost)
            if not is_lost and answer.failed is not None:
                tallies["validator"][at][arm].add(answer.failed)
        for *_, at, arm, rater, is_down in sorted(thumbs):
            used[at, arm, rater, THUMB] += 1
            if used[at, arm, rater, THUMB] <= self._rules.outcomes_per_unit:
                tallies["thumbs"][at][arm].add(is_down)
        return {
            name: tuple(Stage(champion.counts(), canary.counts()) for champion, canary in by_stage.values())
            for name, by_stage in tallies.items()
        }

    def _add_answer(self, row: Row) -> bool:
        arm, generation_id = row["arm"], row["generation_id"]
        if arm not in _ARMS or generation_id is None or generation_id in self._answers:
            return False
        is_canary = arm == "challenger"
        expected = self._canary.challenger if is_canary else self._canary.champion
        if (row["adapter"] or BASE) != expected:
            # Before a change arrived at that replica, or the base model had to answer for an adapter.
            self.left_out["written by another adapter"] += 1
            return False
        at = self._canary.stage_at(row["ts_server_us"])
        if at is None:
            return False
        if _purpose_of(row) is not None:
            self.left_out["arm chosen by the caller"] += 1
            return False
        if self._kept[at, is_canary] >= MAX_KEPT:
            self.left_out["more than are remembered"] += 1
            return False
        self._kept[at, is_canary] += 1
        self._answers[generation_id] = _Answer(
            generation_id, is_canary, _unit_of(row), row["ts_server_us"], _has_failed(row)
        )
        return True

    def _add_about(self, row: Row) -> bool:
        generation_id, event_id = row["generation_id"], row["event_id"]
        if row["kind"] == "undelivered":
            is_new = generation_id not in self._undelivered
            self._undelivered.add(generation_id)
            return is_new
        if row["kind"] != "retract" and (row["name"] != THUMB or row["source_type"] not in (None, "human")):
            return False
        said = self._said[generation_id]
        if event_id in said:
            return False
        rater = None if row["source_id"] is None else f"{row['tenant']}\0{row['source_id']}"
        is_down = None if row["value_bool"] is None else not row["value_bool"]
        said[event_id] = _Said(event_id, row["kind"], rater, row["ts_server_us"], is_down, row["supersedes"])
        return True

    def _thumbs_of(self, answer: _Answer) -> Iterator[_Said]:
        """The thumb of each rater that stands; the rules are those of ``analysis.fates``."""
        said = self._said.get(answer.generation_id)
        if not said:
            return
        retracted = {each.target for each in said.values() if each.kind == "retract"}
        new_values: dict[str, _Said] = {}
        for each in sorted(said.values(), key=_said_at):
            stands = each.kind == "supersede" and each.event_id not in retracted and each.is_down is not None
            if stands and (began := _began(each, said)) is not None:
                new_values[began] = each
        latest: dict[str | None, _Said] = {}
        for each in sorted(said.values(), key=_said_at):
            if each.kind == THUMB and each.event_id not in retracted:
                value = new_values.get(each.event_id, each).is_down
                if value is not None:
                    latest[each.rater] = _Said(each.event_id, THUMB, each.rater, each.at_us, value, None)
        yield from latest.values()


class _Arm:
    """Counts of one arm while they are made."""

    def __init__(self) -> None:
        self.answers = 0
        self.failures = 0

    def add(self, failed: bool) -> None:
        self.answers += 1
        self.failures += failed

    def counts(self) -> ArmCounts:
        return ArmCounts(self.answers, self.failures)


def sums(counts: Counts) -> Mapping[str, Stage]:
    """Return the counts by signal over all stages; for people: tests need the stages (see `sequential.Stage`)."""
    return {
        name: Stage(_sum(s.champion for s in stages), _sum(s.canary for s in stages)) for name, stages in counts.items()
    }


def _sum(arms: Iterable[ArmCounts]) -> ArmCounts:
    every = list(arms)
    return ArmCounts(sum(arm.answers for arm in every), sum(arm.failures for arm in every))


def _said_at(said: _Said) -> tuple[int, str]:
    return said.at_us, said.event_id


def _began(supersede: _Said, said: Mapping[str, _Said]) -> str | None:
    """The thumb that a supersede speaks of, also through other supersedes; a circle has none."""
    seen = set()
    at: _Said | None = supersede
    while at is not None and at.event_id not in seen:
        if at.kind == THUMB:
            return at.event_id
        seen.add(at.event_id)
        at = said.get(at.target or "")
    return None


def _has_failed(row: Row) -> bool | None:
    if row["outcome"] in _BAD_OUTCOMES:
        return True
    if row["outcome"] == _NOT_JUDGED or row["failed_checks"] is None:
        return None
    return bool(row["failed_checks"] != "[]")


def _purpose_of(row: Row) -> Any:
    extra = row["extra"]
    # Nearly no row has one, and parsing JSON costs more than all else here.
    if not extra or '"purpose"' not in extra:
        return None
    return json.loads(extra).get("purpose")


def _unit_of(row: Row) -> str:
    """What the arm of this answer stuck to, as ``arms.unit_of`` tells it, as far as the log can know."""
    if row["source_id"] is not None:
        return f"{row['tenant']}\0{row['source_id']}"
    begun = row["prompt_hash"] or row["generation_id"]
    if row["prompt"]:
        messages = json.loads(row["prompt"])
        first_user = next((at for at, turn in enumerate(messages) if turn["role"] == "user"), len(messages) - 1)
        text = json.dumps([[turn["role"], turn["content"]] for turn in messages[: first_user + 1]])
        begun = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{row['tenant']}\0conversation\0{begun}"
