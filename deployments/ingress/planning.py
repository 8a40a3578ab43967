"""From a parsed chat request to the plans that the pipeline carries out. Pure: clock and ids come as arguments."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from deployments.controls.calibration import Calibration
from deployments.controls.catalogue import Catalogue
from deployments.controls.compiler import CallerSampling, CompiledControls, compile_controls
from deployments.controls.preview import promised_range
from deployments.controls.request import ControlsRequest, resolve
from deployments.controls.schema_guard import check_schema
from deployments.formatter.contractions import expand
from deployments.ingress.openai_schema import ChatRequest, JsonObjectFormat, JsonSchemaFormat
from deployments.ingress.prefix_key import prefix_key
from deployments.ingress.priority import DEFAULT_PRIORITY, Priority
from deployments.ingress.records import describe_request
from deployments.rollout.aliases import Aliases
from deployments.rollout.arms import Arm, Assignment, assign_arm, chosen_arm, unit_of
from deployments.validator.policy import QualityPolicy
from graph.contracts import CheckContext, EngineInfo, FinishReason, GenerationJob, Message, Sampling
from graph.errors import InvalidRequest, NotFound
from graph.moves import Plan
from graph.settings import IngressTunables

THINKING_TOKENS = {"none": 0, "low": 512, "high": 4096}
"""The thinking budget by the switch ``reasoning``, on models that have it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and under which request id."""

    tenant: str
    request_id: str
    arm: Arm | None = None
    """The arm of a canary that an admin asked for, such as the gate; None: the service assigns one."""
    priority: Priority = DEFAULT_PRIORITY


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What a plan depends on besides the request; swapped as a whole when the configuration changes."""

    catalogue: Catalogue
    policy: QualityPolicy
    tunables: IngressTunables
    capabilities: frozenset[str]
    salt_key: bytes | None
    """Keys the tenants' prefix-cache salts; None: one cache for all."""
    calibration: Calibration | None = None
    """What was measured on the model that is served; None: nothing."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A request that was accepted: one plan a choice."""

    compiled: CompiledControls
    plans: tuple[Plan, ...]
    previous_answer: str | None
    """The assistant's turn before the last user turn: what this answer differs from. None: the conversation begins."""
    arm: Arm = "champion"

    @property
    def controls_hash(self) -> str:
        return hash_controls(self.compiled.receipt)


def hash_controls(receipt: Mapping[str, Any]) -> str:
    """Groups answers by what was asked of them, in the log and in feedback tokens."""
    asked = {kind: {name: knob["value"] for name, knob in receipt[kind].items()} for kind in ("lp", "ls")}
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def plan_request(
    request: ChatRequest,
    caller: Caller,
    facts: ServiceFacts,
    engine: EngineInfo,
    generation_ids: tuple[str, ...],
    now: float,
    timeout_s: float,
    source_id: str | None = None,
    aliases: Aliases | None = None,
) -> Planned:
    """Checks what only the whole request shows, compiles the controls and lays out one plan a choice.

    Args:
        generation_ids: One for each of ``request.choices``.
        now: Seconds on the pipeline's clock.
        timeout_s: Seconds until the deadline.
        source_id: Keyed hash of the person who asks, for the log; None: the request does not say.
        aliases: Which adapters are served; None: the base model alone.

    Raises:
        NotFound: Another model than the one that is served.
        InvalidRequest: See the message.
    """
    if request.model != engine.model:
        raise NotFound(
            f"The model {request.model[:80]!r} is not served here; this service has {engine.model!r}.",
            param="model",
            code="model_not_found",
        )
    best_of = drafts_asked(request, facts.tunables)
    messages = tuple(Message(message.role, message.text) for message in request.messages)
    compiled = compile_request(request, messages, facts, engine)
    context = check_context(
        messages,
        compiled,
        facts.calibration,
        caller_limited=request.token_limit is not None or bool(request.ignore_eos),
    )
    assignment = _assign(aliases or Aliases(), caller, source_id, messages)
    described = {
        "arm": assignment.arm,
        # What was asked for by arm is no user's traffic: nothing is learnt from it, and no canary is judged by it.
        **({"purpose": "gate"} if caller.arm is not None else {}),
        "source_id": source_id,
        **describe_request(messages, compiled.receipt, compiled.answer_format, compiled.language),
    }
    fixed_texts = (facts.policy.fallback_text, facts.policy.refusal_text)
    fallback_text, refusal_text = map(expand, fixed_texts) if compiled.expand_contractions else fixed_texts
    deadline = now + timeout_s
    reserve = min(facts.tunables.delivery_reserve_s, timeout_s / 2)
    cache_salt = _cache_salt(facts.salt_key, caller.tenant)
    prefix = prefix_key(messages, cache_salt, assignment.adapter)
    plans = tuple(
        Plan(
            job=GenerationJob(
                generation_id=generation_id,
                attempt=0,
                messages=compiled.messages,
                sampling=_choice_sampling(compiled, index, facts),
                grammar=compiled.grammar,
                logits=compiled.logits,
                cache_salt=cache_salt,
                adapter=assignment.adapter,
                prefix=prefix,
                whole=not request.stream,
            ),
            context=context,
            best_of=best_of,
            answer_format=compiled.answer_format,
            rendering=compiled.rendering,
            streaming=bool(request.stream),
            deadline=deadline,
            # A second attempt takes about as long as the first; past the middle it would not be done in time.
            regenerate_before=now + (timeout_s - reserve) / 2,
            regenerate_until=deadline - reserve,
            fallback_text=fallback_text,
            refusal_text=refusal_text,
            expand_contractions=compiled.expand_contractions and compiled.answer_format != "json",
            record=_record(generation_id, index, request, caller, compiled, messages, engine) | described,
        )
        for index, generation_id in enumerate(generation_ids)
    )
    return Planned(compiled, plans, _previous_answer(messages), assignment.arm)


