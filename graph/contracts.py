"""Every record that crosses between deployments: frozen, plain data. If it is not here, it does not cross.

Each class says who makes it and who reads it. No OpenAI, vLLM or pydantic object ever crosses: they hold
iterators that do not pickle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "repetition"]
Severity = Literal["note", "soft", "hard"]
"""note: told, never acted on. soft: quality. hard: secret, PII, prompt leak, and a check that could not run and fails
closed."""
Action = Literal["note", "fix", "regenerate", "fallback", "block"]
CHECK_FAILED = "check failed"
"""How the message of a finding begins whose check could not run: one that fails open makes the answer unvalidated."""
Outcome = Literal["pass", "fixed", "retried", "degraded", "blocked", "unvalidated"]
AnswerFormat = Literal["markdown", "plain", "bullets", "steps", "json"]
Rendering = Literal["text", "markdown", "json", "html"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. Made by the ingress, read by the control compiler and the engine."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """Engine-neutral sampling parameters; defaults mean 'off'. Made by the compiler, read by the engine."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None
    """None: whatever the context still holds."""
    min_tokens: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logit_bias: Mapping[int, float] | None = None
    top_logprobs: int | None = None
    """None: no logprobs; 0: only those of the chosen tokens."""
    thinking_tokens: int | None = None
    """How long a reasoning model may think; None: not said."""


@dataclass(frozen=True, slots=True)
class LogitsPlan:
    """How the levers bend one answer's logits; zeros leave them alone. Made by the compiler, read by the engine.

    Strengths are in logits, before temperature. Only tokens that are plausible anyway are bent, never one that a
    grammar forbids.
    """

    target_tokens: int | None = None
    """Where the answer should end, at the nearest end of a sentence; None: where the model ends it."""
    connect: bool = False
    """Where the model would end too early, go on with a connective ("For example", "However"); in English."""
    rarity: float | None = None
    """How rare the answer's words should be on average, in Zipf units below an everyday word (below 0: commoner);
    None: as the model chooses them."""
    anchor: float = 0.0
    """Bias on the words of ``spared_text``: keeps to the subject."""
    stops: float = 0.0
    """Bias on tokens that end a sentence; above 0 shortens sentences."""
    casual: float = 0.0
    """Bias on contractions and on the catalogue's casual words."""
    spared_text: str = ""
    """The user's own words: neither ``rarity`` nor ``casual`` bends them."""


@dataclass(frozen=True, slots=True)
class PrefixKey:
    """Where in the replicas' prefix caches a prompt belongs: two hashes of 64 bits. Made by the ingress, read by the
    Generator's router in the ingress."""

    beginning: int
    """The same for prompts that begin alike."""
    conversation: int
    """The same for all turns of a conversation."""


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """What one attempt asks of the engine. Made by the pipeline, read by the Generator."""

    generation_id: str
    attempt: int
    messages: tuple[Message, ...]
    sampling: Sampling
    grammar: Mapping[str, Any] | None = None
    """An xgrammar structural tag, ``{"type": "structural_tag", "format": {...}}``, or None for free text."""
    logits: LogitsPlan | None = None
    cache_salt: str | None = None
    """Keeps tenants out of each other's prefix cache; None shares it."""
    adapter: str | None = None
    """Name of the adapter that should answer; None: the base model."""
    prefix: PrefixKey | None = None
    """Which replica is likely to have the prompt's beginning in its cache; None: any is as good."""
    whole: bool = False
    """Nobody reads along: what comes before the end need not be told."""


@dataclass(frozen=True, slots=True)
class DeltaAddress:
    """Where the deltas of one attempt are pushed ahead to. Made by the ingress, read by the Generator."""

    endpoint: str
    key: bytes
    """The ingress replica's secret: what comes without it is dropped."""
    stream: int
    """Which of its attempts."""


@dataclass(frozen=True, slots=True)
class Generated:
    """All of one attempt, at its end. Made by the Generator, read by the ingress."""

    count: int
    """How many deltas."""
    deltas: bytes
    """By ``graph.delta_frames.encode_deltas``. An ingress reads only those that did not come ahead."""


