"""``ray.serve.llm`` with one model on a Ray of its own: its default ingress, under Serve's proxy or under HAProxy, and
its direct streaming, which lets no ingress of one's own check anything."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from benchmarks.contestants.process import Server, started, temporary_folder
from graph.free_ports import free_port
from graph.serve_environment import find_haproxy, free_haproxy_ports, serve_environment

MODEL = "smollm2-135m-instruct"
READY = "all deployments are up"
"""What `ray_llm_app` says: its ingress answers before the engine does."""
Mode = Literal["default", "default-haproxy", "direct"]


@contextlib.contextmanager
def ray_llm(
    mode: Mode,
    model_source: str,
    engine_args: Mapping[str, Any],
    environment: Mapping[str, str],
    pace: Mapping[str, float] | None = None,
    *,
    on_gpu: bool = False,
) -> Iterator[Server]:
    """Serves ``model_source``.

    Args:
        mode: ``direct`` is direct streaming over HAProxy.
        pace: ``first_token_s`` and ``token_s`` of an engine that only keeps time (`paced_engine`); None: vLLM.
        on_gpu: The engine takes a GPU.

    Raises:
        RuntimeError: It did not start, or HAProxy does not run here and is asked for.
    """
    port = free_port()
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": MODEL, "model_source": model_source},
        "engine_kwargs": dict(engine_args),
    }
    if not on_gpu:
        # It takes a GPU for granted, and would wait for one for ever.
        config["accelerator_config"] = {"kind": "cpu"}
    with temporary_folder() as folder:
        chosen = {
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            # As in every contestant on Ray here: its default makes its processes yield to the client's.
            "RAY_worker_niceness": "0",
            **environment,
        }
        if mode != "default":
            haproxy, reason = find_haproxy()
            if haproxy is None:
                raise RuntimeError(f"ray.serve.llm in the mode {mode} needs HAProxy: {reason}")
            chosen |= serve_environment(folder, haproxy) | free_haproxy_ports()
            # Mends error pages for our clients; at its own expense it need not.
            chosen.pop("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", None)
        if mode == "direct":
            chosen["RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING"] = "1"
        if pace is not None:
            chosen["RAYLLM_VLLM_ENGINE_CLS"] = "benchmarks.contestants.paced_engine.PacedEngine"
            config["experimental_configs"] = dict(pace)
        path = folder / "llm.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "benchmarks.contestants.ray_llm_app"]
        command += ["--config", str(path), "--port", str(port), "--temp", str(folder / "ray")]
        with started(command, chosen, f"http://127.0.0.1:{port}", MODEL, folder / "log", READY) as server:
            yield server
