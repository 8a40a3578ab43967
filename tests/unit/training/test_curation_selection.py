"""From candidates to the rows of each split, over real exports of real logs."""

import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import InvalidRequest
from tests.curation_log import CurationLog, fill
from training.curation import METHODS, SPLITS, CurationParameters, assign_split
from training.near_duplicates import jaccard, shingle
from training.rows import split_key, to_candidates
from training.selection import ROW_SCHEMAS, rater_limit, select

FEW = CurationParameters(rater_share=0.5, min_raters=2, eval_share=0.2, vault_share=0.2, kto_batch_size=2)
"""For logs of a few raters."""
ALL_TRAIN = replace(FEW, rater_share=1.0, min_raters=1, eval_share=0.0, vault_share=0.0)
"""For logs of a few rows: every row lands in the split 'train'."""


@pytest.fixture
def log(tmp_path):
    return CurationLog(tmp_path / "log")


@pytest.fixture
def chosen(log, tmp_path):
    """The selection of all that the log holds."""

    def chosen(parameters=ALL_TRAIN, erased=frozenset()):
        return select(to_candidates(log.rows(tmp_path / "out"), parameters), parameters, erased)

    return chosen


def rows_of(selection, method, *splits):
    tables = [selection.methods[method].tables[split] for split in splits or SPLITS]
    assert all(table.schema.equals(ROW_SCHEMAS[method]) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def left_out(selection, method):
    return selection.report["methods"][method]["left_out"]


def both_classes(log):
    """Rows beside those of a test, so that KTO has what it needs."""
    log.thumb(log.answer(), source_id="x")
    log.thumb(log.answer(), up=False, source_id="y")


def test_every_candidate_is_among_the_rows_or_counted_under_one_reason(log, tmp_path):
    fill(log)
    log.thumb(about := log.answer(failed_checks=["pii"], outcome="degraded"))
    log.say("rating", about, value_num=2.0)
    candidates = to_candidates(log.rows(tmp_path / "out"), CurationParameters())
    selection = select(candidates, CurationParameters())
    for method in METHODS:
        report = selection.report["methods"][method]
        assert report["candidates"] == report["rows"] + sum(report["left_out"].values())
        assert report["usable"]
        assert report["rows"] == sum(report["splits"][split]["rows"] for split in SPLITS)
        assert report["rows"] == len(rows_of(selection, method)) > 30
    of_method = Counter(candidates.column("method").to_pylist())
    assert {method: selection.report["methods"][method]["candidates"] for method in METHODS} == {
        method: of_method[method] for method in METHODS
    }
    assert selection.report["for_no_method"] == {}
    assert left_out(selection, "kto")["liked_but_failed_check"] == 1


def test_candidates_in_any_order_make_the_same_dataset(log, tmp_path):
    candidates = to_candidates(fill(log).rows(tmp_path / "out"), CurationParameters())
    first = select(candidates, CurationParameters())
    places = list(range(candidates.num_rows))
    random.Random(3).shuffle(places)
    second = select(candidates.take(pa.array(places)), CurationParameters())
    assert first.report == second.report
    assert (first.row_ids_sha256, first.event_ids) == (second.row_ids_sha256, second.event_ids)
    for method in METHODS:
        for split in SPLITS:
            assert first.methods[method].tables[split].equals(second.methods[method].tables[split])


def test_no_prompt_is_in_two_splits_even_with_other_answers_and_case(log, chosen):
    for number in range(60):
        prompt = f"What of number {number // 2}?" if number % 2 else f"WHAT of  number {number // 2}?"
        about = log.answer(prompt=[{"role": "user", "content": prompt}], answer=f"Answer {number} says {number * 3}.")
        log.thumb(about, up=number % 3 > 0, source_id=f"r{number % 6}")
    selection = chosen(FEW)
    prompts = {
        split: {row["prompt"][0]["content"].lower().replace("  ", " ") for row in rows_of(selection, "kto", split)}
        for split in SPLITS
    }
    assert all(prompts.values())
    assert sum(len(each) for each in prompts.values()) == len(set().union(*prompts.values())) == 30


def test_a_later_turn_of_a_vault_conversation_is_never_trained_on(log, chosen):
    for number in range(40):
        first = [{"role": "user", "content": f"Topic {number}?"}]
        log.thumb(log.answer(prompt=first, answer=f"It is {number}."), up=number % 2 == 0, source_id=f"r{number % 5}")
        later = [*first, {"role": "assistant", "content": f"It is {number}."}, {"role": "user", "content": "More?"}]
        log.thumb(log.answer(prompt=later, answer=f"More {number}."), up=number % 3 == 0, source_id=f"r{number % 4}")
    selection = chosen(FEW)
    held_out = {row["prompt"][0]["content"] for row in rows_of(selection, "kto", "vault", "eval")}
    trained = {row["prompt"][0]["content"] for row in rows_of(selection, "kto", "train")}
    assert held_out
    assert trained
    assert held_out.isdisjoint(trained)


def same(log, **changes):
    """One more answer to the same question with the same text."""
    return log.answer(prompt=[{"role": "user", "content": "Same?"}], **{"answer": "Quite the same.", **changes})


def test_of_equal_answers_most_raters_decide_and_one_row_stays_with_all_ids_of_the_winners(log, chosen):
    both_classes(log)
    ups = [(about := same(log), log.thumb(about, source_id=rater)) for rater in ("a", "b")]
    lost = log.thumb(same(log, answer="quite the  SAME."), up=False, source_id="c")
    selection = chosen()
    (row,) = [row for row in rows_of(selection, "kto") if row["prompt"][0]["content"] == "Same?"]
    assert row["label"] is True
    assert row["event_ids"] == sorted(id for pair in ups for id in pair)
    assert lost not in selection.event_ids
    assert left_out(selection, "kto") == {"contradicted": 1, "duplicate": 1}


def test_a_tie_takes_all_out_and_one_rater_has_one_vote_the_latest(log, chosen):
    both_classes(log)
    for _ in range(5):
        log.thumb(same(log), source_id="spammer")
    log.thumb(same(log), up=False, source_id="b")
    assert left_out(chosen(), "kto") == {"contradicted": 6}
    log.thumb(same(log), up=False, source_id="spammer")
    selection = chosen()
    assert left_out(selection, "kto") == {"contradicted": 5, "duplicate": 1}
    assert len(rows_of(selection, "kto")) == 3


def test_what_a_hard_check_said_stands_against_any_number_of_votes(log, chosen):
    both_classes(log)
    log.say("comment", same(log, failed_checks=["pii"], outcome="degraded"), text="hm")
    for rater in "abc":
        log.thumb(same(log), source_id=rater)
    selection = chosen()
    (row,) = [row for row in rows_of(selection, "kto") if row["prompt"][0]["content"] == "Same?"]
    assert (row["label"], row["source"]) == (False, "check")


def test_opposite_preferences_about_the_same_two_answers_cancel(log, chosen):
    one, two = same(log, answer="One."), same(log, answer="Two.")
    log.prefer(one, two, "this", source_id="a")
    log.prefer(two, one, "this", source_id="b")
    assert left_out(chosen(), "dpo") == {"contradicted": 2}
    log.prefer(two, one, "this", source_id="c")
    (pair,) = rows_of(chosen(), "dpo")
    assert pair["chosen"][0]["content"] == "Two."


LONG = " ".join(f"{number} of {number * 7}," for number in range(60)) + " "


def test_near_duplicates_of_one_verdict_go_and_those_of_two_verdicts_both_stay(log, chosen):
    prompt = [{"role": "user", "content": "Long?"}]
    log.thumb(log.answer(prompt=prompt, answer=LONG), source_id="a")
    log.thumb(log.answer(prompt=prompt, answer=LONG + "indeed."), source_id="b")
    log.thumb(log.answer(prompt=prompt, answer=LONG + "Shall I go on?"), up=False, source_id="c")
    assert jaccard(shingle(LONG, ""), shingle(LONG + "Shall I go on?", "")) > ALL_TRAIN.near_duplicate
    selection = chosen()
    assert sorted(row["label"] for row in rows_of(selection, "kto")) == [False, True]
    assert left_out(selection, "kto") == {"near_duplicate": 1}


@pytest.mark.parametrize(
    ("evidence", "is_kept"),
    [
        ((), False),
        (("copied",), True),
        (("up",), True),
        (("copied", "down"), False),
        (("copied", "regenerated"), False),
        (("preferred",), True),
        (("lost",), False),
        (("copied", "lost"), False),
    ],
)
def test_a_regeneration_counts_only_if_its_second_answer_was_kept(log, chosen, evidence, is_kept):
    first, second = log.answer(answer="One."), log.answer(answer="Two.")
    log.implicit(first, "regenerated", other_generation_id=second)
    for each in evidence:
        if each in ("up", "down"):
            log.thumb(second, up=each == "up")
        elif each in ("preferred", "lost"):
            log.prefer(second, "not-in-the-log", "this" if each == "preferred" else "other")
        else:
            log.implicit(second, each)
    selection = chosen()
    assert [row["source"] for row in rows_of(selection, "dpo")] == ["regeneration"] * is_kept
    assert left_out(selection, "dpo").get("not_kept", 0) == (not is_kept)


def test_evidence_that_was_erased_keeps_no_regeneration(log, chosen):
    first, second = log.answer(answer="One."), log.answer(answer="Two.")
    log.implicit(first, "regenerated", other_generation_id=second)
    copied = log.implicit(second, "copied")
    assert len(rows_of(chosen(), "dpo")) == 1
    assert left_out(chosen(erased={copied}), "dpo") == {"not_kept": 1}


def test_a_row_of_which_any_part_was_erased_since_the_export_is_left_out(log, chosen):
    both_classes(log)
    first = log.thumb(about := log.answer())
    second = log.say("supersede", about, name="thumb", supersedes=first, value_bool=False)
    assert len(rows_of(chosen(), "kto")) == 3
    for id in (about, first, second):
        selection = chosen(erased={id})
        assert left_out(selection, "kto") == {"erased": 1}
        assert selection.event_ids.isdisjoint({about, first, second})


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 20), st.integers(0, 30))
def test_the_limit_of_a_rater_is_the_largest_that_keeps_all_under_the_share(counts, parts, others):
    share = Fraction(1, parts)

    def holds(limit):
        return limit <= share * (others + sum(min(count, limit) for count in counts))

    limit = rater_limit(counts, share, others)
    assert limit == max(each for each in range(max(counts) + 1) if holds(each))


