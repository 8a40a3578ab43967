"""vLLM's own OpenAI server, which ``vllm serve`` starts.

Its module is started and not the command, which asks for the version of a package ``vllm``: builds for CPUs have
another name.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.contestants.process import Server, started, temporary_folder
from graph.free_ports import free_port

MODEL = "smollm2-135m-instruct"


def options_of(engine_args: Mapping[str, Any]) -> list[str]:
    """The command line's options for the same engine arguments: ``max_num_seqs: 32`` is ``--max-num-seqs 32``."""
    options = []
    for name, value in engine_args.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            options += [f"--{flag}", json.dumps(value) if isinstance(value, Mapping) else str(value)]
    return options


@contextlib.contextmanager
def vllm_server(model_dir: Path, engine_args: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Server]:
    """Serves ``model_dir``; without ``engine_args`` as vLLM chooses."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_dir)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", MODEL, *options_of(engine_args)]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with (
        temporary_folder() as folder,
        started(command, {**quiet, **environment}, f"http://127.0.0.1:{port}", MODEL, folder / "log") as server,
    ):
        yield server
