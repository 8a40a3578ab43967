"""Makes HAProxy, as Ray Serve runs it, safe: Serve starts this in its place, and this becomes HAProxy.

Serve 2.60 writes HAProxy's configuration by itself. Its metrics and statistics pages listen on all interfaces, and what
HAProxy refuses is a plain-text 500 that no client retries. Here both pages go to loopback, and a refusal becomes a 503
in our error body with Retry-After. Of the requests that may be sent to a second replica, since the first one closed the
connection under them, those are taken out that must not be executed twice (``RETRY_ON``). `write_wrapper` makes the
executable for ``RAY_SERVE_HAPROXY_BINARY_PATH``. It runs at every change of the replicas, so it imports the standard
library alone.
"""

import ctypes
import os
import re
import shlex
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
"""prctl(2); survives ``exec``."""
ERROR_FILE = "503.http"
ERROR_BODY = (
    '{"error":{"message":"The service is not ready; try again in a few seconds.",'
    '"type":"service_unavailable_error","param":null,"code":"not_ready"}}'
)
RETRY_ON = "conn-failure empty-response"
"""A replica that goes may close a kept-alive connection in the moment in which HAProxy sends a request over it. Without
``empty-response`` HAProxy closes the client's connection then without a word."""
REPEATABLE = "METH_GET or { path /v1/chat/completions /v1/validate /v1/controls/preview }"
"""What may be sent to a second replica, though the first one may have begun with it: HAProxy's condition."""
_NO_RETRY = "http-request disable-l7-retry unless"
_FRONTEND = re.compile(rf"^(frontend http_frontend\n(\s+)bind [^\n]*\n)(?!\s+{_NO_RETRY})", re.MULTILINE)
_OPEN_BIND = re.compile(r"^(\s*bind\s+)\*?:(\d+)\b", re.MULTILINE)
_ERROR_FILE = re.compile(r"^(\s*errorfile\s+50[234]\s+)\S+", re.MULTILINE)


def secure(config: str, error_file: Path) -> str:
    """HAProxy's configuration with what listens on all interfaces on loopback, with our refusal, and with only those
    requests sent again that may be."""
    config = _OPEN_BIND.sub(r"\g<1>127.0.0.1:\2", config)
    config = _FRONTEND.sub(rf"\g<1>\g<2>{_NO_RETRY} {REPEATABLE}\n", config)
    return _ERROR_FILE.sub(lambda found: f"{found[1]}{error_file}", config)


def error_page() -> str:
    """What HAProxy answers when no replica does, header and all."""
    head = ("HTTP/1.1 503 Service Unavailable", "Content-Type: application/json", "Retry-After: 2")
    return "\r\n".join([*head, f"Content-Length: {len(ERROR_BODY)}", "", ERROR_BODY])


def write_wrapper(path: Path, haproxy: str) -> None:
    """Writes an executable that takes HAProxy's arguments.

    Args:
        path: Where it is written to.
        haproxy: The real one.
    """
    command = (sys.executable, "-I", str(Path(__file__).resolve()), haproxy)
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o700)


def main(argv: list[str]) -> None:
    haproxy, *arguments = argv
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        error_file = config.with_name(ERROR_FILE)
        error_file.write_text(error_page(), newline="")
        secured = config.with_name(f"{config.name}.secured")
        secured.write_text(secure(config.read_text(), error_file))
        secured.replace(config)
    # Killed with the process of Serve that started it, which may have no time to end it, and would leave it listening.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execv(haproxy, [haproxy, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
