"""Starts the service for a benchmark, as ``make serve`` does, and stops it: own port, own data, simulated engine.

A benchmark that measures the graph and not a model uses this; what it prints and writes says ``simulated``.
"""

import contextlib
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.child_process import end
from graph.free_ports import free_port
from graph.settings import PROJECT_ROOT

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers. ``pid`` is the launcher's; every process of the service is below it."""

    url: str
    data_dir: Path
    pid: int

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The processes of one deployment's replicas: Ray names them in their titles."""
        family = psutil.Process(self.pid).children(recursive=True)
        return [process for process in family if f":{deployment}" in _title(process)]


@contextlib.contextmanager
def running(
    args: Mapping[str, Any] | None = None,
    user_config: Mapping[str, Mapping[str, Any]] | None = None,
    proxy: str = "auto",
    folder: Path | None = None,
    deployments: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
    launcher_module: str = "graph.launch",
    import_path: str | None = None,
) -> Iterator[Running]:
    """``configs/serve/cpu.yaml`` on a simulated engine that takes no time; gone, with its folder, at the end.

    Args:
        args: Over the application's arguments, key by key.
        user_config: By deployment, over its own.
        proxy: As the launcher's option.
        folder: Where the data folder is made; None: the system's folder for temporary files.
        deployments: By deployment, over its other keys.
        environment: Over the launcher's environment, which replicas inherit.
        launcher_module: What is started; takes ``graph.launch``'s options.
        import_path: Of another builder, which ``launcher_module`` has to allow; None: the project's.

    Raises:
        RuntimeError: It did not start; holds what the launcher said.
    """
    config = yaml.safe_load((PROJECT_ROOT / "configs/serve/cpu.yaml").read_text())
    application = config["applications"][0]
    engine = {"kind": "simulated", "simulated": {"first_token_s": 0.0, "token_s": 0.0}}
    temp = Path(tempfile.mkdtemp(prefix="rheostat-bench-", dir=folder))
    application["args"] = _merged(
        application["args"], {"engine": engine, "data_dir": str(temp / "data"), **(args or {})}
    )
    for deployment in application["deployments"]:
        deployment.update((deployments or {}).get(deployment["name"], {}))
        changes = (user_config or {}).get(deployment["name"], {})
        deployment["user_config"] = {**deployment.get("user_config", {}), **changes}
    if import_path is not None:
        application["import_path"] = import_path
    port = free_port()
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    path = temp / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    options = ("--config", str(path), "--dashboard-port", str(free_port()), "--proxy", proxy)
    launcher = subprocess.Popen(
        [sys.executable, "-m", launcher_module, *options],
        cwd=PROJECT_ROOT,
        # Replicas import the code that lies here, also where another working copy of the project is installed.
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT_ROOT),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    family: list[psutil.Process] = []
    try:
        _wait_until_ready(launcher)
        family = psutil.Process(launcher.pid).children(recursive=True)
        yield Running(f"http://127.0.0.1:{port}", temp / "data", launcher.pid)
    finally:
        end(launcher, STOP_TIMEOUT_S, family)
        assert launcher.stdout is not None
        launcher.stdout.close()
        shutil.rmtree(temp, ignore_errors=True)


def _wait_until_ready(launcher: subprocess.Popen[str]) -> None:
    assert launcher.stdout is not None
    said = []
    # A launcher that hangs says nothing; its end is what ends the loop below.
    watchdog = threading.Timer(START_TIMEOUT_S, launcher.kill)
    watchdog.start()
    try:
        for line in launcher.stdout:
            said.append(line)
            if line.startswith("ready "):
                return
    finally:
        watchdog.cancel()
    raise RuntimeError("the service did not start:\n" + "".join(said[-40:]))


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
