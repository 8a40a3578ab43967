import json
import math

import pytest
from analysis_support import CONTRACTS, HOUR_US, NOW_US, LogBuilder, one

from deployments.feedback.analysis.report import COUNTED, EXCERPT_CHARS, excerpt_of, last_user_turn, make_report
from deployments.feedback.analysis.views import open_views
from deployments.feedback.snapshot import open_snapshot


@pytest.fixture
def log(tmp_path):
    return LogBuilder(tmp_path / "log")


def report_of(log, **options):
    snapshot = open_snapshot(log.write())
    with open_views(snapshot, CONTRACTS) as con:
        return make_report(con, snapshot, now_us=NOW_US, **options)


def numbers(value):
    if isinstance(value, dict):
        for each in value.values():
            yield from numbers(each)
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, float):
        yield value


def test_an_empty_log_has_a_report_without_a_single_number(log):
    report = report_of(log)
    assert {name: report["counts"][name] for name in COUNTED} == dict.fromkeys(COUNTED, 0)
    assert report["metrics"]["response_quality"]["score"] == {
        "n": 0,
        "mean": None,
        "low": None,
        "high": None,
        "small": True,
    }
    assert report["approval"]["all"]["share"] is None
    assert report["agreement"]["kappa"] == {"value": None, "low": None, "high": None}
    assert report["time"] == report["prompts"] == report["by_setting"] == []
    json.dumps(report, allow_nan=False)


def test_answers_without_feedback_are_reported_as_such(log):
    log.answer("g1")
    log.answer("g2", outcome="degraded", failed_checks=["language"], quality_score=0.3)
    report = report_of(log)
    assert report["metrics"]["feedback_collection"]["any"]["share"] == 0
    assert report["metrics"]["response_quality"]["passed"]["share"] == 0.5
    assert report["metrics"]["response_quality"]["failed_checks"] == {"language": 1}
    assert report["calibration"]["expected_calibration_error"] is None


def test_feedback_without_an_answer_is_reported_as_orphans(log):
    log.thumb("lost")
    report = report_of(log)
    assert report["counts"]["orphans"] == 1
    assert report["metrics"]["integration_reliability"]["joined"]["share"] == 0
    assert report["approval"]["all"]["n"] == 0


def test_thumbs_that_are_all_alike_have_an_interval_but_no_kappa(log):
    for number in range(5):
        log.answer(f"g{number}")
        log.thumb(f"g{number}")
    report = report_of(log)
    approval = report["approval"]["all"]
    assert (approval["share"], approval["high"], approval["n"], approval["small"]) == (1, 1, 5, True)
    assert 0 < approval["low"] < 1
    assert report["agreement"]["kappa"]["value"] is None


def test_every_share_stands_between_its_bounds_and_nothing_is_infinite(log):
    for number in range(60):
        log.answer(
            f"g{number}",
            quality_score=number / 60,
            settings={"depth": number, "format": "json"},
            language=f"l{number % 3}",
        )
        log.thumb(f"g{number}", up=number % 3 > 0, source_id=f"rater {number % 7}")
    report = report_of(log)
    assert all(math.isfinite(number) for number in numbers(report))
    for group in report["by"].values():
        for cell in group["cells"]:
            assert cell["approval"]["low"] <= cell["approval"]["share"] <= cell["approval"]["high"]
            assert cell["quality"]["low"] <= cell["quality"]["mean"] <= cell["quality"]["high"]
            assert cell["approval"]["small"] == (cell["approval"]["n"] < 20)


def test_counts_are_those_of_the_views(log):
    log.answer("g1")
    log.answer("g2")
    log.say("undelivered", "g2", source_type=None)
    log.retract(log.thumb("g1"))
    log.thumb("g1", source_id="bob")
    log.thumb("lost")
    log.say("implicit", "g1", name="copied")
    report = report_of(log)
    with log.open() as con:
        for view in ("log", "generations", "feedback", "signals", "joined", "orphans", "thumbs"):
            assert report["counts"][view] == one(con, f"SELECT count(*) FROM {view}"), view
    assert (report["counts"]["served"], report["counts"]["undelivered"]) == (1, 1)


