"""Feedback through the running graph: what is acknowledged is there, for its owner only, whatever is killed."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments.feedback.archive import read_archive_manifest
from deployments.feedback.deployment import open_writer
from graph.errors import ConfigurationError
from tests.cluster import chat, with_user_config
from tests.graph.conftest import key_of

CHAT = "/v1/chat/completions"
LONG_S = 60


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=LONG_S, trust_env=False, headers=key_of("acme")) as made:
        yield made


@pytest.fixture
def answer(client: httpx.Client) -> dict[str, Any]:
    """The ``rheostat`` object of an answer."""
    vendor: dict[str, Any] = client.post(CHAT, json=chat()).json()["rheostat"]
    return vendor


def thumb(answer: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"feedback_token": answer["feedback_token"], "kind": "thumb", "value": True, **fields}


def replicas_of(deployment: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if f":{deployment}" in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_a_batch_stores_what_is_good_and_tells_what_is_not(client: httpx.Client, answer: dict[str, Any]) -> None:
    events = [
        thumb(answer),
        thumb(answer, value="up"),
        {**thumb(answer), "kind": "comment", "value": None, "text": "ok"},
    ]
    results = client.post("/v1/feedback", json={"events": events}).json()["results"]
    assert [result["status"] for result in results] == [200, 400, 200]
    assert results[1]["error"]["param"] == "value"
    about = client.get(f"/v1/generations/{answer['generation_id']}").json()["feedback"]
    assert sorted(event["event_id"] for event in about) == sorted(results[i]["event_id"] for i in (0, 2))


def test_feedback_is_found_the_moment_it_is_acknowledged_by_its_own_tenant_only(
    client: httpx.Client, answer: dict[str, Any]
) -> None:
    event_id = client.post("/v1/feedback", json=thumb(answer)).json()["event_id"]
    assert client.get(f"/v1/feedback/{event_id}").json()["state"] == "active"
    assert client.get(f"/v1/feedback/{event_id}", headers=key_of("umbra")).status_code == 404
    assert client.get(f"/v1/generations/{answer['generation_id']}", headers=key_of("umbra")).status_code == 404


def test_what_was_deleted_is_gone_at_once(client: httpx.Client, answer: dict[str, Any]) -> None:
    event_id = client.post("/v1/feedback", json=thumb(answer)).json()["event_id"]
    assert client.delete(f"/v1/generations/{answer['generation_id']}", headers=key_of("umbra")).status_code == 404
    deleted = client.delete(f"/v1/generations/{answer['generation_id']}").json()
    assert deleted["deleted"] is True
    for path in (f"/v1/generations/{answer['generation_id']}", f"/v1/feedback/{event_id}"):
        assert client.get(path).status_code == 404


def test_the_report_is_for_admins(client: httpx.Client, answer: dict[str, Any]) -> None:
    client.post("/v1/feedback", json=thumb(answer)).raise_for_status()
    report = client.get("/v1/analysis?since=all")
    assert report.status_code == 200, report.text
    assert client.get("/v1/analysis", headers=key_of("umbra")).status_code == 403


async def test_killing_the_log_in_the_middle_of_feedback_loses_nothing_and_counts_nothing_twice(
    url: str, answer: dict[str, Any]
) -> None:
    ids = [str(uuid.uuid4()) for _ in range(120)]
    async with httpx.AsyncClient(base_url=url, timeout=LONG_S, trust_env=False) as browser:

        async def send(event_id: str) -> None:
            comment = {"kind": "comment", "text": "again", "event_id": event_id}
            body = {"feedback_token": answer["feedback_token"], **comment}
            while (await browser.post("/v1/feedback", json=body)).status_code != 200:
                await asyncio.sleep(0.1)  # as a client does that got a 503

        sending = [asyncio.create_task(send(event_id)) for event_id in ids[:60]]
        await sending[0]
        killed = replicas_of("FeedbackLog")
        for process in killed:
            process.kill()
        sending += [asyncio.create_task(send(event_id)) for event_id in ids[60:]]
        async with asyncio.timeout(LONG_S):
            await asyncio.gather(*sending)
        found = await browser.get(f"/v1/generations/{answer['generation_id']}", headers=key_of("acme"))
    assert killed
    assert sorted(event["event_id"] for event in found.json()["feedback"]) == sorted(ids)


def test_sealed_segments_become_parquet_and_are_still_found(
    client: httpx.Client,
    answer: dict[str, Any],
    config: dict[str, Any],
    data_dir: Path,
    redeploy: Callable[[dict[str, Any]], None],
) -> None:
    event_id = client.post("/v1/feedback", json=thumb(answer)).json()["event_id"]
    redeploy(with_user_config(config, "FeedbackLog", compact_every_s=0.5, segment_max_age_s=0.1))
    until = time.monotonic() + LONG_S
    while not any(
        file.min_event_id <= event_id <= file.max_event_id for file in read_archive_manifest(data_dir / "log").files
    ):
        assert time.monotonic() < until, "nothing was compacted"
        time.sleep(0.1)  # another process does it
    assert client.get(f"/v1/feedback/{event_id}").json()["event_id"] == event_id
    again = client.post("/v1/feedback", json=thumb(answer, event_id=event_id)).json()
    assert again["duplicate"] is True


def test_the_log_tells_of_itself_in_metrics(client: httpx.Client, answer: dict[str, Any]) -> None:
    client.post("/v1/feedback", json=thumb(answer)).raise_for_status()
    wanted = {
        "rheostat_feedback_rows_total{",
        "rheostat_feedback_ack_seconds_bucket{",
        "rheostat_feedback_fsync_seconds_bucket{",
        "rheostat_feedback_queue_rows{",
        "rheostat_feedback_segment_lag_seconds{",
        "rheostat_feedback_collection_ratio{",
    }
    seen: set[str] = set()
    until = time.monotonic() + LONG_S
    while missing := wanted - seen:
        assert time.monotonic() < until, missing
        page = client.get("/metrics").text
        seen |= {name for name in missing if name in page}
        time.sleep(0.5)  # Ray publishes on its own clock


async def test_a_data_folder_that_cannot_be_written_is_named_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"data_dir.*write"):
        open_writer(tmp_path / "file" / "log", asyncio.get_running_loop(), lambda commit: None)
