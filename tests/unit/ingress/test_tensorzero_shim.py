"""Clients of TensorZero's POST /feedback point here unchanged."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from harness import CONTRACTS, running

from deployments.feedback.contracts import MetricContract
from deployments.feedback.directory import read_log
from deployments.ingress.auth import KeyRing
from deployments.ingress.tensorzero import translate

KEYS = KeyRing({hashlib.sha256(b"rk-acme").hexdigest(): "acme"})
ACME = {"authorization": "Bearer rk-acme"}
OURS = {**CONTRACTS, "resolved": MetricContract("resolved", "thumb", better="higher")}


def body(**fields: Any) -> dict[str, Any]:
    return {"inference_id": "g", "metric_name": "thumb", "value": True, **fields}


@pytest.mark.parametrize(
    ("said", "event"),
    [
        (body(), {"kind": "thumb", "name": "thumb", "value": True}),
        (body(metric_name="resolved", value=False), {"kind": "thumb", "name": "resolved", "value": False}),
        (body(metric_name="rating", value=4.5), {"kind": "rating", "name": "rating", "value": 4.5}),
        (body(metric_name="reason", value="wrong"), {"kind": "label", "name": "reason", "value": "wrong"}),
        (body(metric_name="dwell", value=3), {"kind": "implicit", "name": "dwell", "value": 3}),
        (body(metric_name="copied", value=True), {"kind": "implicit", "name": "copied", "value": None}),
        (body(metric_name="comment", value="good"), {"kind": "comment", "text": "good"}),
        (body(metric_name="demonstration", value="So."), {"kind": "correction", "text": "So."}),
        (
            body(
                metric_name="demonstration", value=[{"type": "text", "text": "So."}, {"type": "text", "text": " Yes."}]
            ),
            {"kind": "correction", "text": "So. Yes."},
        ),
        (body(metric_name="demonstration", value={"a": "ü"}), {"kind": "correction", "text": '{"a":"ü"}'}),
    ],
)
def test_a_metric_becomes_the_event_that_its_contract_asks_for(said: dict[str, Any], event: dict[str, Any]) -> None:
    assert translate(said, OURS) == ({"generation_id": "g", "tags": None, **event}, False)


def test_the_fields_that_its_own_clients_always_send_are_no_fault() -> None:
    event, is_dry_run = translate(body(episode_id=None, tags={"user": "7"}, dryrun=True, internal=False), OURS)
    assert (event["tags"], is_dry_run) == ({"user": "7"}, True)


async def test_an_answer_means_that_it_is_on_disk(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        response = await client.post("/feedback", json=body(inference_id=mine, tags={"user": "7"}), headers=ACME)
        strangers = [await client.post("/feedback", json=said) for said in (body(inference_id=mine), {})]
    assert response.status_code == 200
    assert list(response.json()) == ["feedback_id"]
    row = next(row for row in read_log(tmp_path) if row["event_id"] == response.json()["feedback_id"])
    assert (row["kind"], row["value_bool"], row["generation_id"], row["tags"]) == ("thumb", True, mine, '{"user":"7"}')
    assert [stranger.status_code for stranger in strangers] == [401, 401]


async def test_a_dry_run_checks_everything_and_stores_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        good = await client.post("/feedback", json=body(inference_id=mine, dryrun=True), headers=ACME)
        bad = await client.post("/feedback", json=body(inference_id=mine, dryrun=True, value=1), headers=ACME)
    assert (good.status_code, list(good.json())) == (200, ["feedback_id"])
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "value")
    assert [row["kind"] for row in read_log(tmp_path)] == ["generation"]


async def test_a_fault_is_told_in_its_clients_words(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        mine = await service.answered()
        long = body(inference_id=mine, metric_name="comment", value="x" * 16_385)
        refused = (await client.post("/feedback", json=long)).json()["error"]
        tags = (await client.post("/feedback", json=body(inference_id=mine, tags={"a": 1}))).json()["error"]
        both = (await client.post("/feedback", json=body(episode_id="e"))).json()["error"]
    assert (refused["code"], refused["param"]) == ("request_too_large", "value")
    assert refused["message"].startswith("'value' is 16385 bytes")
    assert tags["param"] == "tags.a"
    assert both["param"] == "episode_id"