def test_the_funnel_narrows_and_says_where_the_rest_went(log):
    log.answer("g1")
    first = log.thumb("g1")
    log.thumb("g1")
    log.thumb("lost")
    log.supersede(log.say("rating", "g1", value_num=1.0), value_num=2.0)
    log.retract(log.say("label", "g1", value_str="wrong"), generation_id="g1")
    log.repeat(first)
    funnel = report_of(log)["funnel"]
    events = {stage["stage"]: stage["n"] for stage in funnel["stages"] if stage["unit"] == "events"}
    lost = funnel["not_used"]
    assert events["submitted"] - lost["repeats"] == events["durable"] == 7
    assert events["durable"] - lost["without an answer in the log"] == events["joined"]
    unused = ("retracted", "replaced", "retract", "supersede")
    assert events["joined"] - events["used"] == sum(lost[fate] for fate in unused) == 4
    assert events["used"] == 2


def test_the_collection_rate_counts_answers_that_anybody_spoke_of_once(log):
    for generation_id in ("g1", "g2", "g3", "g4"):
        log.answer(generation_id)
    log.thumb("g1")
    log.say("comment", "g1", text="more")
    log.say("implicit", "g2", name="copied")
    log.retract(log.thumb("g3"))
    collection = report_of(log)["metrics"]["feedback_collection"]
    assert (collection["any"]["count"], collection["explicit"]["count"], collection["any"]["n"]) == (2, 1, 4)


def test_what_never_reached_its_caller_is_not_part_of_quality(log):
    log.answer("g1", quality_score=1.0)
    log.answer("g2", quality_score=0.0)
    log.say("undelivered", "g2", source_type=None)
    report = report_of(log)
    assert report["metrics"]["response_quality"]["score"]["mean"] == 1
    assert report["metrics"]["integration_reliability"]["delivered"]["share"] == 0.5


def test_times_are_summed_by_stage_and_the_first_release_is_no_stage(log):
    timings = {"generating_ms": 80.0, "judging_ms": 15.0, "recording_ms": 5.0, "first_release_ms": 20.0}
    for number in range(3):
        log.answer(f"g{number}", timings=timings)
    log.answer("odd", timings="no json")
    log.answer("none", timings=None)
    performance = report_of(log)["metrics"]["system_performance"]
    assert performance["percentiles_ms"]["total_ms"] == {"n": 3, "p50": 100.0, "p95": 100.0}
    assert performance["percentiles_ms"]["first_release_ms"]["p50"] == 20.0
    assert (performance["sampled"], performance["of"]) == (4, 5)


def test_groups_have_their_own_quality_and_approval(log):
    for number in range(4):
        log.answer(f"a{number}", model="a", quality_score=0.4, adapter=None)
        log.answer(f"b{number}", model="b", quality_score=0.8, adapter="v2")
        log.thumb(f"b{number}", up=number > 0)
    by = report_of(log)["by"]
    model = {cell["value"]: cell for cell in by["model"]["cells"]}
    assert (model["a"]["quality"]["mean"], model["b"]["quality"]["mean"]) == pytest.approx((0.4, 0.8))
    assert (model["a"]["approval"]["n"], model["b"]["approval"]["share"]) == (0, 0.75)
    assert {cell["value"]: cell["served"] for cell in by["adapter"]["cells"]} == {None: 4, "v2": 4}


def test_a_dimension_of_many_values_shows_the_largest_and_counts_the_rest(log):
    for number in range(30):
        log.answer(f"g{number}", prompt_template=f"template {number}")
    group = report_of(log)["by"]["prompt_template"]
    assert (len(group["cells"]), group["more"]) == (24, 6)


def test_dials_are_shown_in_bands_and_switches_by_value(log):
    for number, depth in enumerate((0, 19, 20, 79, 80, 100)):
        log.answer(f"g{number}", settings={"depth": depth, "format": "json" if number else "plain"})
        log.thumb(f"g{number}", up=depth < 50)
    settings = {setting["name"]: setting for setting in report_of(log)["by_setting"]}
    depth = {cell["value"]: cell["approval"]["share"] for cell in settings["depth"]["cells"]}
    assert depth == {"0-19": 1, "20-39": 1, "40-59": None, "60-79": 0, "80-100": 0}
    assert [(cell["value"], cell["served"]) for cell in settings["format"]["cells"]] == [("json", 5), ("plain", 1)]
    assert (settings["depth"]["type"], settings["format"]["type"]) == ("dial", "switch")


@pytest.mark.parametrize("text", ["no json", "[1]", '"x"', "", "{}"])
def test_settings_that_are_no_object_are_passed_over(log, text):
    log.answer("g1", settings=text)
    log.answer("g2", settings={"depth": 10})
    log.thumb("g1")
    assert [setting["name"] for setting in report_of(log)["by_setting"]] == ["depth"]


