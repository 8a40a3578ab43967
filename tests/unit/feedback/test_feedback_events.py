import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deployments.feedback.contracts import BUILT_IN, MetricContract
from deployments.feedback.events import (
    FeedbackEvent,
    Kind,
    check_target,
    generation_row,
    new_event_id,
    parse_event,
    to_event_row,
)
from deployments.feedback.fields import to_iso
from deployments.feedback.markers import derive_id
from deployments.feedback.schema import FEEDBACK_KINDS, is_intact
from deployments.feedback.tokens import AnswerFacts, TokenClaims
from graph.errors import InvalidRequest, RequestTooLarge

UUID_A = "01890a5d-ac96-774b-bcce-b302099a8057"
UUID_B = "01890a5d-ac96-774b-bcce-b302099a8058"
ANSWER = AnswerFacts("gen-1", "acme", "model", "adapter", "arm", "abc")
CLAIMS = TokenClaims("gen-1", "acme", "model", "adapter", "arm", "abc", expires_at=1000)


def make_body(kind="thumb", **changes):
    needed = {
        "thumb": {"value": True},
        "rating": {"value": 4},
        "label": {"value": "helpful"},
        "comment": {"text": "good"},
        "correction": {"text": "better"},
        "preference": {"value": "this", "other_generation_id": "gen-2"},
        "implicit": {"name": "copied"},
        "retract": {"supersedes": UUID_B},
        "supersede": {"supersedes": UUID_B, "value": False},
    }
    return {"kind": kind, "generation_id": "gen-1"} | needed[kind] | changes


def row_of(body, about=ANSWER, **options):
    event = parse_event(body)
    return to_event_row(event, about, now_us=7, event_id=event.event_id or UUID_A, **options)


def test_the_kinds_of_the_body_are_those_of_the_table():
    assert typing.get_args(Kind) == FEEDBACK_KINDS


@pytest.mark.parametrize("kind", FEEDBACK_KINDS)
def test_every_kind_becomes_a_whole_row(kind):
    row = row_of(make_body(kind, tags={"page": "home"}))
    assert is_intact(row)
    assert (row["kind"], row["generation_id"], row["event_id"]) == (kind, "gen-1", UUID_A)
    assert row["tags"] == '{"page":"home"}'
    assert row["name"] == ("copied" if kind == "implicit" else kind)


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        (make_body("thumb", value=False, text="wrong"), {"value_bool": False, "text": "wrong"}),
        (make_body("rating", value=5), {"value_num": 5.0, "value_bool": None}),
        (make_body("label", value="off-topic"), {"value_str": "off-topic"}),
        (make_body("preference", value="other"), {"value_str": "other", "other_generation_id": "gen-2"}),
        (make_body("implicit", name="dwell", value=2.5), {"value_num": 2.5, "source_type": "implicit"}),
        (
            make_body("implicit", name="regenerated", other_generation_id="gen-2"),
            {"other_generation_id": "gen-2", "value_num": None},
        ),
        (make_body("retract"), {"supersedes": UUID_B, "source_type": "human"}),
        (make_body("supersede", value=None, text="new"), {"supersedes": UUID_B, "text": "new"}),
    ],
)
def test_values_go_to_the_column_of_their_type(body, columns):
    row = row_of(body)
    assert {name: row[name] for name in columns} == columns


