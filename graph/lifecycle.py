"""One request's life as a pure state machine: events in, commands out, no clock and no I/O of its own.

    GENERATING ──EngineFinished──> JUDGING ──Judged──> FORMATTING ──Formatted──> RECORDING ──Recorded──> ENDED
        ^  │ Delta: Release what the guard lets go          │
        └──┼──────────── one regeneration ──────────────────┘
           └─ any phase: StageFailed, DeadlinePassed, ClientGone ──> ENDED

Every order of events ends in exactly one of four endings (``Ending``). It decides what happens next; it owns
no task, handle or timer: ``graph/pipeline.py`` carries the commands out and feeds the events back.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from graph.contracts import CHECK_FAILED, Finding, FinishReason, FormatJob, Outcome, TokenDelta, ValidationJob, Verdict
from graph.errors import DeadlineExceeded, RheostatError
from graph.held_logprobs import HeldLogprobs
from graph.moves import (
    Abort,
    Answer,
    ClientGone,
    Command,
    DeadlinePassed,
    Delta,
    End,
    Ending,
    Event,
    Format,
    Formatted,
    Generate,
    Judge,
    Judged,
    Plan,
    Record,
    Recorded,
    Release,
    StageFailed,
    Usage,
)
from graph.quality import is_crash, quality_of, resort_of, worth
from graph.regeneration import reason_of, regeneration_job


class Phase(StrEnum):
    """Where a request is; each phase waits for exactly one stage."""

    GENERATING = "generating"
    JUDGING = "judging"
    FORMATTING = "formatting"
    RECORDING = "recording"
    ENDED = "ended"


class GuardRelease(Protocol):
    """What a guard lets go: see ``deployments/validator/guard.py``."""

    @property
    def text(self) -> str: ...
    @property
    def findings(self) -> tuple[Finding, ...]: ...
    @property
    def stop(self) -> bool: ...


class Guard(Protocol):
    """Hold-back scanner: text comes out only once it can no longer become a hard finding."""

    def feed(self, text: str) -> GuardRelease: ...
    def flush(self) -> GuardRelease: ...


class TextStream(Protocol):
    """Incremental renderer of released text, such as the Markdown stripper, or several in a row."""

    def feed(self, text: str) -> str: ...
    def flush(self) -> str: ...


class Regenerations(Protocol):
    """Says which answers may be written again: see ``graph/regeneration_budget.py``."""

    def count(self) -> None: ...
    def allow(self, reason: str) -> bool: ...
    def tell(self, reason: str, helped: bool) -> None: ...


class _Unlimited:
    def count(self) -> None:
        pass

    def allow(self, reason: str) -> bool:
        return True

    def tell(self, reason: str, helped: bool) -> None:
        pass


@dataclass(slots=True)
class _Candidate:
    """One attempt as it grows, then as it was judged."""

    attempt: int
    pieces: list[str] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    discarded_tokens: int = 0
    """Of drafts beside this one."""
    finish_reason: FinishReason | None = None
    adapter: str | None = None
    logprobs: list[Mapping[str, Any]] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class RequestLife:
    """The machine. Call ``start()`` once, then ``step(event, now)`` until an ``End`` comes back.

    * A step in phase ENDED returns nothing: there is never a second ending.
    * Nothing is released that the guard has not passed.
    * ``Record`` always comes before the ``End("whole")`` that it belongs to.
    * ``Abort`` precedes any End or Generate while an attempt is running.
    """

    def __init__(
        self,
        plan: Plan,
        make_guard: Callable[[], Guard],
        make_rendering: Callable[[], TextStream] | None = None,
        expand: Callable[[str], str] | None = None,
        closed_checks: Sequence[str] = (),
        regenerations: Regenerations | None = None,
    ) -> None:
        """
        Args:
            plan: What was fixed at admission.
            make_guard: Called for each attempt, and for what the formatter made.
            make_rendering: Called for each attempt of a stream; None: text leaves as it is.
            expand: Writes contractions out in a whole text; used where the plan asks for it. A stream's rendering
                has to do the same to its pieces.
            closed_checks: Those that fail closed and that only the judging stage can run: without its verdict they
                block.
            regenerations: Asked before an answer is written again, and told what came of it; None: each may be, once.
        """
        self.phase = Phase.GENERATING
        self.ending: Ending | None = None
        self._plan = plan
        self._make_guard = make_guard
        self._make_rendering = make_rendering
        self._expand = expand if plan.expand_contractions else None
        self._closed_checks = closed_checks
        self._regenerations = regenerations or _Unlimited()
        self._reason: str | None = None
        """Of the regeneration of which nothing was told yet."""
        self._guard = make_guard()
        self._rendering = make_rendering() if make_rendering else None
        self._job = plan.job
        self._candidate = _Candidate(attempt=0)
        self._first: _Candidate | None = None
        self._delivered: _Candidate | None = None
        self._released: list[str] = []
        self._blank = ""
        """White space that a stream began with: held until more comes, for it alone is no answer."""
        self._guard_findings: list[Finding] = []
        self._logprobs = HeldLogprobs()
        self._answer: Answer | None = None

    @property
    def has_released(self) -> bool:
        """Whether the client has seen a byte of the answer."""
        return any(self._released)

    @property
    def usage(self) -> Usage:
        """Tokens so far, the running attempt as the delivered one."""
        return self._usage(self._candidate)

    def start(self) -> tuple[Command, ...]:
        return (Generate(self._job, self._plan.deadline),)

    def step(self, event: Event, now: float) -> tuple[Command, ...]:
        """The commands that ``event`` at time ``now`` calls for, in order."""
        if self.phase is Phase.ENDED:
            return ()
        match event:
            case ClientGone():
                return self._end("silent")
            case DeadlinePassed() if not self._is_second_try:
                return self._fail(_too_late())
            case DeadlinePassed():
                return self._on_failure(_too_late())
            case Delta(delta) if self.phase is Phase.GENERATING:
                return self._on_delta(delta)
            case Judged(verdict) if self.phase is Phase.JUDGING:
                return self._on_judged(verdict, now)
            case Formatted(text) if self.phase is Phase.FORMATTING:
                return self._on_formatted(text)
            case Recorded() if self.phase is Phase.RECORDING:
                return self._end("whole", answer=self._answer)
            case StageFailed(error):
                return self._on_failure(error)
        raise AssertionError(f"event {event!r} cannot come in phase {self.phase}")

    # Generating

    def _on_delta(self, delta: TokenDelta) -> tuple[Command, ...]:
        candidate = self._candidate
        candidate.pieces.append(delta.text)
        candidate.tokens += delta.token_count
        candidate.prompt_tokens = delta.prompt_tokens
        candidate.cached_tokens = delta.cached_tokens
        candidate.discarded_tokens += delta.discarded_tokens
        candidate.finish_reason = delta.finish_reason
        candidate.adapter = delta.adapter
        candidate.logprobs.extend(delta.logprobs)
        commands: list[Command] = []
        if self._plan.streaming:
            stopped = self._let_go(delta, commands)
            if stopped:
                # First: a client that reads slowly must not keep the engine at work.
                abort = (Abort(),) if delta.finish_reason is None else ()
                return (*abort, *commands, *self._blocked(tuple(self._guard_findings)))
        if delta.finish_reason is None:
            return tuple(commands)
        self.phase = Phase.JUDGING
        return (*commands, self._judge_command())

    def _let_go(self, delta: TokenDelta, commands: list[Command]) -> bool:
        """Adds the Release of what may leave by now; returns whether the guard stopped the stream.

        Rendered first and guarded then: the guard must see what the client sees. Taking Markdown marks out can join
        what they kept apart, and a line of the system prompt may be whole only with its contractions written out.
        """
        is_last = delta.finish_reason is not None
        text = delta.text
        if self._rendering is not None:
            text = self._rendering.feed(text) + (self._rendering.flush() if is_last else "")
        passed = [self._guard.feed(text)]
        if is_last and not passed[0].stop:
            passed.append(self._guard.flush())
        for release in passed:
            self._guard_findings.extend(release.findings)
        out = "".join(release.text for release in passed)
        stopped = passed[-1].stop
        self._logprobs.feed(delta.logprobs, len(text), is_silent=stopped or bool(self._guard_findings))
        self._logprobs.released(len(out))
        out, self._blank = self._blank + out, ""
        if not self.has_released and not out.strip():
            out, self._blank = "", out
        if out or (is_last and self.has_released):
            # Rendered text is not as long as its tokens: where there is a rendering, they leave together at the end.
            may_leave = is_last or self._rendering is None
            logprobs = self._logprobs.take(everything=is_last) if may_leave else ()
            if out or logprobs:
                self._released.append(out)
                commands.append(Release(out, logprobs))
        return stopped

    def _judge_command(self) -> Judge:
        candidate = self._candidate
        context = replace(self._plan.context, finish_reason=candidate.finish_reason)
        return Judge(ValidationJob(candidate.text, context))

    # Judging

    def _on_judged(self, verdict: Verdict, now: float) -> tuple[Command, ...]:
        candidate = self._candidate
        candidate.verdict = verdict
        self._tell_regeneration(verdict.action in ("deliver", "fix"))
        if self.has_released:
            # What the client has cannot be taken back: the verdict goes into the finish chunk.
            if self._must_block_stream(verdict):
                return self._blocked(verdict.findings, candidate)
            return self._deliver(candidate, self._streamed_outcome(verdict), "".join(self._released))
        if self._first is not None:
            return self._settle(self._best())
        self._regenerations.count()
        if verdict.action in ("regenerate", "fallback") and now < self._plan.regenerate_before:
            reason = reason_of(verdict.findings, self._plan.context.language)
            if self._regenerations.allow(reason):
                self._reason = reason
                return self._regenerate(verdict)
        return self._settle(self._best())

    def _tell_regeneration(self, helped: bool) -> None:
        if self._reason is not None:
            self._regenerations.tell(self._reason, helped)
            self._reason = None

    def _must_block_stream(self, verdict: Verdict) -> bool:
        """Whether the pool found what must not leave, and the guard did not: more values of a kind than it took out,
        or one for which the policy blocks."""
        known = Counter(f.check for f in self._guard_findings)
        found = Counter(f.check for f in verdict.findings if f.severity == "hard" and f.action != "note")
        blocks = any(f.action == "block" and not known[f.check] for f in verdict.findings)
        return blocks or any(count > known[check] for check, count in found.items())

    def _streamed_outcome(self, verdict: Verdict) -> Outcome:
        """Of a stream: redacted inline counts as fixed; anything that only a whole answer could mend, degraded."""
        if verdict.is_degraded or any(f.severity == "soft" and f.action != "note" for f in verdict.findings):
            return "degraded"
        return "fixed" if any(f.action == "fix" for f in self._guard_findings) else "pass"

    def _regenerate(self, verdict: Verdict) -> tuple[Command, ...]:
        self._first = self._candidate
        self._candidate = _Candidate(attempt=1)
        self._job = regeneration_job(self._plan.job, verdict.findings)
        self._guard = self._make_guard()
        self._rendering = self._make_rendering() if self._make_rendering else None
        self._guard_findings = []
        self._logprobs = HeldLogprobs()
        self._blank = ""
        self.phase = Phase.GENERATING
        return (Generate(self._job, self._plan.regenerate_until),)

    def _best(self) -> _Candidate:
        """The better of the judged attempts: the milder action, then the higher score, then the later."""
        judged = [c for c in (self._first, self._candidate) if c is not None and c.verdict is not None]

        def rank(candidate: _Candidate) -> tuple[tuple[int, float], int]:
            assert candidate.verdict is not None
            return worth(candidate.verdict), candidate.attempt

        return max(judged, key=rank)

    def _settle(self, best: _Candidate) -> tuple[Command, ...]:
        verdict = best.verdict
        assert verdict is not None
        text = best.text if verdict.fixed_text is None else verdict.fixed_text
        if verdict.action in ("deliver", "fix"):
            outcome: Outcome = "pass" if verdict.action == "deliver" else "fixed"
            outcome = "degraded" if verdict.is_degraded else "retried" if best.attempt else outcome
            return self._deliver(best, outcome, text)
        match resort_of(verdict):
            case "deliver":
                return self._deliver(best, "degraded", text)
            case "fallback":
                return self._deliver(best, "degraded", self._plan.fallback_text)
            case "block":
                return self._blocked(verdict.findings, best)

    # Delivering

    def _deliver(self, candidate: _Candidate, outcome: Outcome, text: str) -> tuple[Command, ...]:
        self._delivered = candidate
        verdict = candidate.verdict or Verdict("deliver")
        findings = (*self._guard_findings, *(f for f in verdict.findings if not self._is_known(f)))
        # Logprobs spell out the raw tokens: with any byte changed they would leak what was taken out.
        untouched = text == candidate.text and not self._plan.streaming
        # What was released has been through its rendering, and code may no longer be told from prose in it.
        worded = self._expand(text) if self._expand is not None and not self.has_released else text
        if outcome != "degraded" and any(map(is_crash, verdict.findings)):
            outcome = "unvalidated"
        self._answer = Answer(
            # Of a whole answer, the text as it was judged: what the formatter makes of it is compared with that.
            text=worded if self._plan.streaming else text,
            finish_reason="stop" if candidate.finish_reason == "stop" else "length",
            refusal=None,
            outcome=outcome,
            score=None if outcome == "unvalidated" else verdict.score,
            scores=verdict.scores,
            findings=findings,
            usage=self._usage(candidate),
            adapter=candidate.adapter,
            attempts=1 if self._first is None else 2,
            logprobs=tuple(candidate.logprobs) if untouched and candidate.logprobs else None,
            unrendered=worded,
        )
        commands: tuple[Command, ...] = ()
        if self._plan.streaming:
            if not self.has_released and worded:
                # A regenerated or replaced answer of a stream that had nothing to show yet.
                self._released.append(worded)
                commands = (Release(worded),)
            return (*commands, *self._record())
        self.phase = Phase.FORMATTING
        plan = self._plan
        return (Format(FormatJob(text, plan.answer_format, plan.rendering, plan.expand_contractions)),)

    def _on_formatted(self, text: str) -> tuple[Command, ...]:
        answer = self._answer
        assert answer is not None
        if text != answer.text or self._expand is not None:
            # What was judged is not what leaves: taking marks out can join what they kept apart, and written out, a
            # contraction may be the system prompt's own words. The guard knows those written out too.
            guard = self._make_guard()
            head, tail = guard.feed(text), guard.flush()
            found = tuple(f for f in (*head.findings, *tail.findings) if f.action != "note")
            if head.stop or tail.stop:
                return self._blocked((*answer.findings, *found), self._delivered)
            if found:
                outcome: Outcome = "fixed" if answer.outcome == "pass" else answer.outcome
                answer = replace(answer, outcome=outcome, findings=(*answer.findings, *found), logprobs=None)
            text = head.text + tail.text
        self._answer = replace(answer, text=text)
        return self._record()

    def _is_known(self, finding: Finding) -> bool:
        """The guard and the pool both see a hard value; the guard's finding stands for both."""
        return any(f.check == finding.check for f in self._guard_findings)

    def _blocked(self, findings: Sequence[Finding], candidate: _Candidate | None = None) -> tuple[Command, ...]:
        candidate = candidate or self._candidate
        verdict = candidate.verdict
        self._answer = Answer(
            text="".join(self._released),
            finish_reason="content_filter",
            refusal=self._plan.refusal_text,
            outcome="blocked",
            score=0.0,
            scores=verdict.scores if verdict else {"safety": 0.0},
            findings=tuple(findings),
            usage=self._usage(candidate),
            adapter=candidate.adapter,
            attempts=1 if self._first is None else 2,
            logprobs=None,
        )
        return self._record()

    def _usage(self, delivered: _Candidate) -> Usage:
        others = [c for c in (self._first, self._candidate) if c is not None and c is not delivered]
        return Usage(
            prompt_tokens=delivered.prompt_tokens,
            completion_tokens=delivered.tokens,
            cached_tokens=delivered.cached_tokens,
            discarded_tokens=delivered.discarded_tokens + sum(c.tokens + c.discarded_tokens for c in others),
        )

    def _record(self) -> tuple[Command, ...]:
        answer = self._answer
        assert answer is not None
        self.phase = Phase.RECORDING
        row = dict(self._plan.record)
        row.update(
            answer=answer.text,
            outcome=answer.outcome,
            quality=quality_of(answer),
            finish_reason=answer.finish_reason,
            attempts=answer.attempts,
            adapter=answer.adapter,
        )
        return (Record(row),)

    # Failing

    @property
    def _is_second_try(self) -> bool:
        """A regeneration is running and nothing of it was released: the first attempt can still be delivered."""
        return self.phase is Phase.GENERATING and self._first is not None and not self.has_released

    def _on_failure(self, error: RheostatError) -> tuple[Command, ...]:
        match self.phase:
            case Phase.GENERATING if self._is_second_try:
                assert self._first is not None
                self._tell_regeneration(False)
                return (Abort(), *self._settle(self._first))
            case Phase.JUDGING:
                return self._unjudged(error)
            case _:
                return self._fail(error)

    def _unjudged(self, error: RheostatError) -> tuple[Command, ...]:
        """What fails open is told. Of what fails closed, the guard, in this process, stands in for the hard checks; any
        other blocks."""
        if self._first is not None and not self.has_released:
            return self._settle(self._first)
        if self._closed_checks:
            reason = f"{CHECK_FAILED}: the validator pool did not answer ({error.code})"
            return self._blocked([Finding(name, "hard", reason, action="block") for name in self._closed_checks])
        candidate = self._candidate
        told = Finding("validator", "note", f"The validator pool did not answer ({error.code}).")
        if self.has_released:
            candidate.verdict = Verdict("deliver", (told,))
            return self._deliver(candidate, "unvalidated", "".join(self._released))
        head, tail = self._guard.feed(candidate.text), self._guard.flush()
        self._guard_findings += [*head.findings, *tail.findings]
        if head.stop or tail.stop:
            return self._blocked(tuple(self._guard_findings))
        candidate.verdict = Verdict("deliver", (told,))
        return self._deliver(candidate, "unvalidated", head.text + tail.text)

    def _fail(self, error: RheostatError) -> tuple[Command, ...]:
        return self._end("cut" if self.has_released else "error", error=error)

    def _end(
        self, ending: Ending, answer: Answer | None = None, error: RheostatError | None = None
    ) -> tuple[Command, ...]:
        running = self.phase is Phase.GENERATING
        self.phase, self.ending = Phase.ENDED, ending
        end = End(ending, answer, error)
        return (Abort(), end) if running else (end,)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "The answer was not whole before the deadline; ask for less depth or a smaller max_tokens, or allow more time."
    )
