"""The vocabulary of one request's life: its plan, the events it can meet, the commands it gives.

Made and read by ``graph/lifecycle.py`` (the machine) and ``graph/pipeline.py`` (its driver).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from graph.contracts import (
    AnswerFormat,
    CheckContext,
    Finding,
    FormatJob,
    GenerationJob,
    Outcome,
    Rendering,
    TokenDelta,
    ValidationJob,
    Verdict,
)
from graph.errors import RheostatError

Ending = Literal["whole", "error", "cut", "silent"]
"""whole: an answer. error: refused before the first byte. cut: an error frame and an unclean close.
silent: the client is gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fixed at admission. Times are seconds on the driver's clock."""

    job: GenerationJob
    context: CheckContext
    answer_format: AnswerFormat
    rendering: Rendering
    streaming: bool
    deadline: float
    regenerate_before: float
    """No regeneration starts at or after this time: it could not finish inside the deadline."""
    regenerate_until: float
    """A regeneration that is not done by this time is dropped; the rest is for delivering the first."""
    fallback_text: str
    refusal_text: str
    best_of: int = 1
    """How many drafts the caller wants, of which the best goes on: see ``graph/best_of.py``. 1 where ``streaming``."""
    expand_contractions: bool = False
    """Write ``do not`` for ``don't`` in all that is said; never with the answer format ``json``."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What the log row says of the request itself (tenant, prompt, receipt, ...)."""


# Events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delta:
    """The engine produced something; the attempt ends with the delta that has a finish reason."""

    delta: TokenDelta


@dataclass(frozen=True, slots=True)
class Judged:
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Formatted:
    text: str


@dataclass(frozen=True, slots=True)
class Recorded:
    pass


@dataclass(frozen=True, slots=True)
class StageFailed:
    """The stage of the current phase raised, or its engine died."""

    error: RheostatError


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    pass


@dataclass(frozen=True, slots=True)
class ClientGone:
    pass


Event = Delta | Judged | Formatted | Recorded | StageFailed | DeadlinePassed | ClientGone


# Commands -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Generate:
    job: GenerationJob
    until: float
    """When the attempt must be done; then DeadlinePassed."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Close the running attempt: the engine must stop working on it."""


@dataclass(frozen=True, slots=True)
class Release:
    """Send this to the client now."""

    text: str
    logprobs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Judge:
    job: ValidationJob


@dataclass(frozen=True, slots=True)
class Format:
    job: FormatJob


@dataclass(frozen=True, slots=True)
class Record:
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the delivered attempt, and those spent on attempts and drafts that were thrown away."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    discarded_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. In a stream ``text`` is everything that was released."""

    text: str
    finish_reason: Literal["stop", "length", "content_filter"]
    refusal: str | None
    outcome: Outcome
    score: float | None
    scores: Mapping[str, float]
    findings: tuple[Finding, ...]
    usage: Usage
    attempts: int
    logprobs: tuple[Mapping[str, Any], ...] | None
    unrendered: str = ""
    """The text before it was rendered, in the words that the client gets: what is measured."""
    adapter: str | None = None
    """Which one wrote it; None: the base model."""


@dataclass(frozen=True, slots=True)
class End:
    """The one last command."""

    ending: Ending
    answer: Answer | None = None
    error: RheostatError | None = None


Command = Generate | Abort | Release | Judge | Format | Record | End