def test_disagreements_of_people_and_validators_are_listed_with_their_texts(log):
    log.answer("good", answer="Fine.  And\nshort.")
    log.answer("bad", outcome="degraded", failed_checks=["language"], quality_score=0.2)
    log.answer("unjudged", outcome="unvalidated", quality_score=None)
    log.thumb("good", up=False)
    log.thumb("bad", up=True)
    log.thumb("unjudged", up=True)
    agreement = report_of(log)["agreement"]
    assert agreement["confusion"] == {"liked": {"passed": 0, "failed": 1}, "disliked": {"passed": 1, "failed": 0}}
    assert (agreement["kappa"]["value"], agreement["without_verdict"]) == (-1, 1)
    (liked,), (disliked,) = agreement["liked_but_failed"], agreement["disliked_but_passed"]
    assert (liked["generation_id"], liked["failed_checks"]) == ("bad", ["language"])
    assert (disliked["prompt_excerpt"], disliked["answer_excerpt"]) == ("Question of good?", "Fine. And short.")


def test_the_score_is_held_against_approval_in_ten_bins(log):
    for number, score in enumerate((0.05, 0.05, 0.95, 1.0)):
        log.answer(f"g{number}", quality_score=score)
        log.thumb(f"g{number}", up=score > 0.5)
    calibration = report_of(log)["calibration"]
    assert [(each["from"], each["approval"]["share"]) for each in calibration["bins"]] == [(0.0, 0), (0.9, 1)]
    assert calibration["expected_calibration_error"] == pytest.approx((2 * 0.05 + 2 * 0.025) / 4)


def test_drift_compares_the_halves_of_the_period(log):
    for number in range(40):
        log.answer(f"g{number:02d}", settings={"depth": 10 if number < 20 else 90, "format": "json"})
    drift = report_of(log)["drift"]
    assert drift["items"][0]["name"] == "depth"
    assert drift["items"][0]["psi"] > drift["large"]
    assert {item["name"]: item["psi"] for item in drift["items"]}["format"] == 0
    assert drift["items"][0]["n_before"] == drift["items"][0]["n_after"] == 20


def test_drift_compares_the_period_with_a_baseline_before_it(log):
    for number in range(20):
        log.answer(f"old{number}", quality_score=0.2)
    for number in range(10):
        log.answer(f"new{number}", quality_score=0.9)
    since_us = log.rows[20]["ts_server_us"]
    drift = report_of(log, since_us=since_us, baseline_us=0)["drift"]
    found = {item["name"]: item for item in drift["items"]}["quality score"]
    assert (found["n_before"], found["n_after"]) == (20, 10)
    assert found["psi"] == 0  # one value, one bin: deciles of the baseline cannot tell 0.9 from 0.2 or above


def test_prompts_are_ranked_by_what_is_certain_to_be_wrong(log):
    for number in range(40):
        log.answer(f"often{number}", prompt_hash="often", outcome="degraded" if number < 24 else "pass")
    for number in range(5):
        log.answer(f"twice{number}", prompt_hash="twice", outcome="degraded" if number < 4 else "pass")
        log.answer(f"well{number}", prompt_hash="well")
    log.answer("once", prompt_hash="once", outcome="degraded")
    log.thumb("often30", up=False)
    prompts = report_of(log)["prompts"]
    assert [each["prompt_hash"] for each in prompts] == ["often", "twice"]
    assert (prompts[0]["trouble"]["count"], prompts[0]["failed"]["count"], prompts[0]["disliked"]["count"]) == (
        25,
        24,
        1,
    )
    assert prompts[0]["prompt_excerpt"].startswith("Question of often")


def test_a_busy_rater_and_a_burst_are_seen(log):
    for number in range(12):
        log.answer(f"g{number}")
        log.thumb(f"g{number}", source_id="robot", ts_server_us=NOW_US + number)
    log.thumb("g1", source_id="ann")
    log.thumb("g2", source_id=None)
    raters = report_of(log)["raters"]
    assert (raters["raters"], raters["unknown_rater"], raters["largest_share"]) == (2, 1, pytest.approx(12 / 13))
    assert (raters["bursts"]["n"], raters["bursts"]["largest"][0]["source_id"]) == (1, "robot")