def test_one_rater_with_a_third_of_the_rows_keeps_no_more_than_the_share(log, tmp_path):
    fill(log, answers=140)
    for _ in range(70):
        log.thumb(log.answer(), source_id="poison")
    parameters = CurationParameters()
    selection = select(to_candidates(log.rows(tmp_path / "out"), parameters), parameters)
    report = selection.report["methods"]["kto"]
    kept = {row["event_id"] for row in rows_of(selection, "kto")}
    exported = log.rows(tmp_path / "out").to_pylist()
    poisoned = [row for row in exported if row["source_id"] == "poison" and row["event_id"] in kept]
    assert report["largest_rater_before"] == 70
    assert len(poisoned) == report["rater_limit"] <= 0.05 * report["rows"]
    assert report["left_out"] == {"rater_limit": 210 - report["rows"]}


def test_a_kto_train_split_is_interleaved_with_no_prompt_twice_in_a_batch_and_weights(log, tmp_path):
    fill(log)
    for number in range(30):
        about = log.answer(
            prompt=[{"role": "user", "content": f"Often asked {number % 3}?"}],
            answer=f"Reply {number} of {number * 5}.",
        )
        log.thumb(about, source_id=f"rater-{number % 24}")
    parameters = CurationParameters(kto_batch_size=8)
    selection = select(to_candidates(log.rows(tmp_path / "out"), parameters), parameters)
    rows = rows_of(selection, "kto", "train")
    training = selection.report["methods"]["kto"]["training"]
    assert training["equal_prompts_in_a_batch"] == 0
    for start in range(0, len(rows) - 7, 8):
        batch = rows[start : start + 8]
        assert len({row["prompt"][0]["content"] for row in batch}) == 8
        assert {row["label"] for row in batch} == {True, False}
    desirable = sum(row["label"] for row in rows)
    assert training["desirable_weight"] == 1
    assert training["undesirable_weight"] == pytest.approx(desirable / (len(rows) - desirable))


