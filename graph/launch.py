"""``make serve``: Ray and the graph on this machine, from one command, until Ctrl-C; nothing is left behind.

Starts a Ray of its own (token authentication, everything on loopback), deploys a Serve configuration as ``serve
deploy`` would, shows progress until it is ready, sends one real request and prints the answer with its receipt.
Ray's processes share this process's fate, by the kernel: they end however this one ends.
"""

import argparse
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table

from graph.check_config import faults_of
from graph.serve_environment import PROXIES, free_haproxy_ports, haproxy_for, serve_environment
from graph.settings import PROJECT_ROOT, AppArgs, project_path

START_TIMEOUT_S = 300.0
"""A model that is not up by then will not come up; the log says why."""
DRAIN_TIMEOUT_S = 15.0
"""How long running requests may take to finish after Ctrl-C."""
OBJECT_STORE_BYTES = 200 << 20
"""Ray's shared memory: messages go by value here, so little is needed."""
TEMP_PREFIX = "rheostat-ray-"
SAMPLE = {
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "controls": {"lp": {"depth": 30, "technicality": 20}},
    "seed": 7,
}
console = Console(stderr=True)


class LaunchError(Exception):
    """A step failed; the text says which and what to do."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m graph.launch", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=PROJECT_ROOT / "configs/serve/cpu.yaml")
    parser.add_argument("--dashboard-port", type=int, default=8265)
    parser.add_argument(
        "--proxy",
        choices=("auto", *PROXIES),
        default="auto",
        help="in front of the ingress; auto: HAProxy where it runs",
    )
    parser.add_argument("--exit-when-ready", action="store_true", help="stop after the first answer (for scripts)")
    options = parser.parse_args(argv)
    config = options.config.resolve()
    stop = threading.Event()
    _on_signals(stop.set)
    try:
        with _cluster(config, options.dashboard_port, options.proxy) as (url, dashboard, args):
            # Again: starting Ray puts handlers of its own in their place.
            _on_signals(stop.set)
            _deploy(config, dashboard)
            _wait_until_ready(url, stop)
            if not stop.is_set():
                _show_sample(url, args)
                ready = f"[bold green]ready[/] {url}/v1   dashboard {dashboard}   [dim]Ctrl-C stops it[/]"
                console.print(ready, soft_wrap=True)
            if not options.exit_when_ready:
                stop.wait()
            console.print("stopping ...")
    except LaunchError as error:
        console.print(f"[bold red]failed[/] {escape(str(error))}", soft_wrap=True)
        return 1
    console.print("stopped; no process is left")
    return 0


def _on_signals(stop: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop())


@contextlib.contextmanager
def _cluster(config: Path, dashboard_port: int, proxy: str) -> Iterator[tuple[str, str, AppArgs]]:
    """A running Ray for ``config``: yields the service's URL, the dashboard's, and the application's settings."""
    _sweep()
    with tempfile.TemporaryDirectory(prefix=TEMP_PREFIX, ignore_cleanup_errors=True) as temp:
        Path(temp, "pid").write_text(str(os.getpid()))
        _set_ray_environment(Path(temp))
        _set_serve_environment(Path(temp), proxy)
        faults = faults_of(config)
        if faults:
            raise LaunchError("the configuration is faulty:\n  " + "\n  ".join(faults))
        value: dict[str, Any] = yaml.safe_load(config.read_text())
        args = AppArgs.model_validate(value["applications"][0].get("args") or {})
        http = value.get("http_options") or {}
        host, port = http.get("host", "127.0.0.1"), http.get("port", 8000)
        _require_free(port, f"change http_options.port in {config.name}")
        taken_by = _owner(dashboard_port)
        if taken_by is not None:
            console.print(f"dashboard port {dashboard_port} is taken by {taken_by}; using the next free one")
            dashboard_port = next(p for p in range(dashboard_port + 1, 65_536) if _owner(p) is None)
        _make_writable(project_path(args.data_dir))
        if args.model.path is None or Path(args.model.path).expanduser().exists():
            os.environ["HF_HUB_OFFLINE"] = "1"
        with _progress("starting Ray"):
            import ray

            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, 2),
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                dashboard_port=dashboard_port,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
                _temp_dir=temp,
            )
        _end_log_monitor()
        try:
            yield f"http://{host}:{port}", f"http://127.0.0.1:{dashboard_port}", args
        finally:
            _stop(psutil.Process().children(recursive=True))


def _end_log_monitor() -> None:
    """Ends the process that reads all log files ten times a second for a driver that prints them, which this one does
    not (``log_to_driver``): 0.8% of a core. Ray has no setting for it here and misses nothing."""
    ended = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(part.endswith("log_monitor.py") for part in process.cmdline()):
                process.terminate()
                ended.append(process)
    psutil.wait_procs(ended, timeout=5)


def _sweep() -> None:
    """Removes what launchers left behind that were killed without a chance to."""
    for pid in Path(tempfile.gettempdir()).glob(f"{TEMP_PREFIX}*/pid"):
        if pid.stat().st_uid == os.getuid() and not psutil.pid_exists(int(pid.read_text() or 0)):
            shutil.rmtree(pid.parent, ignore_errors=True)


