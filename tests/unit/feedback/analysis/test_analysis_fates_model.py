"""The rules in SQL against the same rules written a second time, in plain Python, over logs made by chance."""

import random

import pytest
from analysis_support import LogBuilder

from deployments.feedback.erasure import Erasures
from deployments.feedback.schema import FEEDBACK_KINDS, to_batch
from deployments.ingress.feedback_view import event_json

KINDS = ("thumb", "rating", "label", "comment", "correction", "preference", "implicit")
VALUES = {
    "thumb": "value_bool",
    "rating": "value_num",
    "implicit": "value_num",
    "label": "value_str",
    "preference": "value_str",
}
ONE_A_RATER = ("thumb", "rating", "label", "preference", "correction")


def random_log(root, seed):
    rng = random.Random(seed)
    log = LogBuilder(root)
    tenants, answers, events = ("acme", "globex"), [], []
    for number in range(rng.randint(5, 120)):
        what = rng.random()
        tenant = rng.choice(tenants)
        at = {"tenant": tenant, "ts_server_us": rng.randint(1, 40)}
        if what < 0.25 or not answers:
            answers.append(log.answer(f"g{number:03d}", **at))
        elif what < 0.65 or not events:
            kind = rng.choice(KINDS)
            value = {
                "value_bool": rng.random() < 0.5 if kind == "thumb" else None,
                "value_num": float(rng.randint(1, 5)) if kind in ("rating", "implicit") else None,
                "value_str": rng.choice(["this", "other"]) if kind in ("label", "preference") else None,
            }
            about = rng.choice([*answers, "lost"])
            other = rng.choice(answers) if kind == "preference" else None
            text = rng.choice([None, f"text {number}"])
            rater = rng.choice(["ann", "bob", None])
            events.append(log.say(kind, about, other_generation_id=other, text=text, source_id=rater, **value, **at))
        elif what < 0.9:
            # Also of what is yet to come, so that there are circles.
            target = rng.choice([*events, f"event-{number + rng.randint(0, 3):04d}"])
            if rng.random() < 0.35:
                events.append(log.retract(target, **at))
            else:
                new = rng.choice(
                    [{"value_bool": False}, {"value_num": 3.5}, {"value_str": "other"}, {"text": f"new {number}"}]
                )
                events.append(log.supersede(target, **new, **at))
        elif what < 0.95:
            log.say("undelivered", rng.choice(answers), source_type=None, **at)
        elif rng.random() < 0.5:
            log.erase(rng.choice(events), **at)
        else:
            log.erase(rng.choice(answers), name="generation", **at)
    return log


def visible_rows(rows):
    erasures = Erasures()
    erasures.add(to_batch(rows))
    return [row for row in rows if not erasures.covers(row)]


def home(row):
    return row["tenant"], row["generation_id"]


def model_of(rows):
    """fate, value, text and whether the answer is there, by event_id."""
    said = {row["event_id"]: row for row in rows if row["kind"] in FEEDBACK_KINDS}
    answers = {(row["event_id"], row["tenant"]) for row in rows if row["kind"] == "generation"}
    retracted = {(row["supersedes"], *home(row)) for row in said.values() if row["kind"] == "retract"}

    def is_back(row):
        return row["kind"] != "retract" and (row["event_id"], *home(row)) in retracted

    def began(row):
        seen = set()
        while row is not None and row["kind"] == "supersede" and row["event_id"] not in seen:
            seen.add(row["event_id"])
            target = said.get(row["supersedes"])
            row = target if target is not None and home(target) == home(row) else None
        return row if row is not None and row["kind"] not in ("supersede", "retract") else None

    def age(row):
        return row["ts_server_us"], row["event_id"]

    value = {event_id: (row["value_bool"], row["value_num"], row["value_str"]) for event_id, row in said.items()}
    text = {event_id: row["text"] for event_id, row in said.items()}
    for row in sorted(said.values(), key=age):
        if row["kind"] == "supersede" and not is_back(row) and (root := began(row)) is not None:
            column = VALUES.get(root["kind"])
            if column and row[column] is not None:
                value[root["event_id"]] = (row["value_bool"], row["value_num"], row["value_str"])
            if row["text"] is not None:
                text[root["event_id"]] = row["text"]
    latest = {}
    for row in sorted(said.values(), key=age):
        if row["kind"] in ONE_A_RATER and not is_back(row):
            latest[tuple(row[name] for name in ("tenant", "generation_id", "name", "source_type", "source_id"))] = row[
                "event_id"
            ]
    fates = {}
    for event_id, row in said.items():
        fate = "effective"
        if is_back(row):
            fate = "retracted"
        elif row["kind"] in ("retract", "supersede"):
            fate = row["kind"]
        elif row["kind"] in ONE_A_RATER and event_id not in latest.values():
            fate = "replaced"
        fates[event_id] = (fate, value[event_id], text[event_id], (row["generation_id"], row["tenant"]) in answers)
    return fates


@pytest.mark.parametrize("seed", range(40))
def test_the_views_say_what_the_model_says(tmp_path, seed):
    log = random_log(tmp_path / "log", seed)
    expected = model_of(visible_rows(log.rows))
    with log.open() as con:
        found = con.execute(
            "SELECT f.event_id, fate, (value_bool, value_num, value_str), text, g.generation_id IS NOT NULL "
            "FROM feedback f LEFT JOIN generations g ON g.generation_id = f.generation_id AND g.tenant = f.tenant"
        ).fetchall()
        used = {row[0] for row in con.execute("SELECT event_id FROM joined").fetchall()}
        orphans = {row[0] for row in con.execute("SELECT event_id FROM orphans").fetchall()}
        answer_rows = con.execute("SELECT event_id, answer_row IS NOT NULL FROM internal.feedback").fetchall()
    assert {row[0]: tuple(row[1:]) for row in found} == expected
    assert used == {event_id for event_id, (fate, *_, known) in expected.items() if fate == "effective" and known}
    assert orphans == {
        event_id for event_id, (fate, *_, known) in expected.items() if fate == "effective" and not known
    }
    assert dict(answer_rows) == {event_id: known for event_id, (*_, known) in expected.items()}


@pytest.mark.parametrize("seed", range(10))
def test_the_api_tells_the_same_of_each_event(tmp_path, seed):
    log = random_log(tmp_path / "log", 1000 + seed)
    rows = visible_rows(log.rows)
    with log.open() as con:
        told = con.execute("SELECT event_id, fate FROM feedback").fetchall()
    for event_id, fate in told:
        row = next(row for row in rows if row["event_id"] == event_id)
        same_tenant = [each for each in rows if each["tenant"] == row["tenant"] and each["kind"] in FEEDBACK_KINDS]
        if row["kind"] != "retract":
            assert (event_json(row, same_tenant)["state"] == "retracted") == (fate == "retracted")
