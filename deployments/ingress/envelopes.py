"""The shapes that leave the service: the error envelope, chat completions, and the frames of a stream. Pure."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from graph.errors import DeadlineExceeded, Overloaded, RheostatError
from graph.moves import Answer, Usage

DONE = b"data: [DONE]\n\n"


def error_body(error: RheostatError) -> dict[str, Any]:
    """OpenAI's error object; ``param`` and ``code`` are strings or null."""
    return {"error": {"message": error.message, "type": error.error_type, "param": error.param, "code": error.code}}


def error_headers(error: RheostatError, rng: random.Random) -> dict[str, str]:
    """Whether and when to come back. SDKs retry 408, 409, 429 and 5xx by themselves unless told not to.

    OpenAI's prefer ``retry-after-ms``, which says it exactly; ``Retry-After`` is in whole seconds, which are right on
    average.
    """
    headers = {}
    if error.retryable:
        wait_s = _retry_after_s(error, rng)
        headers["Retry-After"] = str(math.floor(wait_s + rng.random()))
        headers["retry-after-ms"] = str(round(wait_s * 1e3))
    if isinstance(error, DeadlineExceeded) or (error.http_status in (409, 500) and not error.retryable):
        headers["x-should-retry"] = "false"
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def _retry_after_s(error: RheostatError, rng: random.Random) -> float:
    """From 1 s to when there should be room, at most 5: SDKs oversleep or ignore long times. Jitter keeps refused
    clients from coming back as one wave. In a lasting overload there is room for somebody at any moment, and the sooner
    the retries are over after its end, the sooner all is as before."""
    room_in_s = error.retry_after_s if isinstance(error, Overloaded) else None
    return rng.uniform(1.0, 5.0 if room_in_s is None else min(max(room_in_s, 1.5), 5.0))


@dataclass(frozen=True, slots=True)
class CompletionHead:
    """What every chunk of one completion repeats."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    def fields(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }


def usage_json(usages: Sequence[Usage]) -> dict[str, Any]:
    """Tokens of a completion: the prompt once, the answers summed."""
    prompt = max((usage.prompt_tokens for usage in usages), default=0)
    completion = sum(usage.completion_tokens for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": max((usage.cached_tokens for usage in usages), default=0)},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def completion(head: CompletionHead, answers: Sequence[Answer], vendor: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A whole chat completion. ``vendor`` holds the ``rheostat`` object of each answer."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": answer.refusal},
            "logprobs": None if answer.logprobs is None else {"content": list(answer.logprobs), "refusal": None},
            "finish_reason": answer.finish_reason,
            **({"rheostat": vendor[index]} if len(answers) > 1 else {}),
        }
        for index, answer in enumerate(answers)
    ]
    return {
        **head.fields("chat.completion"),
        "choices": choices,
        "usage": usage_json([answer.usage for answer in answers]),
        "rheostat": vendor[0],
    }


class ChunkWriter:
    """Frames of one stream, in the one shape that every client read (plain ``data:`` frames, role with the first text,
    ``rheostat`` in the finish chunk)."""

    def __init__(self, head: CompletionHead, *, null_usage: bool) -> None:
        self._head = head.fields("chat.completion.chunk")
        self._usage: dict[str, Any] = {"usage": None} if null_usage else {}
        self._opened: set[int] = set()

    def text(
        self,
        index: int,
        text: str,
        logprobs: Sequence[Mapping[str, Any]] = (),
        usage: Mapping[str, Any] | None = None,
    ) -> bytes:
        """A chunk with new text; the first of a choice brings the role."""
        delta = {"content": text} if index in self._opened else {"role": "assistant", "content": text}
        self._opened.add(index)
        return self._chunk(index, delta, None, logprobs, usage)

    def finish(self, index: int, answer: Answer, vendor: Mapping[str, Any]) -> bytes:
        """The chunk that makes a choice whole."""
        delta: dict[str, Any] = {} if index in self._opened else {"role": "assistant", "content": ""}
        if answer.refusal is not None:
            delta["refusal"] = answer.refusal
        return self._chunk(index, delta, answer.finish_reason, (), None, {"rheostat": vendor})

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        """The chunk that ``stream_options.include_usage`` asks for, after all choices finished."""
        return frame({**self._head, "choices": [], "usage": usage})

    def _chunk(
        self,
        index: int,
        delta: Mapping[str, Any],
        finish_reason: str | None,
        logprobs: Sequence[Mapping[str, Any]],
        usage: Mapping[str, Any] | None,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": {"content": list(logprobs)} if logprobs else None,
            "finish_reason": finish_reason,
        }
        shown = self._usage if usage is None else {"usage": usage}
        return frame({**self._head, "choices": [choice], **shown, **(extra or {})})


def frame(value: Mapping[str, Any]) -> bytes:
    """One server-sent event: no name, no comment, one line of JSON."""
    return b"data: " + orjson.dumps(value) + b"\n\n"
