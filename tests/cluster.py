"""A Ray cluster of the tests' own, and Rheostat on it, deployed the way a platform team deploys it."""

import contextlib
import copy
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from deployments.ingress.proxy_errors import CALLBACK
from graph.free_ports import free_port

ROOT = Path(__file__).resolve().parent.parent
_QUICK = {
    # Serve's own periods, lowered: tests wait for what happens, not for a tick.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.05",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.01",
    "RAY_metrics_report_interval_ms": "500",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "HF_HUB_OFFLINE": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK,
}


@contextlib.contextmanager
def local_cluster() -> Iterator[int]:
    """A Ray started and stopped here, with Serve's proxy on the loopback port that is yielded."""
    import ray
    from ray import serve

    with tempfile.TemporaryDirectory(prefix="rheostat-test-", ignore_cleanup_errors=True) as temp:
        before = {name: os.environ.get(name) for name in (*_QUICK, "RAY_TMPDIR")}
        os.environ.update(_QUICK, RAY_TMPDIR=temp)
        port = free_port()
        # Always "local": never attach to a cluster that somebody else left running.
        ray.init(
            address="local",
            num_cpus=8,
            include_dashboard=False,
            object_store_memory=200 << 20,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            _temp_dir=temp,
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            yield port
        finally:
            serve.shutdown()
            ray.shutdown()
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def shipped_config(**args: Any) -> dict[str, Any]:
    """``configs/serve/cpu.yaml`` with ``args`` merged over its application's, key by key."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "configs/serve/cpu.yaml").read_text())
    application = config["applications"][0]
    application["args"] = _merged(application["args"], args)
    return config


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def with_user_config(config: dict[str, Any], deployment: str, **values: Any) -> dict[str, Any]:
    """``config`` with these values in one deployment's user_config."""
    changed = copy.deepcopy(config)
    for entry in changed["applications"][0]["deployments"]:
        if entry["name"] == deployment:
            entry["user_config"] = {**entry.get("user_config", {}), **values}
    return changed


def deploy(*configs: dict[str, Any], timeout_s: float = 240) -> None:
    """Deploys the applications of ``configs`` and returns when all of them run; fails with Serve's own reason."""
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(
        {"applications": [application for config in configs for application in config["applications"]]}
    )
    # What `serve deploy` ends in; the public way there needs the dashboard, which tests do without.
    _get_global_client().deploy_apps(schema)
    names = [application.name for application in schema.applications]
    until = time.monotonic() + timeout_s
    while True:
        states = serve.status().applications
        found = [states[name] for name in names if name in states]
        if len(found) == len(names) and all(_is_settled(state) for state in found):
            return
        failed = [state for state in found if state.status in ("DEPLOY_FAILED", "UNHEALTHY")]
        assert not failed, [(state.message, {n: d.message for n, d in state.deployments.items()}) for state in failed]
        assert time.monotonic() < until, f"not running after {timeout_s} s: {states}"
        time.sleep(0.1)  # Serve offers no event for this


def _is_settled(state: Any) -> bool:
    return state.status == "RUNNING" and all(d.status == "HEALTHY" for d in state.deployments.values())


def wait_until_ready(url: str, timeout_s: float = 120) -> None:
    until = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ready", timeout=10).status_code == 200:
                return
        assert time.monotonic() < until, f"{url} is not ready after {timeout_s} s"
        time.sleep(0.1)


def chat(content: str = "Why is the sky blue?", **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": content}], **fields}