def _assign(aliases: Aliases, caller: Caller, source_id: str | None, messages: tuple[Message, ...]) -> Assignment:
    if caller.arm is not None:
        return chosen_arm(aliases, caller.arm)
    return assign_arm(aliases, unit_of(caller.tenant, source_id, messages))


def drafts_asked(request: ChatRequest, tunables: IngressTunables) -> int:
    """How many drafts of each answer the caller wants; cheap, so that admission can ask it too.

    Raises:
        InvalidRequest: More than this service makes, or several of a stream.
    """
    count, limit = request.best_of, tunables.max_best_of
    if count > limit:
        raise InvalidRequest(
            f"quality.best_of is {count}; this service makes at most {limit} drafts of an answer, so send no more.",
            param="quality.best_of",
        )
    if count > 1 and request.stream:
        raise InvalidRequest(
            f"quality.best_of is {count} with stream=true, and the best of several drafts is known only when they are "
            "whole; send stream=false, or leave quality.best_of out.",
            param="quality.best_of",
        )
    return count


def check_context(
    messages: tuple[Message, ...],
    compiled: CompiledControls,
    calibration: Calibration | None,
    *,
    caller_limited: bool = False,
    finish_reason: FinishReason = "stop",
) -> CheckContext:
    """What the checks may know of a request; the same for a text that the engine writes and one that is sent.

    Args:
        messages: As the caller sent them, without our directives.
        compiled: The controls, compiled for these messages.
        calibration: What was measured on the model that is served; None: nothing.
        caller_limited: The caller set a limit that may cut the answer.
        finish_reason: As far as it is known; the pipeline puts the engine's in its place.
    """
    return CheckContext(
        prompt=next((m.content for m in reversed(messages) if m.role == "user"), ""),
        system="\n".join(m.content for m in messages if m.role in ("system", "developer")),
        known_text="\n".join(m.content for m in compiled.messages if m.role not in ("system", "developer")),
        finish_reason=finish_reason,
        caller_limited=caller_limited,
        language=compiled.language,
        answer_format=compiled.answer_format,
        json_schema=compiled.json_schema,
        target_words=compiled.target_words,
        reading_level=promised_range("technicality", compiled, calibration),
    )


def _previous_answer(messages: tuple[Message, ...]) -> str | None:
    roles = [message.role for message in messages]
    before_question = len(roles) - 1 - roles[::-1].index("user")
    return next((m.content for m in reversed(messages[:before_question]) if m.role == "assistant"), None)


