"""What is measured of each request, and where it goes. Observed once a request, never per token."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from deployments.ingress.places import Outcome
from deployments.ingress.priority import Priority
from graph.lifecycle import RequestLife
from graph.moves import End, Plan
from graph.pipeline import Timings


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """One choice after its end. Times in seconds."""

    ending: str
    outcome: str
    error_code: str
    streamed: bool
    attempts: int
    findings: tuple[tuple[str, str], ...]
    """Check and action of each finding of the answer."""
    prompt_tokens: int
    completion_tokens: int
    discarded_tokens: int
    first_release_s: float | None
    total_s: float
    phases_s: dict[str, float]

    @classmethod
    def of(
        cls, plan: Plan, life: RequestLife, end: End | None, timings: Timings, untold_tokens: int = 0
    ) -> "RequestFacts":
        """``untold_tokens``: of drafts that ``life`` never heard of, since it ended before one was chosen."""
        answer = end.answer if end else None
        usage = answer.usage if answer else life.usage
        first = timings.first_release
        return cls(
            ending=life.ending or "silent",
            outcome=answer.outcome if answer else "none",
            error_code=end.error.code if end and end.error else "none",
            streamed=plan.streaming,
            attempts=answer.attempts if answer else 1,
            findings=tuple((finding.check, finding.action) for finding in answer.findings) if answer else (),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            discarded_tokens=usage.discarded_tokens + untold_tokens,
            first_release_s=None if first is None else first - timings.started,
            total_s=sum(timings.marks.values()),
            phases_s=dict(timings.marks),
        )


@dataclass(frozen=True, slots=True)
class AdmissionFacts:
    """What became of one request at the door."""

    priority: Priority
    outcome: Outcome
    waited_s: float


class Telemetry(Protocol):
    """Takes facts; never raises, never blocks."""

    def observe(self, facts: RequestFacts) -> None: ...

    def decided(self, facts: AdmissionFacts) -> None:
        """A request was admitted, refused, or is gone."""
        ...

    def waiting(self, choices: int) -> None:
        """So many choices wait from now on."""
        ...

    def validated(self, outcome: str) -> None:
        """A text that a caller sent was judged."""
        ...


class RayTelemetry:
    """Facts as Ray metrics, which each node's exporter publishes with the prefix ``ray_``."""

    _SECONDS: ClassVar[list[float]] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]

    def __init__(self) -> None:
        from ray.serve.metrics import Counter, Gauge, Histogram

        self._requests = Counter(
            "rheostat_requests_total",
            description="Choices by how they ended.",
            tag_keys=("ending", "outcome", "error", "streamed"),  # type: ignore[arg-type]  # ray says tuple[str]
        )
        self._admissions = Counter(
            "rheostat_admissions_total",
            description="Requests by what became of them at the door: admitted, gone, or why they were refused.",
            tag_keys=("outcome", "priority"),  # type: ignore[arg-type]  # ray says tuple[str]
        )
        self._waiting = Gauge("rheostat_waiting_choices", description="Choices that wait for a place.")
        self._waits = Histogram(
            "rheostat_wait_seconds",
            description="How long requests waited: for their places, or in vain. Without those refused at once.",
            boundaries=self._SECONDS,
            tag_keys=("priority",),
        )
        self._validations = Counter(
            "rheostat_validations_total",
            description="Texts that callers sent to be judged, by outcome.",
            tag_keys=("outcome",),
        )
        self._regenerations = Counter(
            "rheostat_regenerations_total",
            description="Answers that were written a second time, by the outcome.",
            tag_keys=("outcome",),
        )
        self._findings = Counter(
            "rheostat_findings_total",
            description="Findings in answers that left or were blocked, by check and by what was done.",
            tag_keys=("check", "action"),  # type: ignore[arg-type]  # ray says tuple[str]
        )
        self._tokens = Counter("rheostat_tokens_total", description="Tokens by kind.", tag_keys=("kind",))
        self._first = Histogram(
            "rheostat_first_release_seconds", description="Until the first text left.", boundaries=self._SECONDS
        )
        self._phases = Histogram(
            "rheostat_phase_seconds",
            description="Time in each phase of a request.",
            boundaries=self._SECONDS,
            tag_keys=("phase",),
        )

    def observe(self, facts: RequestFacts) -> None:
        tags: dict[str, Any] = {
            "ending": facts.ending,
            "outcome": facts.outcome,
            "error": facts.error_code,
            "streamed": str(facts.streamed).lower(),
        }
        self._requests.inc(1, tags=tags)
        if facts.attempts > 1:
            self._regenerations.inc(1, tags={"outcome": facts.outcome})
        for check, action in facts.findings:
            self._findings.inc(1, tags={"check": check, "action": action})
        for kind in ("prompt", "completion", "discarded"):
            count = getattr(facts, f"{kind}_tokens")
            if count:
                self._tokens.inc(count, tags={"kind": kind})
        if facts.first_release_s is not None:
            self._first.observe(facts.first_release_s)
        for phase, seconds in facts.phases_s.items():
            self._phases.observe(seconds, tags={"phase": phase})

    def decided(self, facts: AdmissionFacts) -> None:
        self._admissions.inc(1, tags={"outcome": facts.outcome, "priority": facts.priority})
        if facts.outcome not in ("queue_full", "would_be_late"):
            self._waits.observe(facts.waited_s, tags={"priority": facts.priority})

    def waiting(self, choices: int) -> None:
        self._waiting.set(choices)

    def validated(self, outcome: str) -> None:
        self._validations.inc(1, tags={"outcome": outcome})
