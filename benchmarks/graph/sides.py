"""Who is measured: Rheostat and ``ray.serve.llm`` on engines that keep the same time, and Rheostat without a stage."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import yaml

from benchmarks.contestants.process import Server
from benchmarks.contestants.ray_llm import Mode, ray_llm
from benchmarks.contestants.rheostat import rheostat
from graph.settings import PROJECT_ROOT

Pace = Mapping[str, float]
NO_TIME: Pace = {"first_token_s": 0.0, "token_s": 0.0}
STREAMING: Pace = {"first_token_s": 0.02, "token_s": 0.02}
"""50 tokens a second a stream, from the first one on."""
PLACES = 256
"""Answers in the making that every stage takes at once: more than any load here asks for."""
RAY_LLM: Mapping[str, Mode] = {
    "ray-default": "default",
    "ray-haproxy": "default-haproxy",
    "ray-haproxy-at-once": "default-haproxy",
}
AT_ONCE = {"RAYLLM_MODEL_RESPONSE_BATCH_TIMEOUT_MS": "0"}
"""Its streams send what came every 50 ms, which saves it most of its work; so they do not wait."""
CONTESTANTS = ("rheostat", "rheostat-plain", *RAY_LLM)
"""``plain`` and ``default``: under Ray Serve's own proxy."""
WITHOUT: Mapping[str, str] = {
    "no judge": "judge",
    "no format": "format",
    "no log": "record",
    "no judge, format, log": "judge,format,record",
}
STAGES = ("rheostat", "no checks", *WITHOUT, "no haproxy")
"""``no checks``: the stages are all there, and find nothing, as no check is enabled."""


def start(name: str, pace: Pace) -> AbstractContextManager[Server]:
    """The server that ``name`` of `CONTESTANTS` or `STAGES` stands for."""
    if name in RAY_LLM:
        from deployments.generator.model_store import resolve_model

        # It reads the model's configuration, whatever engine answers.
        environment = AT_ONCE if name.endswith("-at-once") else {}
        return ray_llm(RAY_LLM[name], resolve_model(None), {"max_model_len": 2048}, environment, pace)
    user_config: dict[str, dict[str, Any]] = {"Ingress": {"max_inflight_choices": PLACES}}
    options: dict[str, Any] = {"deployments": {"Generator": {"max_ongoing_requests": PLACES}}}
    if name == "no checks":
        quality = without_checks()
        user_config["Ingress"]["quality"] = quality
        user_config["Validator"] = {"quality": quality}
    if name in ("rheostat-plain", "no haproxy"):
        options["proxy"] = "python"
    if name in WITHOUT:
        options |= {
            "environment": {"RHEOSTAT_BENCH_WITHOUT": WITHOUT[name]},
            "launcher_module": "benchmarks.graph.launch_without",
            "import_path": "benchmarks.graph.without:build",
        }
    return rheostat({"kind": "simulated", "simulated": dict(pace)}, user_config=user_config, **options)


def without_checks() -> dict[str, Any]:
    """The quality policy with every check off."""
    policy: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "configs/quality.yaml").read_text())
    return {**policy, "checks": {name: {**check, "enabled": False} for name, check in policy["checks"].items()}}