def test_what_the_token_says_goes_into_the_row_and_the_client_cannot_say_it():
    body = make_body()
    del body["generation_id"]
    row = row_of(body | {"feedback_token": "t"}, CLAIMS)
    expected = {
        "generation_id": "gen-1",
        "tenant": "acme",
        "model": "model",
        "adapter": "adapter",
        "arm": "arm",
        "controls_hash": "abc",
    }
    assert {name: row[name] for name in expected} == expected
    for name in ("tenant", "model", "adapter", "arm", "controls_hash", "source_type", "ts_server_us"):
        with pytest.raises(InvalidRequest) as refused:
            parse_event(make_body(**{name: "x"}))
        assert refused.value.param == name


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ({}, "kind"),
        (make_body(kind="thumb") | {"kind": "generation"}, "kind"),
        (make_body(kind="thumb") | {"kind": "validator"}, "kind"),
        (make_body(generation_id=None), "feedback_token"),
        (make_body(feedback_token="t"), "generation_id"),
        (make_body(generation_id="a/../b"), "generation_id"),
        (make_body(value=1), "value"),
        (make_body(value=None), "value"),
        (make_body(value=[True]), "value"),
        (make_body("rating", value=True), "value"),
        (make_body("rating", value="4"), "value"),
        (make_body("rating", value=0.99), "value"),
        (make_body("rating", value=float("nan")), "value"),
        (make_body("rating", value=10**400), "value"),
        (make_body("label", value="x" * 65), "value"),
        (make_body("label", value="  "), "value"),
        (make_body("label", value="\ud800"), "value"),
        (make_body("comment", text=None), "text"),
        (make_body("comment", text=" \n"), "text"),
        (make_body("comment", text="\udfff"), "text"),
        (make_body("comment", value=1), "value"),
        (make_body("preference", other_generation_id=None), "other_generation_id"),
        (make_body("preference", other_generation_id="gen-1"), "other_generation_id"),
        (make_body("preference", value="both"), "value"),
        (make_body("thumb", other_generation_id="gen-2"), "other_generation_id"),
        (make_body("implicit", name=None), "name"),
        (make_body("implicit", name="stared"), "name"),
        (make_body("implicit", name="dwell"), "value"),
        (make_body("implicit", name="dwell", value=-1), "value"),
        (make_body("implicit", value=1), "value"),
        (make_body("implicit", text="x"), "text"),
        (make_body("retract", supersedes=None), "supersedes"),
        (make_body("retract", event_id=UUID_B), "supersedes"),
        (make_body("retract", value=True), "value"),
        (make_body("supersede", value=None), "value"),
        (make_body("supersede", value=1e13), "value"),
        (make_body("thumb", supersedes=UUID_B), "supersedes"),
        (make_body(event_id="1"), "event_id"),
        (make_body(event_id="{" + UUID_A + "}"), "event_id"),
        (make_body(event_id=derive_id("langfuse", "acme", "score-1").upper()), "event_id"),
        (make_body(tags={"a": 1}), "tags.a"),
        (make_body(tags={"a": "x" * 513}), "tags.a"),
        (make_body(tags={"k" * 65: "x"}), "tags." + "k" * 65),
        (make_body(tags={str(n): "" for n in range(17)}), "tags"),
        (make_body(tags=[["page", "home"]]), "tags"),
        (make_body(name="two words"), "name"),
        (make_body(name="clap"), "name"),
        (make_body(name="rating"), "name"),
        (make_body("comment", name="thumb"), "name"),
        (make_body("label", name="copied"), "name"),
        (make_body("preference", other_generation_id="chatcmpl-gen-1"), "other_generation_id"),
        (make_body(rater=""), "rater"),
        (make_body(rater="x" * 129), "rater"),
        (make_body(rater="\ud800"), "rater"),
        (make_body(rater=7), "rater"),
        (make_body(timestamp="2026-03-01T12:30:00"), "timestamp"),
        (make_body(timestamp="2026-03-01"), "timestamp"),
        (make_body(timestamp="now"), "timestamp"),
        (make_body(timestamp="1969-12-31T23:59:59Z"), "timestamp"),
        (make_body(timestamp="0001-01-01T00:00:00+14:00"), "timestamp"),
        (make_body(timestamp="9999-12-31T23:59:59-14:00"), "timestamp"),
        (make_body(timestamp=1_772_000_000), "timestamp"),
    ],
)
def test_what_is_not_allowed_is_refused_by_the_name_of_its_field(body, param):
    with pytest.raises(InvalidRequest) as refused:
        parse_event(body)
    assert refused.value.param == param
    assert refused.value.http_status == 400
    if isinstance(body, dict) and param is not None:
        # The model alone refuses the same, naming the same field: nobody can go round the rules.
        with pytest.raises(ValidationError) as direct:
            FeedbackEvent.model_validate(body)
        assert direct.value.errors()[0]["loc"][0] == param.split(".")[0]


