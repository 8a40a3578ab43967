"""What the CPU engine is given where the configuration is silent, from the cores and the memory found. No vLLM.

On GPUs nothing is filled in: vLLM measures the card's memory itself, and chooses its batch limits by it.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph.errors import ConfigurationError

GIB = 1 << 30
THREADS = "VLLM_CPU_OMP_THREADS_BIND"
"""vLLM takes core numbers, ``auto`` (keeps one core free) or ``nobind``; ``all`` is ours: bound to every core found."""
KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
IN_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"
"""``0`` lets vLLM's scheduler and its one worker share a process on CPUs."""
SEQUENCES_PER_CORE = 16
"""Two cores still gain from 16 to 32 answers at once: 278 and 405 tokens/s of a 135M model."""
MOST_SEQUENCES = 256
"""vLLM's own default of a server."""
MEMORY_SHARE = 0.25
"""Of the memory for keys and values, at most: the model, the pool and the log live there too."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the engine may use. ``cores`` are their numbers, as the system counts them."""

    cores: Sequence[int]
    memory_bytes: int


def this_machine() -> Machine:
    """The cores that this process may run on, and the memory of its machine or of its control group."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    return Machine(sorted(os.sched_getaffinity(0)), memory)


def kv_bytes_per_token(model_folder: Path) -> int | None:
    """Bytes of keys and values that one token takes in two-byte floats; None: ``config.json`` does not tell."""
    try:
        config = json.loads((model_folder / "config.json").read_text())
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        return int(2 * 2 * config["num_hidden_layers"] * heads * size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def fit_to_cpus(
    machine: Machine, token_bytes: int | None, engine_args: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """``engine_args`` and ``environment`` with what they leave open; what they say stays.

    - Scheduler and worker in one process, where there is one worker: as two they wait for each other by polling, which
      takes a core from the model.
    - As many threads as cores: vLLM's own choice keeps one free, which of two cores is half of them. They are bound to
      no core, where scheduler and worker share a process: all wait for one that has to wait for another process. With
      one request at a time on two cores 27 tokens/s in place of 19, with 16 252 in place of 228 (one run each).
    - ``max_num_seqs``: ``SEQUENCES_PER_CORE``, at most ``MOST_SEQUENCES``.
    - Memory for keys and values (whole GiB, at least one): so much that all of these answers fit at full length, and
      at most ``MEMORY_SHARE``. Left to vLLM where the size of a token or ``max_model_len`` is not known.

    Args:
        token_bytes: Of one token's keys and values; None: not known.
    """
    args, variables = dict(engine_args), dict(environment)
    workers = math.prod(args.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline", "data"))
    if workers == 1 and args.setdefault("distributed_executor_backend", "uni") == "uni":
        # Without it vLLM makes two processes of them all the same.
        variables.setdefault(IN_PROCESS, "0")
    args.setdefault("max_num_seqs", min(SEQUENCES_PER_CORE * len(machine.cores), MOST_SEQUENCES))
    variables.setdefault(THREADS, "nobind" if args.get("distributed_executor_backend") == "uni" else "all")
    if variables[THREADS] == "all":
        variables[THREADS] = ",".join(map(str, machine.cores))
    length = args.get("max_model_len")
    if KV_SPACE not in variables and token_bytes is not None and isinstance(length, int):
        wanted = args["max_num_seqs"] * length * token_bytes
        most = max(1, math.floor(machine.memory_bytes * MEMORY_SHARE / GIB))
        variables[KV_SPACE] = str(min(max(1, math.ceil(wanted / GIB)), most))
    return args, variables


def openmp_environment(bind: str, machine: Machine) -> dict[str, str]:
    """What vLLM sets for a worker in a process of its own, for one that shares the scheduler's.

    Args:
        bind: As in ``VLLM_CPU_OMP_THREADS_BIND``: core numbers such as ``0-2,5``; ``auto``: all but one; ``nobind``: as
            many threads as cores, anywhere.

    Raises:
        ConfigurationError: Not one of these, or a core that this process may not use.
    """
    if bind == "nobind":
        return {"OMP_NUM_THREADS": str(len(machine.cores))}
    cores = list(machine.cores[: max(1, len(machine.cores) - 1)]) if bind == "auto" else _core_numbers(bind)
    if not cores or not set(cores) <= set(machine.cores):
        raise ConfigurationError(
            f"{THREADS} is {bind[:80]!r}; it must be auto, nobind, all, or numbers of the cores that this process may "
            f"use ({', '.join(map(str, machine.cores))})",
            param="engine.vllm.environment",
        )
    places = ",".join(map(str, cores))
    return {"OMP_NUM_THREADS": str(len(cores)), "OMP_PLACES": f"{{{places}}}", "OMP_PROC_BIND": "true"}


def _core_numbers(text: str) -> list[int]:
    """``0-2,5`` as [0, 1, 2, 5]; empty: it is no such list."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if match is None:
            return []
        numbers.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers
