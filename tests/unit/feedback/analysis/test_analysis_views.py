import gc

import duckdb
import pyarrow as pa
import pytest
from analysis_support import CONTRACTS, LogBuilder, ids, one

from deployments.feedback.analysis.statistics import wilson
from deployments.feedback.analysis.views import VIEWS, open_views
from deployments.feedback.compaction import compact
from deployments.feedback.snapshot import open_snapshot


@pytest.fixture
def log(tmp_path):
    return LogBuilder(tmp_path / "log")


def fate(con, event_id):
    return one(con, f"SELECT fate FROM feedback WHERE event_id = '{event_id}'")


def test_a_log_that_does_not_exist_has_all_views_and_no_rows(log):
    with open_views(open_snapshot(log.root), CONTRACTS) as con:
        assert {view: one(con, f"SELECT count(*) FROM {view}") for view in VIEWS} == dict.fromkeys(VIEWS, 0)


def test_a_repeated_row_is_there_once(log):
    log.answer("g1")
    up = log.thumb("g1")
    log.write()
    log.repeat(up)
    with log.open() as con:
        assert ids(con, "signals") == [up]
        assert one(con, "SELECT count(*) FROM log") == 2


def test_rows_of_the_archive_and_of_the_live_tail_are_one_log(log):
    log.answer("g1")
    compact(log.write())
    log.thumb("g1")
    with log.open() as con:
        assert one(con, "SELECT answer, approved FROM thumbs") == ("Answer g1.", True)


def test_the_same_rows_give_the_same_views_before_and_after_compaction(log):
    for number in range(9):
        log.answer(f"g{number}")
        log.thumb(f"g{number}", up=number % 2 == 0)
    log.retract("event-0001")
    log.erase("g4", name="generation")
    with log.open() as con:
        before = {view: ids(con, view) for view in ("log", "feedback", "signals", "joined", "thumbs")}
    compact(log.root)
    with log.open() as con:
        assert {view: ids(con, view) for view in before} == before


def test_an_answer_that_never_reached_its_caller_is_not_served(log):
    log.answer("g1")
    log.answer("g2")
    log.say("undelivered", "g2", source_type=None)
    with log.open() as con:
        assert con.execute("SELECT generation_id, served FROM generations ORDER BY 1").fetchall() == [
            ("g1", True),
            ("g2", False),
        ]


@pytest.mark.parametrize(
    ("outcome", "failed", "passed"),
    [
        ("pass", [], True),
        ("pass", None, True),
        ("pass", ["language"], False),
        ("fixed", ["truncation"], True),
        ("retried", ["language"], True),
        ("degraded", [], False),
        ("blocked", ["secrets"], False),
        ("unvalidated", [], None),
        ("cut", ["language"], None),
        (None, ["language"], None),
    ],
)
def test_the_verdict_is_on_what_was_delivered(log, outcome, failed, passed):
    log.answer("g1", outcome=outcome, failed_checks=failed)
    with log.open() as con:
        assert one(con, "SELECT passed FROM generations") is passed


@pytest.mark.parametrize("text", ["no json", "{}", '"x"', "[ ]", "null", ""])
def test_failed_checks_that_are_no_list_of_names_break_no_query(log, text):
    log.answer("g1", failed_checks=text)
    with log.open() as con:
        assert one(con, "SELECT passed FROM generations") is True


# Retract and supersede ------------------------------------------------------------------------------------------


def test_retracted_feedback_does_not_count(log):
    log.answer("g1")
    up = log.thumb("g1")
    back = log.retract(up)
    with log.open() as con:
        assert ids(con, "signals") == []
        assert (fate(con, up), fate(con, back)) == ("retracted", "retract")


def test_a_retract_that_came_first_still_takes_back(log):
    log.answer("g1")
    log.retract("later")
    log.thumb("g1", event_id="later")
    with log.open() as con:
        assert fate(con, "later") == "retracted"