def test_limits_are_inclusive():
    parse_event(make_body("comment", text="é" * 8192))
    parse_event(make_body("correction", text="é" * 32_768))
    parse_event(make_body("label", value="x" * 64))
    parse_event(make_body(tags={f"{n:064d}": "x" * 512 for n in range(16)}))
    parse_event(make_body("rating", value=1))
    parse_event(make_body(rater="x" * 128))


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (make_body("comment", text="é" * 8193), 16_384),
        (make_body(text="x" * 16_385), 16_384),
        (make_body("correction", text="é" * 32_769), 65_536),
        (make_body("supersede", text="x" * 65_537), 65_536),
    ],
)
def test_a_text_over_the_limit_of_its_kind_is_too_large_by_its_size_and_the_limit(body, limit):
    with pytest.raises(RequestTooLarge, match=f"at most {limit}") as refused:
        parse_event(body)
    assert (refused.value.http_status, refused.value.param) == (413, "text")


def test_a_metric_is_held_to_its_own_contract():
    contracts = {**BUILT_IN, "score": MetricContract("score", "rating", 0.0, 1.0, (), "higher")}
    assert parse_event(make_body("rating", name="score", value=0.5), contracts).value == 0.5
    with pytest.raises(InvalidRequest, match="from 0 to 1"):
        parse_event(make_body("rating", name="score", value=4), contracts)
    assert parse_event(make_body("rating", value=4), contracts).value == 4
    with pytest.raises(InvalidRequest, match="known rating metrics: rating, score"):
        parse_event(make_body("rating", name="stars"), contracts)


def test_an_answer_may_be_named_by_the_id_of_its_completion():
    event = parse_event(make_body("preference", generation_id="chatcmpl-gen-1", other_generation_id="chatcmpl-gen-2"))
    assert (event.generation_id, event.other_generation_id) == ("gen-1", "gen-2")


@pytest.mark.parametrize(
    "text", ["2026-03-01T12:30:00+01:00", "2026-03-01T11:30:00Z", "2026-03-01T11:30:00.000000+00:00"]
)
def test_a_senders_time_becomes_microseconds_and_is_no_part_of_the_content(text):
    said = row_of(make_body(timestamp=text))
    assert said["ts_client_us"] == 1_772_364_600_000_000
    assert to_iso(said["ts_client_us"]) == "2026-03-01T11:30:00.000000Z"
    assert said["content_hash"] == row_of(make_body())["content_hash"]


def test_a_clock_may_be_five_minutes_ahead_and_behind_by_any_time():
    sent_us = 1_772_364_600_000_000
    body = make_body(timestamp="2026-03-01T11:30:00Z")
    for now_us in (sent_us - 300_000_000, sent_us, sent_us * 2):
        parse_event(body, now_us=now_us)
    with pytest.raises(InvalidRequest) as refused:
        parse_event(body, now_us=sent_us - 300_000_001)
    assert refused.value.param == "timestamp"
    for moment in ("2026-03-01T11:30:00.000000Z", "2026-03-01T11:24:59.999999Z"):
        assert moment in refused.value.message
    with pytest.raises(InvalidRequest, match="9999"):
        parse_event(make_body(timestamp="9999-12-31T23:59:59Z"), now_us=sent_us)


TARGETS = {
    "thumb": row_of(make_body()),
    "rating": row_of(make_body("rating")),
    "comment": row_of(make_body("comment")),
    "correction": row_of(make_body("correction")),
    "preference": row_of(make_body("preference")),
    "supersede": row_of(make_body("supersede"), replaces="rating"),
    "retract": row_of(make_body("retract")),
}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("thumb", {"value": False}),
        ("thumb", {"value": None, "text": "why"}),
        ("rating", {"value": 1}),
        ("supersede", {"value": 5}),
        ("comment", {"value": None, "text": "x"}),
        ("correction", {"value": None, "text": "x" * 65_536}),
        ("preference", {"value": "other"}),
    ],
)
def test_a_supersede_may_say_what_the_event_that_it_replaces_might_have_said(target, said):
    check_target(parse_event(make_body("supersede", **said)), TARGETS[target], BUILT_IN)