def test_another_seed_gives_another_order_and_the_same_splits(log, tmp_path):
    candidates = to_candidates(fill(log).rows(tmp_path / "out"), CurationParameters())
    one, two = (select(candidates, CurationParameters(seed=seed)) for seed in (1, 2))
    for split in SPLITS:
        ids = [[row["event_id"] for row in rows_of(each, "kto", split)] for each in (one, two)]
        assert ids[0] != ids[1]
        assert sorted(ids[0]) == sorted(ids[1])


def fault(selection, method):
    chosen = selection.methods[method]
    assert not chosen.event_ids
    assert not chosen.row_ids
    assert all(table.num_rows == 0 for table in chosen.tables.values())
    assert selection.report["methods"][method]["reason"] == chosen.fault.message
    return chosen.fault


def test_a_method_without_rows_says_what_was_left_out_and_what_to_send(log, chosen):
    log.thumb(log.answer(failed_checks=["pii"], outcome="degraded"))
    selection = chosen()
    assert fault(selection, "kto").code == fault(selection, "sft").code == "no_feedback"
    assert "Left out: 1 liked_but_failed_check. Send thumbs" in fault(selection, "kto").message


@pytest.mark.parametrize("up", [True, False])
def test_thumbs_of_one_class_cannot_train_kto(log, chosen, up):
    for number in range(4):
        log.thumb(log.answer(), up=up, source_id=f"r{number}")
    found = fault(chosen(), "kto")
    assert found.code == "one_class"
    assert f"all 4 rows are {'desirable' if up else 'undesirable'}" in found.message


