"""The running graph over HTTP: what a client sees on the wire."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from ray import serve

from deployments.feedback.directory import read_log
from tests.bad_feedback import FEEDBACK_TABLE
from tests.bad_input import TABLE, Bad, problems
from tests.bad_validation import VALIDATION_TABLE
from tests.cluster import chat, with_user_config
from tests.graph.conftest import KEYS, key_of

Redeploy = Callable[[dict[str, Any]], None]
CHAT = "/v1/chat/completions"


def running_requests(app: str = "rheostat") -> int:
    load = serve.get_deployment_handle("Generator", app).load.remote().result()
    return int(load.running_requests)


def wait_until_idle(app: str = "rheostat", timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while (count := running_requests(app)) > 0:
        assert time.monotonic() < until, f"{count} requests still run in the engine"
        time.sleep(0.05)  # the engine offers no event for this


@pytest.mark.parametrize("bad", [*TABLE, *FEEDBACK_TABLE, *VALIDATION_TABLE], ids=lambda bad: bad.name)
def test_a_faulty_request_is_refused_by_name(bad: Bad, client: httpx.Client) -> None:
    content = bad.raw if bad.raw is not None else json.dumps(bad.body).encode() if bad.body is not None else None
    headers = {"content-type": "application/json", **bad.headers}
    response = client.request(bad.method, bad.path, content=content, headers=headers)
    assert problems(bad, response.status_code, response.headers, response.json()) == []


def test_a_body_without_a_declared_length_is_bounded_while_it_is_read(client: httpx.Client) -> None:
    pieces = (b" " * 65_536 for _ in range(64))
    response = client.post(CHAT, content=pieces, headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


def test_an_answer_comes_whole_with_its_receipt_verdict_and_token(client: httpx.Client) -> None:
    response = client.post(CHAT, json=chat(controls={"lp": {"depth": 70}, "ls": {"format": "steps"}}))
    body = response.json()
    assert response.status_code == 200, body
    assert body["choices"][0]["message"]["content"].startswith("1. ")
    assert body["rheostat"]["controls"]["ls"]["format"] == {"value": "steps", "source": "explicit"}
    assert body["rheostat"]["quality"]["outcome"] == "pass"
    assert len(response.headers.get_list("x-request-id")) == 1


def test_the_wire_of_a_stream_is_plain_data_frames_then_done_then_the_end(client: httpx.Client) -> None:
    with client.stream("POST", CHAT, json=chat(stream=True)) as response:
        arrivals = list(response.iter_raw())
    raw = b"".join(arrivals).decode()
    frames = raw.removesuffix("\n\n").split("\n\n")
    assert all(frame.startswith("data: ") for frame in frames)
    assert frames[-1] == "data: [DONE]"
    first, last = json.loads(frames[0][6:]), json.loads(frames[-2][6:])
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert first["choices"][0]["delta"]["content"]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["rheostat"]["feedback_token"]
    assert len(arrivals) > 3, "it came in one piece"


@pytest.mark.parametrize("prompt", ["die late", "count slowly"])
def test_a_stream_that_fails_ends_with_an_error_frame_and_an_unclean_close(prompt: str, client: httpx.Client) -> None:
    raw = b""
    headers = {"x-request-timeout-seconds": "1.5"} if prompt == "count slowly" else {}
    with (
        pytest.raises(httpx.RemoteProtocolError),
        client.stream("POST", CHAT, json=chat(prompt, stream=True), headers=headers) as response,
    ):
        for piece in response.iter_raw():
            raw += piece
    frames = raw.decode().strip().split("\n\n")
    assert "[DONE]" not in raw.decode()
    assert set(json.loads(frames[-1][6:])["error"]) == {"message", "type", "param", "code"}
    wait_until_idle()


def test_an_engine_failure_before_the_first_byte_is_a_503_with_retry_after(client: httpx.Client) -> None:
    for stream in (False, True):
        response = client.post(CHAT, json=chat("die early", stream=stream))
        assert response.status_code == 503
        assert 1 <= int(response.headers["retry-after"]) <= 5
        assert response.json()["error"]["code"] == "server_is_overloaded"


def test_a_deadline_is_our_504_and_not_serves_plain_text_408(client: httpx.Client) -> None:
    for seconds in ("0.2", "1"):
        response = client.post(CHAT, json=chat("hang at once"), headers={"x-request-timeout-seconds": seconds})
        assert response.status_code == 504
        assert response.headers["x-should-retry"] == "false"
        assert response.json()["error"]["code"] == "deadline_exceeded"
    wait_until_idle()


def test_even_serves_own_refusals_come_in_our_envelope(client: httpx.Client) -> None:
    # So short that Serve's proxy gives up before our ingress has seen the request.
    late = client.post(CHAT, json=chat("hang at once"), headers={"x-request-timeout-seconds": "0.001"})
    assert late.status_code == 504
    assert late.headers["content-type"] == "application/json"
    assert late.headers["x-should-retry"] == "false"
    assert late.json()["error"]["code"] == "deadline_exceeded"
    wait_until_idle()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_the_engine(stream: bool, url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(chat("count slowly", stream=stream)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {KEYS['acme']}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        until = time.monotonic() + 20
        while running_requests() == 0:
            assert time.monotonic() < until, "the request never reached the engine"
    wait_until_idle()


def test_feedback_is_on_disk_when_it_is_acknowledged(client: httpx.Client, data_dir: Path) -> None:
    vendor = client.post(CHAT, json=chat()).json()["rheostat"]
    event = {"feedback_token": vendor["feedback_token"], "kind": "rating", "value": 4, "text": "clear"}
    ack = client.post("/v1/feedback", json=event).json()
    assert ack["durable"] is True
    rows = {row["event_id"]: row for row in read_log(data_dir / "log")}
    assert rows[ack["event_id"]]["value_num"] == 4
    assert rows[ack["event_id"]]["generation_id"] == vendor["generation_id"]
    assert rows[vendor["generation_id"]]["outcome"] == vendor["quality"]["outcome"]


def test_overload_gets_429_with_retry_after_in_our_envelope(
    client: httpx.Client, config: Any, redeploy: Redeploy
) -> None:
    redeploy(with_user_config(config, "Ingress", max_inflight_choices=2, max_waiting_choices=0))
    with client.stream("POST", CHAT, json=chat("count slowly", stream=True)) as begun:
        # Its first text is here, so it has its place; it goes when the connection does, which the reader holds.
        lines = begun.iter_lines()
        next(lines)
        refused = client.post(CHAT, json=chat(n=2))
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "slow_down"
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    wait_until_idle()
    assert client.post(CHAT, json=chat(n=2)).status_code == 200


def test_what_never_fits_is_a_400(client: httpx.Client, config: Any, redeploy: Redeploy) -> None:
    redeploy(with_user_config(config, "Ingress", max_inflight_choices=2))
    refused = client.post(CHAT, json=chat(n=3))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")


def test_a_request_beyond_the_places_waits_for_one(client: httpx.Client, config: Any, redeploy: Redeploy) -> None:
    redeploy(with_user_config(config, "Ingress", max_inflight_choices=1, max_wait_s=30.0))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post(CHAT, json=chat("long story")), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4


def test_a_changed_user_config_applies_without_a_restart(client: httpx.Client, config: Any, redeploy: Redeploy) -> None:
    assert client.post(CHAT, json=chat("x" * 600)).status_code == 200
    replica_before = _replicas("Ingress")
    assert len(replica_before) == 1
    redeploy(with_user_config(config, "Ingress", max_body_bytes=500))
    assert client.post(CHAT, json=chat("x" * 600)).status_code == 413
    assert _replicas("Ingress") == replica_before


def _replicas(deployment: str) -> set[int]:
    return {p.pid for p in psutil.process_iter(["name"]) if f"ServeReplica:rheostat:{deployment}" in p.info["name"]}


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic x"}])
def test_without_a_key_only_health_and_readiness_answer(headers: dict[str, str], url: str) -> None:
    with httpx.Client(base_url=url, timeout=60, trust_env=False, headers=headers) as stranger:
        for path in ("/health", "/ready"):
            assert stranger.get(path).status_code == 200
        for method, path in (
            ("GET", "/v1/models"),
            ("GET", "/v1/controls"),
            ("GET", "/v1/quality"),
            ("GET", "/metrics"),
            ("POST", CHAT),
        ):
            refused = stranger.request(method, path, json=chat() if method == "POST" else None)
            assert refused.status_code == 401, path
            assert refused.json()["error"]["code"] == "invalid_api_key"
            assert refused.headers["www-authenticate"] == "Bearer"


def test_feedback_needs_the_answers_token_and_no_key_but_never_another_tenants(client: httpx.Client, url: str) -> None:
    token = client.post(CHAT, json=chat()).json()["rheostat"]["feedback_token"]
    event = {"feedback_token": token, "kind": "thumb", "value": True}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as browser:
        assert browser.post("/v1/feedback", json=event).status_code == 200
        refused = browser.post("/v1/feedback", json=event, headers=key_of("umbra"))
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_feedback_token"


def test_models_health_ready_and_metrics_answer(client: httpx.Client) -> None:
    model = client.get("/v1/models").json()["data"][0]
    assert model["id"] == model["root"] == "smollm2-135m-instruct"
    assert client.get(f"/v1/models/{model['id']}").json() == model
    assert client.get("/health").content == b""
    assert client.get("/ready").json() == {"status": "ready"}
    client.post(CHAT, json=chat())
    until = time.monotonic() + 30
    while "rheostat_requests_total{" not in (page := client.get("/metrics").text):
        assert time.monotonic() < until, page[:2000]
        time.sleep(0.2)  # exporters publish on their own clock
    assert 'outcome="pass"' in page


def test_findings_are_counted_by_check_and_action(client: httpx.Client) -> None:
    client.post(CHAT, json=chat(max_tokens=3))
    until = time.monotonic() + 30
    while not any(map(is_told_truncation, client.get("/metrics").text.splitlines())):
        assert time.monotonic() < until
        time.sleep(0.2)  # exporters publish on their own clock


def is_told_truncation(line: str) -> bool:
    return line.startswith("rheostat_findings_total{") and 'action="note"' in line and 'check="truncation"' in line


def test_curl_streams_an_answer(url: str) -> None:
    curl = shutil.which("curl")
    assert curl, "curl is part of every machine that this is meant for"
    done = subprocess.run(
        [
            curl,
            "-sSN",
            f"{url}{CHAT}",
            "-H",
            "content-type: application/json",
            "-d",
            json.dumps(chat(stream=True)),
            "-H",
            f"authorization: Bearer {KEYS['acme']}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("data: [DONE]\n\n")


def test_a_generator_killed_mid_stream_cuts_its_streams_uncleanly_and_is_replaced(
    client: httpx.Client, url: str
) -> None:
    raw = b""
    with (
        pytest.raises(httpx.RemoteProtocolError),
        client.stream("POST", CHAT, json=chat("count slowly", stream=True)) as response,
    ):
        for piece in response.iter_raw():
            if not raw:
                for pid in _replicas("Generator"):
                    os.kill(pid, signal.SIGKILL)
            raw += piece
    frames = raw.decode().strip().split("\n\n")
    assert json.loads(frames[-1][6:])["error"]["code"] == "not_ready"
    until = time.monotonic() + 60
    while (answer := client.post(CHAT, json=chat())).status_code != 200:
        assert answer.status_code == 503, answer.text
        assert answer.json()["error"]["type"] == "service_unavailable_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 5
        assert time.monotonic() < until, "the generator was not replaced"
        time.sleep(0.2)  # Serve restarts it on its own clock
