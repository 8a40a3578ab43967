"""What Serve and HAProxy answer by themselves, with HAProxy in front: our error envelope too."""

import contextlib
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.service import Running, running
from graph.serve_environment import find_haproxy
from tests.cluster import chat

pytestmark = pytest.mark.skipif(find_haproxy()[0] is None, reason=f"no HAProxy: {find_haproxy()[1]}")
CHAT = "/v1/chat/completions"
HANGING = {"first_token_s": 0.0, "token_s": 0.0, "script": {"hang at once": {"text": "never", "hang_after_tokens": 0}}}


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    """Started as `make serve` starts it: the switches are read when ray is imported, so in a process of its own."""
    with running({"engine": {"kind": "simulated", "simulated": HANGING}}, proxy="haproxy") as started:
        yield started


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as made:
        yield made


def test_a_replicas_own_408_is_our_504(client: httpx.Client) -> None:
    # So short that Serve gives up before our ingress has read the request.
    late = client.post(CHAT, json=chat("hang at once"), headers={"x-request-timeout-seconds": "0.001"})
    assert (late.status_code, late.headers["content-type"]) == (504, "application/json")
    assert late.headers["x-should-retry"] == "false"
    assert late.json()["error"]["code"] == "deadline_exceeded"


def test_a_request_that_comes_while_there_is_no_replica_waits_for_the_next_one(
    client: httpx.Client, service: Running
) -> None:
    (killed,) = service.replicas("Ingress")
    killed.kill()
    killed.wait(30)
    # HAProxy may still hold a connection to the dead one: that a request on it gets no answer tells clients to retry.
    with contextlib.suppress(httpx.RemoteProtocolError):
        client.get("/health")
    assert client.get("/ready").status_code == 200
    (replica,) = service.replicas("Ingress")
    assert replica.pid != killed.pid
