"""HAProxy as Serve configures it listens on more than it should: what stands in its place puts that right."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deployments.ingress.envelopes import error_body
from deployments.ingress.proxy_errors import error_of
from graph.free_ports import free_ports
from graph.haproxy import ERROR_BODY, RETRY_ON, error_page, secure, write_wrapper
from graph.serve_environment import find_haproxy

CONFIG = """global
    stats socket /tmp/x/admin.sock mode 666 level admin
defaults
    errorfile 502 /tmp/x/500.http
    errorfile 503 /tmp/x/500.http
    errorfile 504 /tmp/x/500.http
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind 127.0.0.1:8000
backend http-rheostat
    server one 127.0.0.1:30000 check
listen stats
  bind *:8404
  stats enable
"""


def test_pages_that_listen_on_all_interfaces_listen_on_loopback_and_all_else_stays() -> None:
    secured = secure(CONFIG, Path("/tmp/x/503.http"))
    assert "bind 127.0.0.1:9101" in secured
    assert "bind 127.0.0.1:8404" in secured
    lines = secured.splitlines()
    added = lines.index("    bind 127.0.0.1:8000") + 1
    assert lines[added].startswith("    http-request disable-l7-retry unless METH_GET or ")
    kept = lines[:added] + lines[added + 1 :]
    changed = [(before, after) for before, after in zip(CONFIG.splitlines(), kept, strict=True) if before != after]
    assert len(changed) == 5
    assert secure(secured, Path("/tmp/x/503.http")) == secured


HOPS = """defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    option redispatch 1
    retry-on {retry_on}
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    server one 127.0.0.1:{replica}
"""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("path", "is_sent_again"),
    [("/v1/chat/completions", True), ("/v1/feedback", False), ("/v1/rollout/promote", False)],
)
async def test_a_connection_that_a_replica_closes_under_a_request_costs_no_answer_and_does_nothing_twice(
    tmp_path: Path, path: str, is_sent_again: bool
) -> None:
    haproxy, why_not = find_haproxy()
    assert haproxy is not None, why_not
    received = []

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Answers one request, and closes when the next one has come over the same connection.
        for answer in (ANSWER, b""):
            with contextlib.suppress(asyncio.IncompleteReadError):
                received.append(await reader.readuntil(b"\r\n\r\n{}"))
                writer.write(answer)
        writer.close()

    port, replica_port = free_ports(2)
    config = tmp_path / "haproxy.cfg"
    config.write_text(secure(HOPS.format(retry_on=RETRY_ON, port=port, replica=replica_port), tmp_path / "503.http"))
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    async with await asyncio.start_server(replica, "127.0.0.1", replica_port):
        proxy = await asyncio.create_subprocess_exec(haproxy, "-db", "-f", str(config))
        try:
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                await asyncio.sleep(0.02)
            answers = []
            for _ in range(2):
                writer.write(request)
                head = await reader.read(len(b"HTTP/1.1 200"))
                answers.append(head.decode())
                if head:
                    await reader.readuntil(b"ok")
            writer.close()
        finally:
            proxy.terminate()
            await proxy.wait()
    assert answers == ["HTTP/1.1 200", "HTTP/1.1 200" if is_sent_again else ""]
    assert len(received) == 2 + is_sent_again


def test_the_templates_that_serve_ships_bind_nothing_in_a_form_that_is_not_known() -> None:
    templates = pytest.importorskip("ray.serve._private.haproxy_templates")
    binds = [
        line.strip() for line in templates.HAPROXY_CONFIG_TEMPLATE.splitlines() if line.strip().startswith("bind ")
    ]
    frontend = "frontend http_frontend\n    bind {{ config.frontend_host }}:{{ config.frontend_port }}\n"
    assert frontend in templates.HAPROXY_CONFIG_TEMPLATE
    assert sorted(binds) == [
        "bind *:{{ config.stats_port }}",
        "bind :{{ config.metrics_port }}",
        "bind {{ config.frontend_host }}:{{ config.frontend_port }}",
        "bind {{ config.grpc_frontend_host }}:{{ config.grpc_frontend_port }} proto h2",
    ]


def test_a_refusal_is_our_error_body_with_a_time_to_come_back() -> None:
    assert json.loads(ERROR_BODY) == error_body(error_of(503))
    head, _, body = error_page().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 2" in head
    assert f"Content-Length: {len(body.encode())}" in head


def test_the_wrapper_secures_the_file_and_then_is_haproxy_with_its_arguments(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG)
    real = tmp_path / "a real one"
    real.write_text('#!/bin/sh\necho "$$" "$@"\n')
    real.chmod(0o700)
    wrapper = tmp_path / "haproxy"
    write_wrapper(wrapper, str(real))
    started = subprocess.Popen(
        [str(wrapper), "-db", "-f", str(config), "-sf", "12 3"], stdout=subprocess.PIPE, text=True
    )
    said, _ = started.communicate()
    assert said.split() == [str(started.pid), "-db", "-f", str(config), "-sf", "12", "3"], "the same process"
    assert config.read_text() == secure(CONFIG, tmp_path / "503.http")
    assert (tmp_path / "503.http").read_bytes() == error_page().encode()


def test_it_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    haproxy, pid_file = tmp_path / "real", tmp_path / "pid"
    haproxy.write_text(f"#!/bin/sh\necho $$ > {pid_file}.new && mv {pid_file}.new {pid_file}\nexec sleep 600\n")
    haproxy.chmod(0o700)
    write_wrapper(tmp_path / "wrapper", str(haproxy))
    starter = f"import subprocess; subprocess.Popen([{str(tmp_path / 'wrapper')!r}]).wait()"
    with subprocess.Popen([sys.executable, "-c", starter]) as parent:
        while not pid_file.exists():
            time.sleep(0.02)
        started = psutil.Process(int(pid_file.read_text()))
        parent.kill()
    _, alive = psutil.wait_procs([started], timeout=20)
    assert alive == []
