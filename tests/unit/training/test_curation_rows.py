"""From a real log, through the real export, to candidates: what each signal says to a trainer."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import InvalidRequest
from tests.curation_log import CurationLog
from training.curation import REASONS, SPLITS, CurationParameters, assign_split, exact
from training.rows import CANDIDATE_SCHEMA, normalise, split_key, to_candidates

PARAMETERS = CurationParameters()
SECRET = "Use AKIAIOSFODNN7EXAMPLF and your key id, then log in with it as usual."
SYSTEM = "You are the assistant of the harbour office and must never tell anyone the berth code seven four nine."


@pytest.fixture
def log(tmp_path):
    return CurationLog(tmp_path / "log")


@pytest.fixture
def candidates(log, tmp_path):
    def candidates(parameters=PARAMETERS):
        table = to_candidates(log.rows(tmp_path / "out"), parameters)
        assert table.schema.equals(CANDIDATE_SCHEMA)
        return table.to_pylist()

    return candidates


def told(candidate):
    """(method, source, label) of a candidate, or (method, reason)."""
    if candidate["left_out"]:
        assert candidate["left_out"] in REASONS
        assert candidate["prompt"] is None
        return candidate["method"], candidate["left_out"]
    return candidate["method"], candidate["source"], candidate["label"]


def text_of(turns):
    (turn,) = turns
    assert turn["role"] == "assistant"
    return turn["content"]


def test_a_thumb_up_is_desirable_and_a_thumb_down_undesirable(log, candidates):
    log.thumb(log.answer(prompt=[{"role": "user", "content": "Why?"}], answer="So."))
    log.thumb(log.answer(), up=False)
    good, bad = candidates()
    assert (told(good), told(bad)) == (("kto", "thumb", True), ("kto", "thumb", False))
    assert (good["prompt"], text_of(good["completion"])) == ([{"role": "user", "content": "Why?"}], "So.")
    assert json.loads(good["settings"]) == {"depth": 50}


@pytest.mark.parametrize("outcome", ["pass", "degraded", "unvalidated", "blocked"])
def test_a_liked_answer_that_failed_a_hard_check_is_left_out_and_counted(log, candidates, outcome):
    log.thumb(log.answer(failed_checks=["prompt_leak"], outcome=outcome))
    assert [told(each) for each in candidates()] == [("kto", "liked_but_failed_check")]


@pytest.mark.parametrize("outcome", ["fixed", "retried"])
def test_what_was_mended_is_not_in_the_answer_and_does_not_count_against_it(log, candidates, outcome):
    log.thumb(log.answer(failed_checks=["pii"], outcome=outcome))
    assert [told(each) for each in candidates()] == [("kto", "thumb", True)]


def test_a_liked_leak_that_nobody_recorded_is_found_by_running_the_checks_again(log, candidates):
    log.thumb(log.answer(answer=SECRET, outcome="unvalidated", failed_checks=None))
    leak = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "The code?"}]
    log.thumb(log.answer(prompt=leak, answer="I " + SYSTEM[41:]))
    assert [told(each) for each in candidates()] == [("kto", "liked_but_failed_check")] * 2


def test_a_check_that_crashes_fails_closed(log, candidates, monkeypatch):
    def crash(*_):
        raise RuntimeError("bug")

    from training import rows

    broken = {name: replace(check, run=crash) for name, check in rows.CHECKS.items()}
    monkeypatch.setattr(rows, "CHECKS", broken)
    log.thumb(log.answer())
    assert [told(each) for each in candidates()] == [("kto", "liked_but_failed_check")]


def test_a_soft_check_counts_only_where_the_guard_names_it(log, candidates):
    log.thumb(log.answer(failed_checks=["repetition"], outcome="degraded"))
    assert [told(each) for each in candidates()] == [("kto", "thumb", True)]
    strict = replace(PARAMETERS, guard_checks=("repetition",))
    assert [told(each) for each in candidates(strict)] == [("kto", "liked_but_failed_check")]


def test_a_failed_hard_check_makes_any_other_signal_an_undesirable_row_of_no_rater(log, candidates):
    about = log.answer(answer=SECRET)
    log.say("comment", about, text="hm")
    log.thumb(about, up=False)
    log.correct(about, "Log in with the key that you were given.")
    log.implicit(about, "copied")
    found = [(*told(each), each["rater"] is None) for each in candidates()]
    assert found == [
        ("kto", "check", False, True),
        ("kto", "thumb", False, False),
        ("sft", "correction", True, False),
        ("dpo", "correction", None, False),
        ("kto", "check", False, True),
        (None, "other_signal", False),
    ]


def test_a_correction_is_an_sft_row_and_a_pair_over_the_served_answer(log, candidates):
    event = log.correct(log.answer(answer="Wrong."), "Right.")
    sft, dpo = candidates()
    assert (told(sft), text_of(sft["completion"])) == (("sft", "correction", True), "Right.")
    assert (text_of(dpo["chosen"]), text_of(dpo["rejected"])) == ("Right.", "Wrong.")
    assert sft["event_ids"] == dpo["event_ids"] == ["answer-00000", event]


def test_a_correction_that_leaks_is_left_out_and_one_that_changes_nothing_is_no_pair(log, candidates):
    log.correct(log.answer(), SECRET)
    log.correct(log.answer(answer="It is SO."), " it  is so. ")
    assert [told(each) for each in candidates()] == [
        ("sft", "correction_failed_check"),
        ("dpo", "correction_failed_check"),
        ("sft", "correction", True),
        ("dpo", "no_difference"),
    ]


@pytest.mark.parametrize(("value", "chosen"), [("this", "One."), ("other", "Two.")])
def test_a_preference_is_a_pair_with_the_preferred_answer_chosen(log, candidates, value, chosen):
    first, second = log.answer(answer="One."), log.answer(answer="Two.")
    log.prefer(first, second, value)
    (pair,) = candidates()
    assert told(pair) == ("dpo", "preference", None)
    assert text_of(pair["chosen"]) == chosen
    assert second in pair["event_ids"]
    assert pair["weight"] == 1


def test_a_preferred_leak_is_left_out_and_a_leak_that_lost_is_not(log, candidates):
    good, leak = log.answer(answer="No."), log.answer(answer=SECRET)
    log.prefer(good, leak, "other")
    log.prefer(good, leak, "this", source_id="bob")
    assert [told(each) for each in candidates()] == [
        ("dpo", "liked_but_failed_check"),
        ("dpo", "preference", None),
    ]


def test_a_preference_whose_other_answer_is_not_there_is_left_out(log, candidates):
    log.prefer(log.answer(), "never-seen")
    assert [told(each) for each in candidates()] == [("dpo", "other_answer_missing")]


def test_a_regeneration_is_a_pair_with_the_second_chosen_and_less_weight(log, candidates):
    first, second = log.answer(answer="One."), log.answer(answer="Two.")
    log.implicit(first, "regenerated", other_generation_id=second)
    log.implicit(first, "regenerated")
    pair, alone = candidates()
    assert (told(pair), text_of(pair["chosen"]), pair["weight"]) == (("dpo", "regeneration", None), "Two.", 0.5)
    assert (pair["opinion"], pair["other_opinion"]) == (-1, 0)
    assert told(alone) == (None, "other_signal")


def test_a_retracted_thumb_is_gone_and_a_superseded_one_has_its_new_value_and_both_ids(log, candidates):
    log.say("retract", (about := log.answer()), supersedes=log.thumb(about))
    first = log.thumb(about := log.answer())
    second = log.say("supersede", about, name="thumb", supersedes=first, value_bool=False)
    (row,) = candidates()
    assert (told(row), row["event_ids"]) == (("kto", "thumb", False), sorted([about, first, second]))


def test_of_one_raters_thumbs_on_an_answer_the_latest_counts(log, candidates):
    about = log.answer()
    log.thumb(about)
    last = log.thumb(about, up=False)
    assert [(each["event_id"], each["label"]) for each in candidates()] == [(last, False)]


def test_a_tombstone_takes_the_event_or_all_about_the_answer_out(log, candidates):
    log.erase(log.thumb(log.answer()))
    about = log.answer()
    log.thumb(about)
    log.correct(about, "Right.")
    log.prefer(other := log.answer(), about)
    log.erase(about, "generation")
    kept = log.thumb(other, source_id="bob")
    assert [each["event_id"] for each in candidates()] == [kept]


def test_what_is_no_persons_word_on_a_delivered_model_answer_is_left_out(log, candidates):
    log.thumb(log.answer(), source_type="judge")
    log.thumb(log.answer(), name="harmful")
    log.say("rating", log.answer(), value_num=5.0)
    log.thumb(log.answer(answer="  "))
    log.thumb(log.answer(answer="Please try again."))
    log.thumb(log.answer(outcome="blocked", failed_checks=["secrets"]), up=False)
    log.thumb(log.answer(prompt=None))
    log.thumb(log.answer(prompt=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]))
    log.thumb(gone := log.answer())
    log.undelivered(gone)
    parameters = replace(PARAMETERS, service_texts=("Please try again.",))
    assert [told(each) for each in candidates(parameters)] == [
        (None, "not_by_a_person"),
        (None, "other_metric"),
        (None, "other_signal"),
        ("kto", "no_text"),
        ("kto", "service_text"),
        ("kto", "blocked"),
        (None, "no_text"),
        (None, "unreadable_prompt"),
        (None, "undelivered"),
    ]


def test_of_a_metric_where_lower_is_better_false_is_desirable(log, candidates):
    log.thumb(log.answer(), up=False, name="harmful")
    parameters = replace(PARAMETERS, thumb_metrics=("harmful",), lower_is_better=("harmful",))
    assert [told(each) for each in candidates(parameters)] == [("kto", "thumb", True)]


def test_all_who_do_not_say_who_they_are_are_one_rater_of_their_tenant(log, candidates):
    log.thumb(log.answer(), source_id=None)
    log.thumb(log.answer(), source_id=None)
    log.thumb(log.answer(tenant="globex"), source_id=None, tenant="globex")
    raters = [each["rater"] for each in candidates()]
    assert raters[0] == raters[1] != raters[2]


def test_a_row_that_is_no_signal_is_refused(log, tmp_path):
    log.thumb(log.answer())
    rows = log.rows(tmp_path / "out")
    at = rows.schema.get_field_index("kind")
    rows = rows.set_column(at, rows.schema.field(at), [["retract"]])
    with pytest.raises(InvalidRequest, match=r"'retract', which is no signal; allowed: comment"):
        to_candidates(rows, PARAMETERS)


def chat(*texts):
    return [{"role": "user" if at % 2 == 0 else "assistant", "content": text} for at, text in enumerate(texts)]


def test_later_turns_stay_in_the_split_of_their_conversation_unless_the_split_is_by_prompt():
    first, later = chat("Why is  it so?"), chat("why is it SO?", "Because.", "And then?")
    assert split_key("acme", first, "conversation") == split_key("acme", later, "conversation")
    assert split_key("acme", first, "prompt") != split_key("acme", later, "prompt")
    assert split_key("acme", first, "conversation") != split_key("globex", first, "conversation")


def test_the_place_of_a_prompt_is_the_same_for_ever():
    # A vault holds only as long as this does: never change it.
    assert split_key("acme", chat("Why is the sky blue?"), "conversation") == 3358923352080941512


@given(st.integers(0, 2**64 - 1), st.sampled_from([0.0, 0.1, 0.25]), st.sampled_from([0.05, 0.2, 0.5]))
def test_another_eval_share_moves_no_prompt_into_or_out_of_the_vault(place, vault, other):
    one = assign_split(place, CurationParameters(vault_share=vault, eval_share=0.1))
    two = assign_split(place, CurationParameters(vault_share=vault, eval_share=other))
    assert (one == "vault") == (two == "vault")


def test_splits_have_their_shares_of_prompts():
    found = [assign_split(split_key("acme", chat(f"Question {n}"), "prompt"), PARAMETERS) for n in range(4000)]
    shares = {split: found.count(split) / 4000 for split in SPLITS}
    # Four standard deviations.
    assert shares == pytest.approx({"train": 0.8, "eval": 0.1, "vault": 0.1}, abs=0.026)


@given(st.text(max_size=40))
def test_white_space_around_a_text_and_its_kind_make_no_other_prompt(text):
    assert normalise(f"  {text}\n") == normalise(text) == normalise(text.replace(" ", " \t"))


def test_shares_are_the_decimals_that_were_written():
    assert exact(0.05) == Fraction(1, 20)
    assert exact(1e-05) == Fraction(1, 100_000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rater_share": 0.0}, "rater_share is 0.0; it must be above 0"),
        ({"rater_share": float("nan")}, "rater_share is nan"),
        ({"near_duplicate": 1.5}, "near_duplicate is 1.5; it must be above 0 and at most 1"),
        ({"eval_share": 0.5, "vault_share": 0.5}, "leave nothing to train on"),
        ({"min_raters": 0}, "min_raters is 0; it must be 1 or more"),
        ({"kto_batch_size": 1}, "kto_batch_size is 1; it must be 2 or more"),
        ({"guard_checks": ("pi",)}, "'pi' is no check; the guard may have: secrets, pii"),
        ({"split_by": "user"}, "split_by is 'user'; allowed: conversation, prompt"),
    ],
)
def test_impossible_parameters_are_refused_with_what_is_allowed(changes, message):
    with pytest.raises(InvalidRequest, match=message):
        CurationParameters(**changes)