@pytest.mark.parametrize(
    ("target", "said", "error", "param"),
    [
        ("thumb", {"value": 1}, InvalidRequest, "value"),
        ("rating", {"value": 6}, InvalidRequest, "value"),
        ("supersede", {"value": True}, InvalidRequest, "value"),
        ("comment", {"value": True}, InvalidRequest, "value"),
        ("preference", {"value": "both"}, InvalidRequest, "value"),
        ("retract", {"value": True}, InvalidRequest, "supersedes"),
        ("comment", {"value": None, "text": "x" * 16_385}, RequestTooLarge, "text"),
    ],
)
def test_a_supersede_is_held_to_the_contract_of_what_it_replaces(target, said, error, param):
    with pytest.raises(error) as refused:
        check_target(parse_event(make_body("supersede", **said)), TARGETS[target], BUILT_IN)
    assert refused.value.param == param


def test_a_retract_takes_back_anything_but_a_retract():
    event = parse_event(make_body("retract"))
    for kind in ("thumb", "comment", "supersede"):
        check_target(event, TARGETS[kind], BUILT_IN)
    with pytest.raises(InvalidRequest, match="names a retract"):
        check_target(event, TARGETS["retract"], BUILT_IN)


def test_a_supersede_has_the_name_of_the_metric_that_it_replaces():
    assert TARGETS["supersede"]["name"] == "rating"


def test_a_preference_with_itself_is_found_out_behind_a_token():
    body = make_body("preference", other_generation_id="gen-1", feedback_token="t")
    del body["generation_id"]
    with pytest.raises(InvalidRequest, match="another answer"):
        row_of(body, CLAIMS)


def test_what_is_far_too_large_is_refused_before_its_parts_are_checked(monkeypatch):
    def checked(*_, **__):
        raise AssertionError("pydantic was asked")

    monkeypatch.setattr(FeedbackEvent, "model_validate", checked)
    with pytest.raises(InvalidRequest, match="'a0' is not a field") as refused:
        parse_event(make_body() | {f"a{n}": 0 for n in range(33)})
    assert (refused.value.param, refused.value.code) == ("a0", "unknown_parameter")
    with pytest.raises(InvalidRequest, match="has 17 pairs; at most 16") as refused:
        parse_event(make_body(tags={str(n): 0 for n in range(17)}))
    assert refused.value.param == "tags"


def test_an_event_may_speak_of_one_that_the_service_named_but_not_take_its_name():
    derived = derive_id("langfuse", "acme", "score-1")
    assert parse_event(make_body("retract", supersedes=derived)).supersedes == derived
    with pytest.raises(InvalidRequest, match="version 8, which is the service's own; send a version 7 or 4"):
        parse_event(make_body(event_id=derived))


def test_an_event_cannot_have_the_id_of_its_answer():
    with pytest.raises(InvalidRequest, match="id of the answer") as refused:
        row_of(
            make_body(generation_id=UUID_A, event_id=UUID_A.upper()), AnswerFacts(UUID_A, "acme", "m", None, None, None)
        )
    assert refused.value.param == "event_id"


def test_an_event_id_has_one_spelling_and_the_servers_are_in_order_of_time():
    assert parse_event(make_body(event_id=UUID_A.upper())).event_id == UUID_A
    made = [new_event_id() for _ in range(3)]
    assert [event_id[14] for event_id in made] == ["7"] * 3
    assert sorted(made) == made
    assert parse_event(make_body(event_id=made[0])).event_id == made[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(FeedbackEvent.model_fields)) | st.text(max_size=4), JSON))
def test_any_json_is_an_event_or_an_invalid_request(changes):
    try:
        row = row_of(make_body() | changes)
    except InvalidRequest:
        return
    assert is_intact(row)


def test_a_generation_row_carries_its_records_as_json_and_counts_once():
    row = generation_row(
        generation_id="gen-1",
        tenant="acme",
        model="m",
        prompt=[{"role": "user", "content": "hé"}],
        answer="yes",
        outcome="pass",
        now_us=7,
        controls={"depth": 50},
        timings={"generate_s": 0.5},
    )
    assert is_intact(row)
    assert row["event_id"] == row["generation_id"] == "gen-1"
    assert row["prompt"] == '[{"content":"hé","role":"user"}]'
    assert (row["controls"], row["timings"]) == ('{"depth":50}', '{"generate_s":0.5}')