def _set_ray_environment(temp: Path) -> None:
    """Token authentication and a folder of our own. Before ray is imported: it reads these once."""
    token = temp / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(token),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_TMPDIR=str(temp),
        # /metrics shows what was published last (default every 10 s).
        RAY_metrics_report_interval_ms="5000",
        # Ray starts its workers as nice 15: behind whatever else wants the same cores.
        RAY_worker_niceness="0",
        # Ray's agents look so long for a control process that is gone before they go too (default 60).
        RAY_gcs_rpc_server_reconnect_timeout_s="5",
    )


def _set_serve_environment(temp: Path, proxy: str) -> None:
    """HAProxy in front, or Serve's own proxy, and says so where that was not asked for."""
    haproxy, reason = (None, "") if proxy == "python" else haproxy_for(temp)
    if haproxy is None and proxy == "haproxy":
        raise LaunchError(f"--proxy haproxy: {reason}")
    if haproxy is None and proxy == "auto":
        told = f"[yellow]without HAProxy[/] {escape(reason)}; Serve's own proxy takes fewer requests"
        console.print(told, soft_wrap=True)
    # Ports of its own: one that another service's HAProxy has would be in the way.
    os.environ.update(serve_environment(temp, haproxy) | free_haproxy_ports())
    # How long a replica that goes away is still sent requests; here HAProxy learns of it within a second (default 30).
    os.environ.setdefault("RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "2")
    # How often the controller looks at its deployments (default 0.1): 3.2% of a core or 1.0%.
    os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.5")


def _deploy(config: Path, dashboard: str) -> None:
    with _progress(f"deploying {config.name}"):
        done = subprocess.run(
            [sys.executable, "-m", "ray.serve.scripts", "deploy", str(config), "--address", dashboard],
            capture_output=True,
            text=True,
            check=False,
            cwd=PROJECT_ROOT,
        )
    if done.returncode != 0:
        raise LaunchError(f"serve deploy failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _wait_until_ready(url: str, stop: threading.Event) -> None:
    """Shows each deployment's state until /ready answers; raises LaunchError with Serve's own reason."""
    from ray import serve

    began = time.monotonic()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while not stop.wait(0.5):
            waited = time.monotonic() - began
            application = serve.status().applications.get("rheostat")
            live.update(_states(application, waited))
            if application is not None and application.status == "DEPLOY_FAILED":
                raise LaunchError(f"the graph did not start: {_reason(application)}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/ready", timeout=5, trust_env=False).status_code == 200:
                    console.print(f"graph ready after {waited:.0f} s")
                    return
            if waited > START_TIMEOUT_S:
                raise LaunchError(f"not ready after {START_TIMEOUT_S:.0f} s: {_reason(application)}")


def _states(application: Any, waited: float) -> Table:
    table = Table.grid(padding=(0, 2))
    deployments = application.deployments if application is not None else {}
    for name, deployment in deployments.items():
        up = deployment.status == "HEALTHY"
        mark = "[green]up[/]" if up else Spinner("dots", text=f"starting, {waited:.0f} s")
        table.add_row(f"  {name}", mark)
    if not deployments:
        table.add_row(Spinner("dots", text=f"building the graph, {waited:.0f} s"))
    return table


def _reason(application: Any) -> str:
    if application is None:
        return "Ray Serve does not know the application"
    texts = [application.message, *(d.message for d in application.deployments.values())]
    return "\n".join(text[-1500:] for text in texts if text) or str(application.status)


def _show_sample(url: str, args: AppArgs) -> None:
    """One real request, so that the first thing a person sees is an answer."""
    with _progress("asking: Why is the sky blue?"):
        answer = httpx.post(
            f"{url}/v1/chat/completions", json={"model": args.model.id, **SAMPLE}, timeout=120, trust_env=False
        )
    if args.auth.keys_file is not None and answer.status_code == 401:
        console.print("keys are required, so no sample request was sent")
        return
    if answer.status_code != 200:
        raise LaunchError(f"the sample request was answered {answer.status_code}: {answer.text[:500]}")
    body = answer.json()
    shown = Console()
    shown.print(
        Panel(body["choices"][0]["message"]["content"], title="Why is the sky blue?  depth 30, technicality 20")
    )
    shown.print_json(json.dumps({key: body["rheostat"][key] for key in ("controls", "quality")}))


def _require_free(port: int, mend: str) -> None:
    owner = _owner(port)
    if owner is not None:
        raise LaunchError(f"port {port} is taken by {owner}; stop it, or {mend}")


def _owner(port: int) -> str | None:
    """Who listens on ``port``, as far as this user may know; None when nobody does."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                return "a process of another user"
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {connection.pid})"
            return f"pid {connection.pid}"
    return None


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LaunchError(f"data_dir {folder} cannot be written ({error.strerror}); set args.data_dir") from None


def _stop(processes: list[psutil.Process]) -> None:
    """Lets replicas finish for a while, stops Ray, and ends by pid what is still there of our descendants."""
    import ray
    from ray import serve

    # In a thread: it waits for requests that run, and whoever pressed Ctrl-C does not want to wait as long as these.
    drain = threading.Thread(target=serve.shutdown, daemon=True)
    drain.start()
    drain.join(DRAIN_TIMEOUT_S)
    ray.shutdown()
    _, alive = psutil.wait_procs(processes, timeout=10)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


@contextlib.contextmanager
def _progress(text: str) -> Iterator[None]:
    began = time.monotonic()
    with console.status(text):
        yield
    console.print(f"{text} [dim]{time.monotonic() - began:.1f} s[/]")


if __name__ == "__main__":
    sys.exit(main())