@dataclass(frozen=True, slots=True)
class TokenDelta:
    """What the engine produced since the last one. Made by the Generator, read by the pipeline."""

    text: str
    token_count: int
    """New tokens in this delta (>= 0)."""
    prompt_tokens: int
    cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    """None until the last delta of the attempt."""
    logprobs: tuple[Mapping[str, Any], ...] = ()
    """One OpenAI-shaped entry per new token, when asked for."""
    discarded_tokens: int = 0
    """Tokens of drafts that were thrown away for this text; set by ``graph/best_of.py``, never by an engine."""
    adapter: str | None = None
    """The adapter that wrote it; None: the base model, also where the job's adapter could not be loaded."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the loaded engine is. Made by the Generator, read by the ingress."""

    model: str
    engine: Literal["vllm", "simulated"]
    max_model_len: int
    """Prompt and answer together, in tokens."""
    version: str


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy the engine is. Made by the Generator, read by autoscaling, tests and operators."""

    running_requests: int
    """In the batch: prefilling or decoding."""
    queued_tokens: int
    """Prompt tokens of requests that have no token yet, running or waiting."""
    waiting_requests: int = 0
    """Taken by the engine and not in the batch yet."""
    kv_usage: float = 0.0
    """Share of the KV cache that requests hold, 0..1."""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What a check may know besides the text. Made by the ingress, read by every check."""

    prompt: str = ""
    """The last user turn as the caller wrote it, without our directives."""
    system: str = ""
    """System turns: what a prompt leak would leak."""
    known_text: str = ""
    """All text that the caller sent: values found in it are not leaked by repeating them."""
    finish_reason: FinishReason | None = "stop"
    caller_limited: bool = False
    """The caller set max_tokens or ignore_eos: a cut or looping answer is what was asked for."""
    language: str | None = None
    """ISO 639-1 code asked for; None: the prompt's own language."""
    answer_format: AnswerFormat = "markdown"
    json_schema: Mapping[str, Any] | None = None
    """The schema that the answer must meet; None: no JSON is expected."""
    target_words: int | None = None
    """How many words the controls promised; None: nothing was promised."""
    reading_level: tuple[float, float] | None = None
    """The range that the controls promised for the mean CEFR level of the words, 1 (A1) to 6 (C2); None: none."""
    relevance: float | None = None
    """Cosine of question and answer from the pool's sentence embeddings; None: not measured."""
    model_scores: Mapping[str, float] = field(default_factory=dict)
    """By the name of a model slot, the probability in 0..1 that its model gave. Made by the pool."""
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    """By the name of a check whose model gave no number, why not: that check counts as failed. Made by the pool."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check saw. Made by a check, read by the policy and by the caller."""

    check: str
    severity: Severity
    message: str
    """What was seen and what is expected. Never the value itself where the finding is hard."""
    span: tuple[int, int] | None = None
    """[start, end) in characters of the judged text; None: the whole text."""
    action: Action = "note"
    """Set by the policy."""


@dataclass(frozen=True, slots=True)
class ValidationJob:
    """Made by the pipeline, read by the Validator."""

    text: str
    context: CheckContext


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the Validator says of one text. Made by the Validator, read by the pipeline."""

    action: Literal["deliver", "fix", "regenerate", "fallback", "block"]
    """The strongest action that the findings ask for, after local fixes were applied."""
    findings: tuple[Finding, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    """Sub-scores in 0..1 by name: form, language, relevance, completeness, repetition, safety, control_fit."""
    score: float = 1.0
    """The documented total in 0..1, with hard-fail caps."""
    fixed_text: str | None = None
    """The text with every local fix applied; None: nothing to fix."""
    is_degraded: bool = False
    """Delivered, the text is still wrong in something that was to be mended."""
    last_resort: Literal["deliver", "fallback", "block"] = "deliver"
    """What becomes of the text when it is not written again; ``deliver`` means as degraded where ``action`` asks for
    more than a fix."""


@dataclass(frozen=True, slots=True)
class FormatJob:
    """Made by the pipeline, read by the Formatter."""

    text: str
    answer_format: AnswerFormat
    rendering: Rendering
    expand_contractions: bool = False
    """Write ``do not`` for ``don't``; outside code and JSON."""


@dataclass(frozen=True, slots=True)
class LogAck:
    """Says that a row is on disk. Made by the FeedbackLog, read by the ingress."""

    event_id: str
    segment: str
    sequence: int
    duplicate: bool = False
