"""Who is measured on the packaged model, and on which engine: the same arguments for all, or each as it comes."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.contestants.process import Server
from benchmarks.contestants.ray_llm import Mode, ray_llm
from benchmarks.contestants.rheostat import rheostat
from benchmarks.contestants.vllm_server import vllm_server
from benchmarks.overhead import gpu
from deployments.generator.machine_fit import IN_PROCESS, KV_SPACE, THREADS, openmp_environment, this_machine
from deployments.generator.model_store import resolve_model
from graph.settings import PROJECT_ROOT

RAY_LLM: Mapping[str, Mode] = {"ray-default": "default", "ray-direct": "direct"}
ONE_PROCESS = "vllm-one-process"
"""vLLM's own server with its scheduler and its worker in one process, as Rheostat starts them; nobody's default."""
UNGUARDED = "rheostat-unguarded"
"""Without the two checks for which a stream holds each word until it has ended; to see what that costs."""
HOLDING = ("secrets", "pii")
CONTESTANTS = ("rheostat", "vllm", ONE_PROCESS, *RAY_LLM, UNGUARDED)
BINDS = ("one", "both")
GPU = "gpu"
AS_IT_COMES = "as it comes"
ENGINE_ARGS: Mapping[str, Any] = {
    "dtype": "bfloat16",
    "max_model_len": 2048,
    "max_num_seqs": 32,
    "block_size": 32,
    "enforce_eager": True,
    "enable_prefix_caching": True,
    "enable_chunked_prefill": False,
}
"""The last as Rheostat sets it on CPUs, where reading a prompt in pieces gains nothing."""
KV_SPACE_GIB = "1"
REGENERATIONS = 0.0
"""Answers that Rheostat has written again: the engines are to do the same work. All are judged as ever."""


def environment(bind: str) -> dict[str, str]:
    """Of the engine. ``one``: vLLM's own ``auto``, which keeps one core free (of two, one computes); ``both``: every
    core found."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    return {
        KV_SPACE: KV_SPACE_GIB,
        THREADS: {"one": "auto", "both": cores}[bind],
    }


def engine_args(bind: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """What every contestant's engine is given; ``more`` is put over it."""
    return {**(gpu.ENGINE_ARGS if bind == GPU else ENGINE_ARGS), **more}


def start(name: str, bind: str, more: Mapping[str, Any]) -> AbstractContextManager[Server]:
    """The server that ``name`` of `CONTESTANTS` stands for, its engine bound as ``bind`` of `BINDS` says, or on a GPU.

    With ``bind`` `AS_IT_COMES`, Rheostat is what ``make serve`` deploys and vLLM is given a model, and how much memory
    it may have.

    Args:
        more: Engine arguments over those of `engine_args`; not with `AS_IT_COMES`.
    """
    arguments = engine_args(bind, more)
    policy = yaml.safe_load((PROJECT_ROOT / "configs/quality.yaml").read_text())
    policy["regenerations_per_answer"] = REGENERATIONS
    if bind == GPU:
        return gpu.start(name, arguments, policy)
    model = resolve_model(None)
    if bind == AS_IT_COMES:
        if name == "rheostat":
            return rheostat({"kind": "vllm"})
        if name == "vllm":
            # It wants 0.92 of the memory, and does not start where it finds less free.
            return vllm_server(Path(model), {}, {KV_SPACE: KV_SPACE_GIB})
        raise ValueError(f"{name} is not measured as it comes: it does not start here without settings")
    if name in ("rheostat", UNGUARDED):
        for check in HOLDING if name == UNGUARDED else ():
            policy["checks"][check]["enabled"] = False
        vllm = {
            "batch_invariant": False,
            "engine_args": {**arguments, "enable_lora": False},
            "environment": environment(bind),
        }
        quality = {"quality": policy}
        return rheostat({"kind": "vllm", "vllm": vllm}, user_config={"Ingress": quality, "Validator": quality})
    if name == "vllm":
        return vllm_server(Path(model), arguments, environment(bind))
    if name == ONE_PROCESS:
        variables = environment(bind)
        threads = openmp_environment(variables[THREADS], this_machine())
        together = {**arguments, "distributed_executor_backend": "uni"}
        return vllm_server(Path(model), together, {**variables, **threads, IN_PROCESS: "0"})
    return ray_llm(RAY_LLM[name], model, arguments, environment(bind))
