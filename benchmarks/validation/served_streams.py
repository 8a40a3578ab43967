"""Does anything get out on the whole way from the engine to a client? Seeded, in one process, with no server.

Each stream is a request to the real chat service as it is shipped: controls, renderings, guard, judge, frames. Its
engine says an answer with a credential, a personal value, words of the system prompt, or nothing put into it. Now and
then it writes the value so that only the request's rendering brings it about: contracted where contractions are written
out, with Markdown marks in it where they are taken out. The log only remembers. A client has the frames, nothing else.
"""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.validation.cases import SEVERITIES, Case, context_of
from benchmarks.validation.corpus import Corpus, Record
from benchmarks.validation.credentials import CREDENTIALS
from benchmarks.validation.evaluate import is_found
from benchmarks.validation.leaking import leak_credential, leak_personal, leak_prompt
from benchmarks.validation.personal import PERSONAL
from benchmarks.validation.shipped import read_facts
from benchmarks.validation.streams import count_released
from deployments.feedback.tokens import KEY_BYTES, SigningKey
from deployments.formatter.contractions import expand
from deployments.formatter.renderers import render
from deployments.generator.simulated_tokens import logprob_entry
from deployments.ingress.admission import Admission
from deployments.ingress.openai_schema import ChatRequest
from deployments.ingress.planning import Caller, ServiceFacts
from deployments.ingress.quality_tally import QualityTally
from deployments.ingress.service import ChatService, StreamCut
from deployments.ingress.telemetry import AdmissionFacts, RequestFacts
from deployments.validator.code_blocks import find_open_fence
from deployments.validator.policy import QualityPolicy, judge
from graph.contracts import (
    CheckContext,
    EngineInfo,
    FormatJob,
    GenerationJob,
    LogAck,
    TokenDelta,
    ValidationJob,
    Verdict,
)
from graph.errors import RheostatError

__all__ = ["OPTIONS", "measure_served"]

OPTIONS = ("text", "formal", "logprobs", "two choices")
"""What a request asks for; each stream draws each of them by itself, and none of them is plain Markdown."""
_OPTION_SHARE = 0.4
_DISGUISED_SHARE = 0.5
"""Of the values that a rendering can bring about."""
_ENGINE = EngineInfo("written-beforehand", "simulated", max_model_len=32_768, version="1")
_CALLER = Caller("public", "benchmark")
_LONGEST_TOKEN = 10
_TEXT_LAG = (0, 0, 5)
"""Characters by which an engine's text is behind its logprobs; more than 0 while it looks for a stop string."""
_LONGEST_CODE = 20
"""Characters of a value that are put between backticks: the partner must be near to be seen."""

_SECRET = ("secrets", "pii", "prompt_leak")
"""Loads of which nothing may be released, by the check that should find them."""
_LOADS = (*_SECRET, "nothing")


class _Stages:
    """What a request meets: an engine that says ``text``, the judge without its models, the formatter, a log."""

    def __init__(self, policy: QualityPolicy) -> None:
        self.text = ""
        self.recorded: dict[str, str] = {}
        """Answers by their generation_id."""
        self._policy = policy

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        rng = random.Random(f"{job.sampling.seed} tokens {job.attempt}")
        tokens = list(_split(self.text, rng))
        lag = rng.choice(_TEXT_LAG)
        said = sent = 0
        for number, token in enumerate(tokens, start=1):
            is_last = number == len(tokens)
            said += len(token)
            until = said if is_last else max(sent, said - lag)
            top = job.sampling.top_logprobs
            yield TokenDelta(
                self.text[sent:until],
                token_count=1,
                prompt_tokens=1,
                finish_reason="stop" if is_last else None,
                logprobs=() if top is None else (logprob_entry(token, top, rng),),
            )
            sent = until

    async def judge(self, job: ValidationJob) -> Verdict:
        return judge(job.text, job.context, self._policy)

    async def format(self, job: FormatJob) -> str:
        return render(job)

    async def record(self, row: Mapping[str, Any]) -> LogAck:
        self.recorded[row["generation_id"]] = row["answer"]
        return LogAck(row["generation_id"], "none", len(self.recorded))


class _StandingClock:
    """Nothing is ever late."""

    def now(self) -> float:
        return 0.0

    def timeout_at(self, when: float) -> nullcontext[None]:
        return nullcontext()


class _NoTelemetry:
    def observe(self, facts: RequestFacts) -> None:
        pass

    def decided(self, facts: AdmissionFacts) -> None:
        pass

    def waiting(self, choices: int) -> None:
        pass

    def validated(self, outcome: str) -> None:
        pass