def test_a_retract_itself_cannot_be_taken_back(log):
    log.answer("g1")
    up = log.thumb("g1")
    back = log.retract(up)
    log.retract(back)
    with log.open() as con:
        assert (fate(con, up), fate(con, back)) == ("retracted", "retract")


def test_taking_a_thumb_back_gives_the_floor_to_the_one_before(log):
    log.answer("g1")
    first = log.thumb("g1", up=True)
    second = log.thumb("g1", up=False)
    log.retract(second)
    with log.open() as con:
        assert ids(con, "signals") == [first]


def test_no_tenant_can_retract_supersede_or_rate_for_another(log):
    log.answer("g1")
    up = log.thumb("g1", up=True)
    log.retract(up, tenant="globex")
    log.supersede(up, value_bool=False, tenant="globex")
    stray = log.thumb("g1", up=False, tenant="globex")
    with log.open() as con:
        assert one(con, f"SELECT fate, value_bool FROM feedback WHERE event_id = '{up}'") == ("effective", True)
        assert ids(con, "joined") == [up]
        assert ids(con, "orphans") == [stray]


def test_whoever_holds_one_answers_token_cannot_retract_or_supersede_what_was_said_of_another(log):
    log.answer("g1")
    log.answer("g2")
    up = log.thumb("g2")
    log.retract(up, generation_id="g1")
    log.supersede(up, generation_id="g1", value_bool=False)
    with log.open() as con:
        assert fate(con, up) == "effective"
        assert one(con, "SELECT value_bool FROM thumbs") is True


def test_a_supersede_replaces_value_and_text_and_leaves_the_rest(log):
    log.answer("g1")
    up = log.thumb("g1", up=True, text="good")
    new = log.supersede(up, value_bool=False, text="not good")
    with log.open() as con:
        row = one(con, "SELECT event_id, value_bool, text, value_event_id, text_event_id FROM signals")
        assert row == (up, False, "not good", new, new)


def test_the_latest_of_several_supersedes_counts_for_value_and_text_apart(log):
    log.answer("g1")
    rating = log.say("rating", "g1", value_num=1.0, text="old")
    value = log.supersede(rating, value_num=4.0)
    text = log.supersede(rating, text="new")
    with log.open() as con:
        row = one(con, "SELECT value_num, text, value_event_id, text_event_id FROM signals")
        assert row == (4.0, "new", value, text)


def test_a_chain_of_supersedes_is_followed_to_its_end(log):
    log.answer("g1")
    last = up = log.thumb("g1", up=True)
    for number in range(9):
        last = log.supersede(last, value_bool=number % 2 == 0)
    log.supersede(last, value_bool=False)
    with log.open() as con:
        assert one(con, "SELECT event_id, value_bool FROM signals") == (up, False)


def test_a_chain_goes_on_beyond_a_supersede_that_was_retracted(log):
    log.answer("g1")
    up = log.thumb("g1", up=True)
    middle = log.supersede(up, value_bool=False)
    log.supersede(middle, value_bool=True, text="sure")
    log.retract(middle)
    with log.open() as con:
        assert one(con, "SELECT value_bool, text FROM signals") == (True, "sure")


def test_a_retracted_supersede_changes_nothing(log):
    log.answer("g1")
    up = log.thumb("g1", up=True)
    log.retract(log.supersede(up, value_bool=False))
    with log.open() as con:
        assert one(con, "SELECT value_bool, value_event_id FROM signals") == (True, up)


def test_supersedes_in_a_circle_end_and_change_nothing(log):
    log.answer("g1")
    log.thumb("g1")
    log.supersede("b", event_id="a", value_bool=False)
    log.supersede("c", event_id="b", value_bool=False)
    log.supersede("a", event_id="c", value_bool=False)
    log.supersede("d", event_id="d", value_bool=False)
    with log.open() as con:
        assert one(con, "SELECT value_bool FROM signals") is True


