import hashlib

import pyarrow as pa
import pytest
from feedback_support import make_row
from hypothesis import given
from hypothesis import strategies as st

from deployments.feedback.schema import (
    ARROW_SCHEMA,
    COLUMNS,
    SCHEMA_VERSION,
    content_hash,
    is_intact,
    render_columns,
    to_row,
)
from graph.errors import InvalidRequest

GOLDEN_VERSION = 2
GOLDEN = """\
event_id: string not null
schema_version: int32 not null
kind: string not null
generation_id: string
other_generation_id: string
tenant: string not null
name: string
value_bool: bool
value_num: double
value_str: string
text: string
source_type: string
source_id: string
supersedes: string
model: string
adapter: string
arm: string
controls_hash: string
ts_client_us: int64
ts_server_us: int64 not null
tags: string
prompt: string
answer: string
controls: string
quality: string
timings: string
versions: string
outcome: string
extra: string
content_hash: string not null
row_crc: uint32 not null
quality_score: double
failed_checks: string
answer_format: string
language: string
settings: string
prompt_template: string
prompt_hash: string"""


def test_the_schema_and_its_version_are_pinned():
    # Changed on purpose? Only nullable columns at the end; then raise SCHEMA_VERSION, and this with it.
    assert (SCHEMA_VERSION, str(ARROW_SCHEMA)) == (GOLDEN_VERSION, GOLDEN)


def test_the_canonical_form_of_a_row_is_pinned_because_hashes_outlive_releases():
    row = make_row(3, value_num=1e16)
    content = (
        '{"generation_id":"generation-3","kind":"comment","tags":"{\\"number\\":\\"3\\"}","tenant":"acme",'
        '"text":"comment 3 ééé","value_bool":false,"value_num":1e+16}'
    )
    assert row["content_hash"] == hashlib.sha256(content.encode()).hexdigest()
    assert row["row_crc"] == 3359958008


def test_every_column_is_documented_in_order():
    lines = render_columns().splitlines()[2:]
    assert [line.split("`")[1] for line in lines] == [column.name for column in COLUMNS]


def test_a_row_has_every_column_and_making_it_again_changes_nothing():
    row = make_row(1)
    assert list(row) == [column.name for column in COLUMNS]
    assert to_row(row) == row
    assert is_intact(row)


def test_what_the_server_sets_is_not_content_and_what_the_sender_says_is():
    row = make_row(1)
    server_set = {
        "event_id": "another",
        "ts_client_us": 5,
        "ts_server_us": 6,
        "model": "m",
        "adapter": "a",
        "arm": "b",
        "controls_hash": "c",
    }
    assert make_row(1, **server_set)["content_hash"] == row["content_hash"] == content_hash(row)
    for said in ({"text": "x"}, {"value_num": 9}, {"tenant": "other"}, {"tags": {}}, {"supersedes": "y"}):
        assert make_row(1, **said)["content_hash"] != row["content_hash"]


def test_five_and_five_point_zero_are_the_same_rating():
    assert make_row(1, value_num=5)["content_hash"] == make_row(1, value_num=5.0)["content_hash"]


@pytest.mark.parametrize("column", [column.name for column in COLUMNS if column.name != "row_crc"])
def test_a_change_of_any_column_breaks_the_row_crc(column):
    row = make_row(1)
    changed = {str: "changed", bool: True, int: 7, float: 7.5}
    row[column] = changed[type(row[column])] if row[column] is not None else "was null"
    if column == "value_bool":
        row[column] = not make_row(1)[column]
    assert not is_intact(row)


def test_unknown_fields_are_kept_in_extra():
    assert make_row(1, mood="good", extra={"a": 1})["extra"] == '{"a":1,"mood":"good"}'


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"event_id": None}, "event_id"),
        ({"tenant": None}, "tenant"),
        ({"kind": "shrug"}, "kind"),
        ({"kind": ["thumb"]}, "kind"),
        ({"value_bool": 1}, "value_bool"),
        ({"value_num": True}, "value_num"),
        ({"value_num": float("nan")}, "value_num"),
        ({"value_num": float("inf")}, "value_num"),
        ({"value_num": 10**400}, "value_num"),
        ({"ts_server_us": 2**63}, "ts_server_us"),
        ({"ts_server_us": 1.5}, "ts_server_us"),
        ({"text": b"bytes"}, "text"),
        ({"text": "half a pair \ud800"}, "text"),
        ({"tags": {"a": "\udfff"}}, "tags"),
        ({"controls": {"a": float("nan")}}, "controls"),
        ({"controls": {"a": object()}}, "controls"),
        ({"unknown": object()}, "extra"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_the_name_of_its_column(changes, param):
    with pytest.raises(InvalidRequest) as refused:
        make_row(1, **changes)
    assert refused.value.param == param


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text(), max_size=2)
)


@given(st.dictionaries(st.sampled_from([column.name for column in COLUMNS]), ANYTHING))
def test_whatever_passes_the_row_check_arrow_can_write_and_gives_back_intact(changes):
    try:
        row = make_row(1, **changes)
    except InvalidRequest:
        return
    (read,) = pa.RecordBatch.from_pylist([row], schema=ARROW_SCHEMA).to_pylist()
    assert read == row
    assert is_intact(read)
