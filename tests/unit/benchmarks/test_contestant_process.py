"""The benchmarks' servers: started, waited for, and ended with all that they started."""

import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.contestants.process import started
from graph.free_ports import free_port

SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
asked = 0
class Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        if asked == 2:
            print("all is up", flush=True)
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Models)
server.serve_forever()
"""
"""Answers at once, and says at the second request that all is up."""


def test_a_server_and_what_it_started_are_gone_at_the_end(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    log = tmp_path / "log"
    with started(command, {}, f"http://127.0.0.1:{port}", "m", log, "all is up") as server:
        assert "all is up" in log.read_text()
        processes = server.processes()
        assert len(processes) == 2
        assert server.cpu_s() > 0
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_they_are_gone_too_when_the_measurement_fails(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    processes: list[psutil.Process] = []
    with (
        pytest.raises(KeyboardInterrupt),
        started(command, {}, f"http://127.0.0.1:{port}", "m", tmp_path / "log") as server,
    ):
        processes = server.processes()
        raise KeyboardInterrupt
    assert processes
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_a_server_that_ends_by_itself_is_told_with_what_it_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        pytest.raises(RuntimeError, match="no such model"),
        started(command, {}, f"http://127.0.0.1:{free_port()}", "m", tmp_path / "log"),
    ):
        raise AssertionError("it did not start")