@dataclass(slots=True)
class _Choice:
    """What a client has of one choice."""

    content: str = ""
    tokens: str = ""
    """The tokens of its logprobs, joined."""
    is_finished: bool = False
    vendor: Mapping[str, Any] = field(default_factory=dict)
    """The ``rheostat`` object of its finish chunk."""

    @property
    def outcome(self) -> str | None:
        """None: its finish chunk says nothing of its quality, or never came."""
        outcome = (self.vendor.get("quality") or {}).get("outcome")
        return None if outcome is None else str(outcome)


@dataclass(frozen=True, slots=True)
class _Served:
    """One request after its stream ended."""

    load: str
    released: int
    """Characters of the value in the content of its choices."""
    released_in_logprobs: int
    outcomes: tuple[str | None, ...]
    """By choice."""
    has_ending: bool
    unlike_log: int
    """Choices of which the log has another text."""
    told: Mapping[str, Any]
    """How to make this stream again."""


def measure_served(corpus: Corpus, streams: int, seed: int) -> dict[str, Any]:
    """Sends ``streams`` requests, one after the other, and reads each answer as a client would.

    Returns:
        JSON-ready: requests by load; characters released of what must not be, in content and in logprobs; requests in
        which a choice has no verdict, and those without an ending; choices of which the log has another text; outcomes
        of choices by load; every request that let something out.
    """
    runs = asyncio.run(_serve_all(corpus, streams, seed))
    return {
        "streams": streams,
        "fed": {load: sum(run.load == load for run in runs) for load in _LOADS},
        "released": {load: sum(run.released for run in runs if run.load == load) for load in _SECRET},
        "released_in_logprobs": sum(run.released_in_logprobs for run in runs),
        "without_verdict": sum(None in run.outcomes for run in runs),
        "without_ending": sum(not run.has_ending for run in runs),
        "unlike_log": sum(run.unlike_log for run in runs),
        "outcomes": {
            load: dict(
                Counter(outcome or "none" for run in runs if run.load == load for outcome in run.outcomes).most_common()
            )
            for load in _LOADS
        },
        "leaking": [run.told for run in runs if run.released or run.released_in_logprobs],
    }


async def _serve_all(corpus: Corpus, streams: int, seed: int) -> list[_Served]:
    facts = read_facts()
    stages = _Stages(facts.policy)
    service = _make_service(stages, facts)
    return [await _serve(service, stages, corpus, seed, number) for number in range(streams)]


async def _serve(service: ChatService, stages: _Stages, corpus: Corpus, seed: int, number: int) -> _Served:
    rng = random.Random(f"{seed} served stream {number}")
    load = rng.choice(_LOADS)
    record = rng.choice(corpus.clean + corpus.hard)
    options = [option for option in OPTIONS if rng.random() < _OPTION_SHARE]
    case = _load(record, corpus, load, options, rng)
    context = case.context if case else context_of(record)
    stages.text = _disguise(case, options, rng) if case else record.text
    stages.recorded.clear()
    request = _make_request(context, options, rng.getrandbits(32))
    choices = [_Choice() for _ in range(request.choices)]
    has_ending = await _read(service.stream(request, _CALLER, None), choices)
    in_content = _count(case, [choice.content for choice in choices], options)
    in_logprobs = _count(case, [choice.tokens for choice in choices], options)
    told: dict[str, Any] = {"stream": number, "record": record.id, "load": load, "options": options}
    if case and (in_content or in_logprobs):
        # What the check does not know as a value, nothing on the way can hold.
        is_known = is_found(case, judge(case.text, context, QualityPolicy()).findings)
        told |= {"kind": case.kind, "disguised": stages.text != case.text, "known": is_known}
        told |= {"characters": in_content, "in_logprobs": in_logprobs}
    return _Served(
        load=load,
        released=in_content,
        released_in_logprobs=in_logprobs,
        outcomes=tuple(choice.outcome for choice in choices),
        has_ending=has_ending and all(choice.is_finished for choice in choices),
        unlike_log=sum(stages.recorded.get(each.vendor.get("generation_id", "")) != each.content for each in choices),
        told=told,
    )


def _load(record: Record, corpus: Corpus, load: str, options: Sequence[str], rng: random.Random) -> Case | None:
    severity = rng.choice(SEVERITIES)
    if load == "secrets":
        return leak_credential(record, rng, rng.choice(list(CREDENTIALS)), severity)
    if load == "pii":
        return leak_personal(record, rng, rng.choice(list(PERSONAL)), severity)
    if load == "prompt_leak":
        system = rng.choice(corpus.systems)
        if "formal" in options and rng.random() < _DISGUISED_SHARE:
            # The client reads it written out, as it stands in no prompt.
            system = replace(system, text=_contract(system.text))
        return leak_prompt(record, system, rng, severity)
    return None