def test_ratings_have_a_mean_in_their_own_unit(log):
    for number in range(30):
        log.answer(f"g{number}")
        log.say("rating", f"g{number}", value_num=float(1 + number % 5))
    (rating,) = report_of(log)["signals"]["ratings"]
    assert (rating["mean"], rating["n"], rating["unit"]) == (3, 30, "stars")
    assert 2 < rating["low"] < 3 < rating["high"] < 4


def test_a_period_and_a_tenant_cut_out_what_is_not_theirs(log):
    log.answer("old", ts_server_us=NOW_US - 48 * HOUR_US)
    log.answer("new", ts_server_us=NOW_US - HOUR_US)
    log.answer("other", tenant="o'hara", ts_server_us=NOW_US - HOUR_US)
    log.thumb("old", ts_server_us=NOW_US - HOUR_US)
    log.thumb("other", tenant="o'hara", ts_server_us=NOW_US - HOUR_US, up=False)
    recent = report_of(log, since_us=NOW_US - 24 * HOUR_US)
    assert (recent["counts"]["generations"], recent["counts"]["thumbs"]) == (2, 2)
    assert recent["metrics"]["feedback_collection"]["any"]["count"] == 1
    one_tenant = report_of(log, tenant="o'hara")
    assert (one_tenant["counts"]["generations"], one_tenant["approval"]["all"]["share"]) == (1, 0)
    before = report_of(log, until_us=NOW_US - 24 * HOUR_US)
    assert (before["counts"]["generations"], before["counts"]["thumbs"]) == (1, 0)


def test_time_is_cut_into_buckets_of_the_period(log):
    for hour in range(5):
        log.answer(f"g{hour}", ts_server_us=1_750_000_000_000_000 // HOUR_US * HOUR_US + hour * HOUR_US)
    report = report_of(log)
    assert report["period"]["bucket"] == "hour"
    assert [point["start"][11:16] for point in report["time"]] == ["15:00", "16:00", "17:00", "18:00", "19:00"]


def test_a_clock_that_is_far_off_breaks_nothing(log):
    log.answer("g1", ts_server_us=-1)
    log.answer("g2", ts_server_us=2**62)
    log.thumb("g2", ts_server_us=5)
    report = report_of(log)
    assert report["period"]["bucket"] == "week"
    json.dumps(report, allow_nan=False)


def test_equal_logs_give_equal_reports(log, tmp_path):
    other = LogBuilder(tmp_path / "other")
    for number in range(30):
        for each in (log, other):
            each.answer(f"g{number}", quality_score=number / 30, settings={"depth": number})
            each.thumb(f"g{number}", up=number % 2 == 0)
            each.say("rating", f"g{number}", value_num=float(number % 5))
    assert report_of(log) == report_of(other)


def test_a_second_report_on_one_connection_is_of_its_own_scope(log):
    log.answer("g1")
    log.answer("g2", tenant="globex")
    snapshot = open_snapshot(log.write())
    with open_views(snapshot, CONTRACTS) as con:
        all_tenants = make_report(con, snapshot, now_us=NOW_US)
        one_tenant = make_report(con, snapshot, now_us=NOW_US, tenant="globex")
    assert (all_tenants["counts"]["served"], one_tenant["counts"]["served"]) == (2, 1)


def test_corrupt_segments_are_told_in_the_report(log):
    log.answer("g1")
    log.write()
    segment = next(log.root.rglob("*.arrows"))
    segment.write_bytes(segment.read_bytes()[:-8])
    reliability = report_of(log)["metrics"]["integration_reliability"]
    assert reliability["log"]["corrupt_segments"] == 1
    assert segment.name in reliability["problems"][0]


def test_an_excerpt_is_one_short_line():
    assert excerpt_of("a\n\n b\tc ") == "a b c"
    assert excerpt_of(None) is None
    long = excerpt_of("word " * 1000)
    assert len(long) <= EXCERPT_CHARS
    assert long.endswith("…")


@pytest.mark.parametrize(
    ("prompt", "turn"),
    [
        (None, None),
        ("no json", "no json"),
        ("[]", None),
        ("{}", None),
        ('[{"role": "system", "content": "s"}]', None),
        (
            '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]',
            "c",
        ),
        ('[{"role": "user", "content": ["parts"]}]', None),
        ('["user"]', None),
    ],
)
def test_the_prompt_shown_is_what_the_user_asked_last(prompt, turn):
    assert last_user_turn(prompt) == turn