@pytest.mark.parametrize(
    ("kind", "own", "misfit"),
    [
        ("thumb", {"value_bool": True}, {"value_num": 3.0}),
        ("rating", {"value_num": 2.0}, {"value_bool": False}),
        ("label", {"value_str": "wrong"}, {"value_num": 3.0}),
        ("preference", {"value_str": "this"}, {"value_bool": False}),
    ],
)
def test_a_value_of_another_type_replaces_nothing(log, kind, own, misfit):
    log.answer("g1")
    log.supersede(log.say(kind, "g1", **own), **misfit)
    with log.open() as con:
        assert one(con, f"SELECT {next(iter(own))} FROM signals") == next(iter(own.values()))
        assert one(con, f"SELECT {next(iter(misfit))} FROM signals") is None


# One say a rater ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thumb", "rating", "label", "preference", "correction"])
def test_of_one_rater_s_signals_of_a_name_on_an_answer_the_latest_counts(log, kind):
    log.answer("g1")
    first = log.say(kind, "g1")
    last = log.say(kind, "g1")
    with log.open() as con:
        assert ids(con, "signals") == [last]
        assert fate(con, first) == "replaced"


@pytest.mark.parametrize("kind", ["comment", "implicit"])
def test_comments_and_implicit_signals_all_count(log, kind):
    log.answer("g1")
    log.say(kind, "g1")
    log.say(kind, "g1")
    with log.open() as con:
        assert one(con, "SELECT count(*) FROM signals") == 2


@pytest.mark.parametrize(
    "other",
    [{"source_id": "bob"}, {"source_id": None}, {"name": "helpful"}, {"source_type": "judge"}, {"tenant": "globex"}],
)
def test_who_or_what_differs_has_a_say_of_its_own(log, other):
    log.answer("g1")
    log.thumb("g1")
    log.thumb("g1", **other)
    with log.open() as con:
        assert one(con, "SELECT count(*) FROM signals") == 2


def test_of_signals_at_the_same_time_the_larger_event_id_counts(log):
    log.answer("g1")
    for event_id in ("b", "c", "a"):
        log.thumb("g1", event_id=event_id, ts_server_us=7)
    with log.open() as con:
        assert ids(con, "signals") == ["c"]


def test_signals_without_a_rater_are_one_rater_s(log):
    log.answer("g1")
    log.thumb("g1", source_id=None)
    last = log.thumb("g1", source_id=None)
    with log.open() as con:
        assert ids(con, "signals") == [last]


# Erasure --------------------------------------------------------------------------------------------------------


def test_an_erased_event_is_nowhere_and_its_tombstone_stays(log):
    log.answer("g1")
    up = log.thumb("g1")
    stone = log.erase(up)
    with log.open() as con:
        assert ids(con, "feedback") == []
        assert ids(con, "log") == sorted(["g1", stone])


def test_a_tombstone_cannot_be_erased(log):
    log.answer("g1")
    up = log.thumb("g1")
    stone = log.erase(up)
    log.erase(stone)
    with log.open() as con:
        assert stone in ids(con, "log")
        assert ids(con, "feedback") == []


def test_an_erased_generation_takes_everything_about_it_along(log):
    for generation_id in ("g1", "g2", "g3"):
        log.answer(generation_id)
        log.thumb(generation_id)
    log.say("preference", "g2", other_generation_id="g1", value_str="this")
    log.say("undelivered", "g1", source_type=None)
    log.erase("g1", name="generation")
    with log.open() as con:
        assert one(con, "SELECT count(*) FROM log WHERE 'g1' IN (event_id, generation_id, other_generation_id)") == 0
        assert one(con, "SELECT count(*) FROM generations") == 2
        assert one(con, "SELECT count(*) FROM feedback") == 2


def test_a_supersede_of_an_erased_event_is_no_signal(log):
    log.answer("g1")
    up = log.thumb("g1", text="secret")
    log.supersede(up, text="still secret")
    log.erase(up)
    with log.open() as con:
        assert ids(con, "signals") == []


# What people gave -----------------------------------------------------------------------------------------------