def _make_service(stages: _Stages, facts: ServiceFacts) -> ChatService:
    async def engine_info() -> EngineInfo:
        return _ENGINE

    async def append_many(rows: Sequence[Mapping[str, Any]]) -> list[LogAck | RheostatError]:
        raise AssertionError("no client of this goes away, so no answer is marked as undelivered")

    clock, telemetry = _StandingClock(), _NoTelemetry()
    return ChatService(
        stages,
        lambda: facts,
        engine_info,
        SigningKey("benchmark", b"k" * KEY_BYTES),
        telemetry,
        append_many,
        Admission(lambda: facts.tunables, clock, telemetry),
        QualityTally(),
        clock,
    )


def _make_request(context: CheckContext, options: Sequence[str], seed: int) -> ChatRequest:
    """The request in whose answer the checks know what ``context`` says."""
    system = [{"role": "system", "content": context.system}] if context.system else []
    controls: dict[str, Any] = {}
    if "text" in options:
        controls["render"] = "text"
    if "formal" in options:
        controls["lp"] = {"formality": 90}
    return ChatRequest.model_validate(
        {
            "model": _ENGINE.model,
            "messages": [*system, {"role": "user", "content": context.prompt}],
            "controls": controls,
            "stream": True,
            "seed": seed,
            "n": 2 if "two choices" in options else 1,
            "logprobs": "logprobs" in options,
        }
    )


async def _read(frames: AsyncGenerator[bytes, None], choices: Sequence[_Choice]) -> bool:
    """Adds what the frames say to ``choices``; returns whether the stream said that it is whole."""
    try:
        async for frame in frames:
            data = frame.decode().removeprefix("data: ").strip()
            if data == "[DONE]":
                return True
            chunk = json.loads(data)
            for part in chunk.get("choices", ()):
                choice = choices[part["index"]]
                choice.content += part["delta"].get("content") or ""
                choice.tokens += "".join(entry["token"] for entry in (part["logprobs"] or {}).get("content") or ())
                if part["finish_reason"] is not None:
                    choice.is_finished = True
                    choice.vendor = chunk.get("rheostat") or {}
    except (StreamCut, RheostatError):
        # To a client, a connection that breaks off, or a status in place of a stream.
        pass
    return False


def _split(text: str, rng: random.Random) -> Iterator[str]:
    """Tokens of 1 to ``_LONGEST_TOKEN`` characters; one without any where there is no text."""
    at = 0
    while at < len(text) or not text:
        end = at + rng.randint(1, _LONGEST_TOKEN)
        yield text[at:end]
        if not text:
            return
        at = end


# Values in disguise: what the engine says is not what the client would read ----------------------------------------


def _disguise(case: Case, options: Sequence[str], rng: random.Random) -> str:
    """The case's text, its value now and then written so that the request's renderings bring it about."""
    before, value, after = _parts(case)
    # In code nothing is rendered.
    if find_open_fence(before) is not None:
        return case.text
    if "formal" in options and rng.random() < _DISGUISED_SHARE:
        value = _contract(value)
    if "text" in options and rng.random() < _DISGUISED_SHARE:
        value = _mark(value, rng)
    return before + value + after


def _contract(text: str) -> str:
    return _CONTRACTED.sub(lambda match: _CONTRACTIONS[match[0]], text)


def _mark(value: str, rng: random.Random) -> str:
    """``value`` with Markdown marks that plain text does not have."""
    if "`" in value or "\n" in value:
        return value
    match rng.choice(["code", "bold", "escape"]):
        case "bold":
            return f"**{value}**"
        case "escape":
            return re.sub(r"([_*#])", r"\\\1", value)
        case _:
            begin = rng.randrange(len(value))
            end = min(len(value), begin + rng.randint(1, _LONGEST_CODE))
            code = value[begin:end]
            return value if code != code.strip() else f"{value[:begin]}`{code}`{value[end:]}"


def _count(case: Case | None, texts: Sequence[str], options: Sequence[str]) -> int:
    """Characters of the value that a reader of ``texts`` has, as it is or with its contractions written out."""
    if case is None:
        return 0
    forms = [case, _write_out(case)] if "formal" in options else [case]
    return sum(max(count_released(form, text) for form in forms) for text in texts if text)


def _write_out(case: Case) -> Case:
    before, value, after = map(expand, _parts(case))
    return replace(case, text=before + value + after, span=(len(before), len(before) + len(value)))


def _parts(case: Case) -> tuple[str, str, str]:
    assert case.span is not None, "a value has its place"
    start, end = case.span
    return case.text[:start], case.text[start:end], case.text[end:]


_CONTRACTIONS: Mapping[str, str] = {
    "are not": "aren't",
    "cannot": "can't",
    "do not": "don't",
    "Do not": "Don't",
    "does not": "doesn't",
    "is not": "isn't",
    "it is": "it's",
    "should not": "shouldn't",
    "they are": "they're",
    "will not": "won't",
    "you are": "you're",
    "You are": "You're",
}
_CONTRACTED = re.compile(rf"\b(?:{'|'.join(_CONTRACTIONS)})\b")
