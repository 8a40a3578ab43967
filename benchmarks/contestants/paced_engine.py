"""An engine for ``ray.serve.llm`` that only keeps time: what `deployments.generator.simulated` is to Rheostat.

``RAYLLM_VLLM_ENGINE_CLS`` names the class. Each delta becomes the object and the text that vLLM's own serving layer
makes of one (``vllm/entrypoints/openai/chat_completion/serving.py``), since somebody has to write them: in Rheostat it
is the ingress. Templates, tokens and detokenising are nobody's here.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from ray.llm._internal.serve.core.configs.openai_api_models import ChatCompletionResponse
from ray.llm._internal.serve.core.engine.protocol import LLMEngine
from ray.serve.llm import LLMConfig
from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

WORDS = (" the", " water", " is", " clear", " and", " cold", " in", " spring", ",", " they", " say")


class PacedEngine(LLMEngine):
    """``experimental_configs`` of the LLMConfig: ``first_token_s`` and ``token_s``, as of the simulated engine. One
    that is woken late does not become slower: its next tokens come as if it had been in time."""

    def __init__(self, llm_config: LLMConfig) -> None:
        self._model = llm_config.model_id
        self._first_token_s = llm_config.experimental_configs["first_token_s"]
        self._token_s = llm_config.experimental_configs["token_s"]

    async def start(self) -> None:
        """There is nothing to load."""

    def routing_stats(self) -> dict[str, Any]:
        return {}

    async def resolve_lora(self, lora_model: Any) -> None:
        raise NotImplementedError("the paced engine takes no adapters")

    async def chat(  # type: ignore[override]  # generators, as its own engine's are
        self, request: Any, raw_request_info: Any = None
    ) -> AsyncGenerator[Any, None]:
        tokens = request.max_tokens
        if not request.stream:
            await asyncio.sleep(self._first_token_s + (tokens - 1) * self._token_s)
            yield self._whole(tokens)
            return
        due = time.monotonic()
        yield self._event(DeltaMessage(role="assistant", content=""), None)
        for at in range(tokens):
            due += self._token_s if at else self._first_token_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield self._event(DeltaMessage(content=WORDS[at % len(WORDS)]), "length" if at + 1 == tokens else None)
        usage = UsageInfo(prompt_tokens=1, completion_tokens=tokens, total_tokens=tokens + 1)
        last = ChatCompletionStreamResponse(**self._head("chat.completion.chunk"), choices=[], usage=usage)
        yield f"data: {last.model_dump_json(exclude_unset=True, exclude_none=True)}\n\n"
        yield "data: [DONE]\n\n"

    async def completions(  # type: ignore[override]  # generators, as its own engine's are
        self, request: Any, raw_request_info: Any = None
    ) -> AsyncGenerator[Any, None]:
        raise NotImplementedError("the paced engine chats only")
        yield

    async def embeddings(  # type: ignore[override]  # generators, as its own engine's are
        self, request: Any, raw_request_info: Any = None
    ) -> AsyncGenerator[Any, None]:
        raise NotImplementedError("the paced engine chats only")
        yield

    async def transcriptions(  # type: ignore[override]  # generators, as its own engine's are
        self, request: Any, raw_request_info: Any = None
    ) -> AsyncGenerator[Any, None]:
        raise NotImplementedError("the paced engine chats only")
        yield

    async def reset_prefix_cache(self) -> None:
        """There is none."""

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-paced", "object": kind, "created": 0, "model": self._model}

    def _event(self, delta: DeltaMessage, finish_reason: str | None) -> str:
        choice = ChatCompletionResponseStreamChoice(index=0, delta=delta, logprobs=None, finish_reason=finish_reason)
        chunk = ChatCompletionStreamResponse(**self._head("chat.completion.chunk"), choices=[choice])
        return f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"

    def _whole(self, tokens: int) -> ChatCompletionResponse:
        text = "".join(WORDS[at % len(WORDS)] for at in range(tokens))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        return ChatCompletionResponse.model_validate(
            {**self._head("chat.completion"), "choices": [choice], "usage": usage}
        )