def compile_request(
    request: ChatRequest, messages: tuple[Message, ...], facts: ServiceFacts, engine: EngineInfo
) -> CompiledControls:
    """The controls of ``request`` compiled against the catalogue; also the body of a preview."""
    controls = request.controls or ControlsRequest()
    schema: Mapping[str, Any] | None = None
    match request.response_format:
        case JsonSchemaFormat(json_schema=spec):
            check_schema(spec.schema_)
            schema = spec.schema_
        case JsonObjectFormat():
            schema = {"type": "object"}
    if schema is not None:
        controls = ask_for_json(controls, "response_format")
    limit, context = request.token_limit, engine.max_model_len
    if limit is not None and limit > context:
        field = "max_tokens" if request.max_tokens is not None else "max_completion_tokens"
        raise InvalidRequest(
            f"{field} is {limit}; prompt and answer together have {context} tokens here, so send at most {context}.",
            param=field,
        )
    if (request.min_tokens or 0) > (limit or context):
        raise InvalidRequest(
            f"min_tokens is {request.min_tokens}, more than the {limit or context} tokens that the answer may have.",
            param="min_tokens",
        )
    bias = _logit_bias(request)
    resolved = resolve(facts.catalogue, controls, facts.capabilities, facts.calibration)
    compiled = compile_controls(
        resolved,
        facts.catalogue,
        messages,
        CallerSampling(
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=None if request.top_k is None else max(request.top_k, 0),
            min_p=request.min_p,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            repetition_penalty=request.repetition_penalty,
            max_tokens=limit,
            min_tokens=request.min_tokens,
            seed=request.seed,
            stop=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()) or None,
            stop_token_ids=tuple(request.stop_token_ids or ()) or None,
            ignore_eos=request.ignore_eos,
            logit_bias=bias,
            top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        ),
        json_schema=schema,
        max_context=context,
    )
    if request.stream and not _is_streamable(compiled):
        raise InvalidRequest(
            f"controls.render={compiled.rendering!r} needs the whole answer and cannot be streamed; send stream=false, "
            f"or leave render out.",
            param="controls.render",
        )
    return compiled


def ask_for_json(controls: ControlsRequest, asked_by: str) -> ControlsRequest:
    """``controls`` with the format JSON.

    Args:
        asked_by: The field that asks for it.

    Raises:
        InvalidRequest: The controls ask for another format.
    """
    asked_format = controls.ls.get("format", "json")
    if asked_format != "json":
        raise InvalidRequest(
            f"{asked_by} asks for JSON and controls.ls.format for {asked_format!r}; send one of them.",
            param="controls.ls.format",
        )
    return controls.model_copy(update={"ls": {**controls.ls, "format": "json"}})


def _is_streamable(compiled: CompiledControls) -> bool:
    """HTML, and JSON made of prose, are rendered from the whole answer."""
    return compiled.rendering in ("text", "markdown") or compiled.rendering == compiled.answer_format


def _choice_sampling(compiled: CompiledControls, index: int, facts: ServiceFacts) -> Sampling:
    sampling = compiled.sampling
    if sampling.seed is not None and index:
        # The same seed for each choice would give the same answer n times.
        sampling = replace(sampling, seed=(sampling.seed + index) % 2**63)
    if sampling.max_tokens is None:
        sampling = replace(sampling, max_tokens=max(facts.tunables.default_max_tokens, sampling.min_tokens))
    if "reasoning" in facts.capabilities:
        sampling = replace(sampling, thinking_tokens=THINKING_TOKENS[compiled.reasoning or "none"])
    return sampling


def _logit_bias(request: ChatRequest) -> dict[int, float] | None:
    if not request.logit_bias:
        return None
    try:
        return {int(token): bias for token, bias in request.logit_bias.items()}
    except ValueError:
        raise InvalidRequest("logit_bias maps token ids (whole numbers) to -100..100.", param="logit_bias") from None


def _cache_salt(key: bytes | None, tenant: str) -> str | None:
    return None if key is None else hmac.new(key, tenant.encode(), hashlib.sha256).hexdigest()[:32]


def _record(
    generation_id: str,
    index: int,
    request: ChatRequest,
    caller: Caller,
    compiled: CompiledControls,
    messages: tuple[Message, ...],
    engine: EngineInfo,
) -> dict[str, Any]:
    """What the log says of the request itself; the pipeline adds the answer."""
    return {
        "generation_id": generation_id,
        "tenant": caller.tenant,
        "model": engine.model,
        "prompt": [{"role": m.role, "content": m.content} for m in messages],
        "controls": compiled.receipt,
        "controls_hash": hash_controls(compiled.receipt),
        "versions": {"engine": f"{engine.engine} {engine.version}"},
        "extra": {"request_id": caller.request_id, "choice": index, "stream": bool(request.stream)},
    }
