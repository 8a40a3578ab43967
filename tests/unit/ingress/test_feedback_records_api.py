"""GET and DELETE of feedback and answers, and who may read the analysis."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import running

from deployments.feedback.directory import read_log
from deployments.feedback.lineage import record_lineage
from deployments.feedback.markers import undelivered_row
from deployments.feedback.schema import to_row
from deployments.ingress.auth import KeyRing
from deployments.ingress.feedback_routes import parse_since
from deployments.ingress.feedback_view import MAX_SHOWN, fates_of, generation_json, replacements_of
from graph.errors import InvalidRequest, Unavailable
from tests.cluster import chat

KEYS = KeyRing(
    {hashlib.sha256(f"rk-{tenant}".encode()).hexdigest(): tenant for tenant in ("acme", "umbra")},
    admin_tenants=["acme"],
)
ACME = {"authorization": "Bearer rk-acme"}
UMBRA = {"authorization": "Bearer rk-umbra"}


async def said(client: httpx.AsyncClient, generation_id: str, **fields: Any) -> str:
    """Sends feedback as acme; returns its event_id."""
    body = {"kind": "thumb", "value": True, "generation_id": generation_id, **fields}
    body = {name: value for name, value in body.items() if value is not None}
    response = await client.post("/v1/feedback", json=body, headers=ACME)
    assert response.status_code == 200, response.text
    return str(response.json()["event_id"])


async def test_feedback_is_shown_as_it_was_sent(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme", adapter="v7")
        event_id = await said(
            client,
            mine,
            kind="rating",
            value=4,
            text="fine",
            tags={"page": "a"},
            timestamp="2026-01-01T00:00:00Z",
            rater="me",
        )
        shown = (await client.get(f"/v1/feedback/{event_id.upper()}", headers=ACME)).json()
    assert shown.pop("received_at").endswith("Z")
    assert len(shown.pop("rater_hash")) == 32
    assert shown == {
        "event_id": event_id,
        "generation_id": mine,
        "other_generation_id": None,
        "kind": "rating",
        "name": "rating",
        "value": 4.0,
        "text": "fine",
        "tags": {"page": "a"},
        "supersedes": None,
        "source_type": "human",
        "model": "smollm2-135m-instruct",
        "adapter": "v7",
        "arm": None,
        "sent_at": "2026-01-01T00:00:00.000000Z",
        "state": "active",
        "superseded_by": None,
    }


async def test_feedback_tells_what_became_of_it(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        first = await said(client, mine)

        async def state_of(event_id: str) -> tuple[str, str | None]:
            shown = (await client.get(f"/v1/feedback/{event_id}", headers=ACME)).json()
            return shown["state"], shown["superseded_by"]

        assert await state_of(first) == ("active", None)
        second = await said(client, mine, kind="supersede", supersedes=first, value=False)
        assert await state_of(first) == ("superseded", second)
        third = await said(client, mine, kind="supersede", supersedes=second, value=True)
        assert await state_of(first) == ("superseded", third)
        assert await state_of(second) == ("superseded", third)
        undone = await said(client, mine, kind="retract", supersedes=third, value=None)
        assert await state_of(first) == ("superseded", second)
        assert await state_of(third) == ("retracted", None)
        assert await state_of(undone) == ("active", None)
        await said(client, mine, kind="retract", supersedes=first, value=None)
        assert (await state_of(first))[0] == "retracted"


async def test_an_answer_is_shown_with_what_was_said_about_it(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        asked = chat(controls={"lp": {"depth": 70}, "ls": {"format": "steps", "language": "de"}})
        answer = (await client.post("/v1/chat/completions", json=asked, headers=ACME)).json()
        mine = answer["rheostat"]["generation_id"]
        event_id = await said(client, mine)
        second = await service.answered("acme")
        compared = await said(client, second, kind="preference", value="other", other_generation_id=mine)
        shown = (await client.get(f"/v1/generations/{answer['id']}", headers=ACME)).json()
    assert (shown["id"], shown["answer"]) == (mine, answer["choices"][0]["message"]["content"])
    assert shown["prompt"] == [{"role": "user", "content": "Why is the sky blue?"}]
    assert shown["quality"] == answer["rheostat"]["quality"]
    assert (shown["outcome"], shown["delivered"]) == (shown["quality"]["outcome"], True)
    assert (shown["answer_format"], shown["language"], shown["settings"]["depth"]) == ("steps", "de", 70)
    assert shown["controls"]["lp"]["depth"]["value"] == 70
    assert shown["versions"]["engine"].startswith("simulated")
    assert {event["event_id"] for event in shown["feedback"]} == {event_id, compared}
    assert shown["created_at"].endswith("Z")


async def test_an_answer_that_never_arrived_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        await service.append_many([undelivered_row(mine, "acme", 1)])
        shown = (await client.get(f"/v1/generations/{mine}", headers=ACME)).json()
    assert (shown["delivered"], shown["feedback"]) == (False, [])


async def test_only_a_mark_of_its_own_tenant_says_that_an_answer_never_arrived(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine, second = await service.answered("acme"), await service.answered("acme")
        kind = {"kind": "comment", "text": "x", "name": "comment"}
        await service.append_many(
            [undelivered_row(mine, "umbra", 1), to_row({**undelivered_row(second, "acme", 1), **kind})]
        )
        shown = [(await client.get(f"/v1/generations/{each}", headers=ACME)).json() for each in (mine, second)]
    assert [each["delivered"] for each in shown] == [True, True]


def about_row(number: int, kind: str = "comment", supersedes: int | None = None, **columns: Any) -> dict[str, Any]:
    named = {"supersedes": None if supersedes is None else f"e{supersedes}"}
    fixed = {"event_id": f"e{number}", "kind": kind, "name": "comment", "text": "x", "ts_server_us": number}
    return to_row({**fixed, "generation_id": "g", "tenant": "acme", **named, **columns})


class CountedRow(dict[str, Any]):
    """A row that counts how often it is read."""

    reads = 0

    def __getitem__(self, name: str) -> Any:
        CountedRow.reads += 1
        return super().__getitem__(name)


@pytest.mark.parametrize("shape", ["flat", "star", "chain"])
def test_reading_the_fates_of_feedback_costs_as_much_as_there_is_of_it(shape: str) -> None:
    count = 400
    named = {"flat": lambda _: None, "star": lambda _: 0, "chain": lambda number: number - 1}[shape]
    about = [CountedRow(about_row(0))]
    for number in range(1, count):
        target = named(number)
        about.append(CountedRow(about_row(number, "comment" if target is None else "supersede", target)))
    row = about_row(0)
    CountedRow.reads = 0
    shown = generation_json({**row, "kind": "generation"}, about, is_delivered=True)
    replacements_of(row, about)
    assert CountedRow.reads < 100 * count
    latest = None if shape == "flat" else f"e{count - 1}"
    assert shown["feedback"][0]["superseded_by"] == latest


def test_a_record_shows_the_newest_feedback_and_how_much_there_is() -> None:
    about = [about_row(number) for number in range(MAX_SHOWN + 2)]
    shown = generation_json(about_row(0), about, is_delivered=True)
    assert shown["feedback_total"] == MAX_SHOWN + 2
    assert [event["event_id"] for event in shown["feedback"]] == [f"e{n}" for n in range(2, MAX_SHOWN + 2)]


def test_a_circle_of_supersedes_ends() -> None:
    about = [about_row(1, "supersede", 2), about_row(2, "supersede", 1)]
    assert fates_of(about).replaced_by == {("g", "e1"): "e2", ("g", "e2"): "e1"}
    assert replacements_of(about[0], about)


def test_what_speaks_of_one_answer_does_nothing_to_feedback_on_another() -> None:
    about = [about_row(1, generation_id="h", other_generation_id="g"), about_row(2, "retract", 1)]
    shown = generation_json(about_row(0), about, is_delivered=True)
    assert [event["state"] for event in shown["feedback"]] == ["active", "active"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_what_is_another_tenants_is_not_there(method: str, tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        event_id = await said(client, mine)
        for path, code in (
            (f"/v1/feedback/{event_id}", "event_not_found"),
            (f"/v1/generations/{mine}", "generation_not_found"),
        ):
            response = await client.request(method, path, headers=UMBRA)
            assert (response.status_code, response.json()["error"]["code"]) == (404, code)
            assert (await client.request(method, path)).status_code == 401
        # Each kind of id is good for its own route only.
        assert (await client.request(method, f"/v1/feedback/{mine}", headers=ACME)).status_code == 404
        assert (await client.request(method, f"/v1/generations/{event_id}", headers=ACME)).status_code == 404
        assert (await client.get(f"/v1/feedback/{event_id}", headers=ACME)).status_code == 200


async def test_erased_feedback_is_gone_at_once_and_erasing_it_again_says_the_same(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine = await service.answered("acme")
        event_id, other = await said(client, mine), await said(client, mine)
        record_lineage(tmp_path, "adapter-7", "dataset", [event_id])
        record_lineage(tmp_path, "adapter-8", "dataset", [other])
        erased = [await client.delete(f"/v1/feedback/{event_id}", headers=ACME) for _ in range(2)]
        foreign = await client.delete(f"/v1/feedback/{event_id}", headers=UMBRA)
        gone = await client.get(f"/v1/feedback/{event_id}", headers=ACME)
        shown = (await client.get(f"/v1/generations/{mine}", headers=ACME)).json()
    for response in erased:
        assert response.status_code == 200
        assert response.json() == {
            "deleted": True,
            "id": event_id,
            "erased": "on the next compaction",
            "adapters": ["adapter-7"],
        }
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "event_not_found")
    assert foreign.status_code == 404
    assert [event["event_id"] for event in shown["feedback"]] == [other]
    tombstones = [row for row in read_log(tmp_path) if row["kind"] == "tombstone"]
    assert [(row["name"], row["supersedes"], row["tenant"]) for row in tombstones] == [("event", event_id, "acme")]


async def test_an_erased_answer_takes_everything_about_it_along(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, service):
        mine, other = await service.answered("acme"), await service.answered("acme")
        event_id, kept = await said(client, mine), await said(client, other)
        record_lineage(tmp_path, "adapter-7", "dataset", [event_id])
        record_lineage(tmp_path, "adapter-8", "dataset", [mine])
        record_lineage(tmp_path, "adapter-9", "dataset", [other])
        first = await client.delete(f"/v1/generations/chatcmpl-{mine}", headers=ACME)
        again = await client.delete(f"/v1/generations/{mine}", headers=ACME)
        statuses = [
            (await client.get(path, headers=ACME)).status_code
            for path in (f"/v1/generations/{mine}", f"/v1/feedback/{event_id}", f"/v1/feedback/{kept}")
        ]
        late = await client.post(
            "/v1/feedback", json={"kind": "thumb", "value": True, "generation_id": mine}, headers=ACME
        )
    assert first.json() == {
        "deleted": True,
        "id": mine,
        "erased": "on the next compaction",
        "adapters": ["adapter-7", "adapter-8"],
    }
    assert (again.status_code, again.json()) == (200, first.json())
    assert statuses == [404, 404, 200]
    assert late.status_code == 404


async def test_an_erasure_that_the_log_did_not_take_is_an_error(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        mine = await service.answered()
        service.refusing = [Unavailable("full")]
        refused = await client.delete(f"/v1/generations/{mine}")
        assert (await client.get(f"/v1/generations/{mine}")).status_code == 200
    assert refused.status_code == 503


async def test_the_analysis_is_for_admins(tmp_path: Path) -> None:
    async with running(tmp_path, keys=KEYS) as (client, _):
        admin = await client.get("/v1/analysis?since=12h", headers=ACME)
        other = await client.get("/v1/analysis?since=12h", headers=UMBRA)
        nobody = await client.get("/v1/analysis?since=12h")
    assert admin.json() == {"since_s": 43_200.0}
    assert (other.status_code, other.json()["error"]["code"]) == (403, "permission_denied")
    assert nobody.status_code == 401


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.1.2.3", 403), ("nonsense", 403)])
async def test_without_keys_the_analysis_is_for_who_is_on_this_machine(host: str, status: int, tmp_path: Path) -> None:
    async with running(tmp_path, client_host=host) as (client, _):
        assert (await client.get("/v1/analysis")).status_code == status


def test_a_period_is_days_hours_minutes_or_all() -> None:
    assert [parse_since(text) for text in ("7d", "12h", "30m", "all")] == [604_800.0, 43_200.0, 1800.0, None]
    for text in ("banana", "", "0d", "-1d", "7", "7 d", "1.5d", "7D", "1234567d", "７d", "7d\n", "ALL"):
        with pytest.raises(InvalidRequest, match="7d"):
            parse_since(text)