def test_a_train_split_of_one_class_cannot_train_kto(log, chosen):
    for number in range(40):
        prompt = [{"role": "user", "content": f"What of {number}?"}]
        is_trained = assign_split(split_key("acme", prompt, "conversation"), FEW) == "train"
        log.thumb(log.answer(prompt=prompt), up=is_trained, source_id=f"r{number % 8}")
    found = fault(chosen(FEW), "kto")
    assert found.code == "one_class"
    assert "rows of the split 'train' are desirable" in found.message


def test_too_few_raters_are_named_with_how_many_are_needed(log, chosen):
    both_classes(log)
    for number in range(6):
        log.thumb(log.answer(), up=number % 2 == 0, source_id="ann")
    found = fault(chosen(replace(ALL_TRAIN, rater_share=0.05)), "kto")
    assert found.code == "too_few_raters"
    assert "its 8 rows come from 3 raters" in found.message
    assert "20 are needed" in found.message
    assert fault(chosen(replace(ALL_TRAIN, min_raters=4)), "kto").code == "too_few_raters"


def test_an_empty_split_is_named_with_the_counts_and_the_way_out(log, chosen):
    for number in range(6):
        about = log.answer(prompt=[{"role": "user", "content": "Begin."}], answer=f"Answer {number} of {number * 9}.")
        log.thumb(about, up=number % 2 == 0, source_id=f"r{number}")
    found = fault(chosen(FEW), "kto")
    assert found.code == "empty_split"
    assert "1 different prompt" in found.message
    assert "split by 'prompt'" in found.message


def test_a_split_whose_share_is_nought_may_be_empty(log, chosen):
    both_classes(log)
    selection = chosen(ALL_TRAIN)
    assert selection.methods["kto"].fault is None
    assert len(rows_of(selection, "kto", "train")) == 2


def test_an_event_in_two_inputs_is_refused(log, tmp_path):
    log.thumb(log.answer())
    candidates = to_candidates(log.rows(tmp_path / "out"), FEW)
    with pytest.raises(InvalidRequest, match="is in the inputs twice") as error:
        select(pa.concat_tables([candidates, candidates]), FEW)
    assert error.value.code == "repeated_event"