def test_a_thumb_of_a_metric_where_lower_is_better_approves_when_it_is_down(log):
    log.answer("g1")
    log.thumb("g1", up=False, name="harmful")
    with log.open() as con:
        assert one(con, "SELECT value_bool, approved FROM thumbs") == (False, True)


def test_thumbs_and_ratings_are_those_of_people(log):
    log.answer("g1")
    log.thumb("g1", source_type="judge")
    log.say("rating", "g1", value_num=5.0, source_type="code")
    person = log.thumb("g1", source_type=None, source_id="bob")
    with log.open() as con:
        assert ids(con, "thumbs") == [person]
        assert ids(con, "ratings") == []
        assert one(con, "SELECT count(*) FROM joined") == 3


def test_a_rating_has_the_range_of_its_contract(log):
    log.answer("g1")
    log.say("rating", "g1", value_num=4.0)
    with log.open() as con:
        assert one(con, "SELECT value_num, lowest, highest, better, unit FROM ratings") == (
            4.0,
            1.0,
            5.0,
            "higher",
            "stars",
        )


# The connection -------------------------------------------------------------------------------------------------


def test_the_macros_give_wilson_s_interval(log):
    with log.open() as con:
        for successes, n in ((0, 1), (1, 1), (7, 20), (81, 263), (600_000, 700_000)):
            estimate = wilson(successes, n)
            low, high = one(con, f"SELECT wilson_low({successes}, {n}), wilson_high({successes}, {n})")
            assert (low, high) == pytest.approx((estimate.low, estimate.high), abs=1e-12)
        assert one(con, "SELECT wilson_low(0, 0)") is None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{secret}')",
        "COPY (SELECT 1) TO '{secret}.csv'",
        "ATTACH '{secret}.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "LOAD httpfs",
    ],
)
def test_the_connection_reaches_no_file_but_the_log_and_cannot_be_opened_up(log, tmp_path, sql):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    with log.open() as con, pytest.raises(duckdb.Error, match=r"disabled|locked|external"):
        con.execute(sql.format(secret=secret))


def test_what_does_not_fit_into_memory_is_nobody_else_s_to_read_and_goes_with_the_connection(
    log, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spill"))
    (tmp_path / "spill").mkdir()
    con = log.open()
    (folder,) = (tmp_path / "spill").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    con.execute("SET memory_limit = '24MB'")
    con.execute("CREATE TABLE large AS SELECT (random() * 1e18)::BIGINT::VARCHAR AS a FROM range(1000000)")
    assert (
        one(con, "SELECT count(*) FROM (SELECT a, row_number() OVER (ORDER BY a) AS n FROM large) WHERE n % 2 = 0")
        == 500_000
    )
    assert list(folder.iterdir()) != []
    con.close()
    del con
    gc.collect()
    assert list((tmp_path / "spill").iterdir()) == []


def test_a_log_below_a_folder_with_a_strange_name_is_read(tmp_path):
    log = LogBuilder(tmp_path / "it's [a] *strange* tenant=x" / "log")
    log.answer("g1")
    compact(log.write())
    with log.open() as con:
        assert one(con, "SELECT generation_id, tenant FROM generations") == ("g1", "acme")


def test_an_archive_of_an_older_version_lacks_columns_and_is_read(log, tmp_path):
    log.answer("g1")
    snapshot = open_snapshot(log.write())
    old = tmp_path / "old.parquet"
    names = [name for name in snapshot.tail.column_names if name not in ("settings", "prompt_hash", "quality_score")]
    pa.parquet.write_table(snapshot.tail.select(names), old)
    moved = type(snapshot)(snapshot.root, (old,), snapshot.tail.slice(0, 0), snapshot.integrity, snapshot.problems)
    with open_views(moved, CONTRACTS) as con:
        assert one(con, "SELECT generation_id, settings, quality_score FROM generations") == ("g1", None, None)


def test_every_view_has_its_meaning_told(log):
    with log.open() as con:
        made = {
            row[0]
            for row in con.execute(
                "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
            ).fetchall()
        }
    assert made - {"tail_rows"} == set(VIEWS)
