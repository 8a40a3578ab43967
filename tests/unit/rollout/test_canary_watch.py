import random
from dataclasses import replace

import pytest
from canary_support import (
    CHALLENGER,
    START_US,
    make_aliases,
    make_answer,
    make_thumb,
    make_undelivered,
)

from deployments.rollout import watch
from deployments.rollout.sequential import ArmCounts, Bounds, CanaryVerdict, Stage, judge_canary
from deployments.rollout.watch import CanaryTally, RolloutRules, canary_of, next_step, signals_of
from graph.errors import InvalidRequest

CANARY = canary_of(make_aliases((0.1, 0)))
CONTINUE = CanaryVerdict("continue", ("not yet",), {})


def tally(*rows, canary=CANARY, **rules):
    made = CanaryTally(canary, RolloutRules(**rules))
    made.add(rows)
    return made


def counted(*rows, canary=CANARY, **rules):
    """((champion's answers, failures), (canary's)) by signal, of the only stage."""
    counts = tally(*rows, canary=canary, **rules).counts()
    return {name: told(stage) for name, (stage,) in counts.items()}


def told(stage):
    return (stage.champion.answers, stage.champion.failures), (stage.canary.answers, stage.canary.failures)


# Which time


def test_there_is_no_canary_without_a_challenger_or_without_a_share():
    assert canary_of(make_aliases((0.1, 0), challenger=None)) is None
    assert canary_of(make_aliases()) is None
    assert canary_of(make_aliases((0.0, 0))) is None


def test_a_stage_lasts_from_one_share_to_the_next():
    canary = canary_of(make_aliases((0.1, 0), (0.1, 5), (0.0, 10), (0.5, 20)))
    assert [window.share for window in canary.windows] == [0.1, 0.0, 0.5]
    assert [canary.stage_at(START_US + at) for at in (-1, 0, 9, 10, 19, 20, 99)] == [None, 0, 0, None, None, 2, 2]
    assert canary.since_us == START_US


def test_stages_follow_each_other_when_a_clock_goes_back():
    canary = canary_of(make_aliases((0.1, 10), (0.2, 5), (0.5, 20)))
    assert [window.since_us - START_US for window in canary.windows] == [10, 10, 20]
    assert [canary.stage_at(START_US + at) for at in (9, 10, 20)] == [None, 1, 2]


def test_a_canary_begins_anew_with_another_champion_or_when_it_was_taken_away_between():
    before = make_aliases((0.1, 0))
    promoted = replace(before.history[-1], version=3, action="promote", champion="d" * 64, at_us=START_US + 50)
    aliases = replace(before, champion="d" * 64, history=(*before.history, promoted))
    assert canary_of(aliases).since_us == START_US + 50
    again = make_aliases((0.2, 100))
    cleared = replace(before.history[-1], challenger=None)
    aliases = replace(again, history=(*before.history, cleared, *again.history))
    assert canary_of(aliases).since_us == START_US + 100


# Which rows


def test_answers_of_both_arms_count_with_their_failures():
    rows = [make_answer(n, canary=n < 3, failed=n in (0, 3, 4)) for n in range(10)]
    assert counted(*rows)["validator"] == ((7, 2), (3, 1))
    assert counted(*rows)["errors"] == ((7, 0), (3, 0))


@pytest.mark.parametrize(
    "row",
    [
        make_answer(1, canary=True, extra={"purpose": "gate"}),
        make_answer(1, canary=True, adapter="d" * 64),
        make_answer(1, canary=False, adapter=CHALLENGER),
        make_answer(1, canary=True, at_us=START_US - 1),
        make_answer(1, canary=True, arm=None),
        make_answer(1, canary=True, arm="other"),
    ],
    ids=["the gate's", "another adapter's", "a champion's by the challenger", "too early", "no arm", "unknown arm"],
)
def test_what_nobody_drew_lots_for_does_not_count(row):
    assert counted(row)["errors"] == ((0, 0), (0, 0))


def test_degraded_and_blocked_answers_have_failed_and_what_was_not_judged_says_nothing():
    rows = [
        make_answer(1, canary=True, outcome="degraded"),
        make_answer(2, canary=True, outcome="blocked"),
        make_answer(3, canary=True, failed=None),
        make_answer(4, canary=True),
    ]
    found = counted(*rows)
    assert found["validator"] == ((0, 0), (3, 2))
    assert found["errors"] == ((0, 0), (4, 0))


def test_an_answer_that_never_arrived_is_an_error_and_no_failed_check():
    rows = [make_undelivered(1), make_answer(1, canary=True, failed=True), make_answer(2, canary=True)]
    found = counted(*rows)
    assert found["errors"] == ((0, 0), (2, 1))
    assert found["validator"] == ((0, 0), (1, 0))


def test_one_person_counts_only_so_often_in_an_arm_and_stage():
    rows = [make_answer(n, canary=True, failed=n < 2, person="ann") for n in range(9)]
    rows += [make_answer(n, canary=True, person="bob") for n in range(9, 12)]
    assert counted(*rows, outcomes_per_unit=4)["validator"] == ((0, 0), (7, 2))
    assert counted(*rows, outcomes_per_unit=1)["validator"] == ((0, 0), (2, 1))


def test_turns_of_one_conversation_are_one_unit_and_the_same_words_of_another_tenant_are_not():
    begun = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    later = [*begun, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and now?"}]
    rows = [make_answer(n, canary=True, prompt=prompt) for n, prompt in enumerate((begun, later, later))]
    assert counted(*rows, outcomes_per_unit=1)["errors"][1] == (1, 0)
    rows.append(make_answer(9, canary=True, prompt=begun, tenant="other"))
    assert counted(*rows, outcomes_per_unit=1)["errors"][1] == (2, 0)


def test_an_answer_without_a_prompt_in_the_log_is_known_by_its_hash():
    rows = [make_answer(n, canary=True, prompt=[], prompt_hash=f"hash-{n // 2}") for n in range(4)]
    for row in rows:
        row["prompt"] = None
    assert counted(*rows, outcomes_per_unit=1)["errors"][1] == (2, 0)


def test_no_more_answers_are_remembered_than_are_of_use(monkeypatch):
    monkeypatch.setattr(watch, "MAX_KEPT", 3)
    made = tally(*(make_answer(n, canary=n % 2 == 0) for n in range(10)))
    assert told(made.counts()["errors"][0]) == ((3, 0), (3, 0))
    assert made.left_out["more than are remembered"] == 4


# Thumbs


def test_the_latest_thumb_of_a_rater_on_an_answer_counts():
    rows = [
        make_answer(1, canary=True),
        make_thumb(1, True),
        make_thumb(1, False, ts_server_us=START_US + 99),
        make_thumb(1, True, rater="other"),
    ]
    assert counted(*rows)["thumbs"] == ((0, 0), (2, 1))


def test_a_retracted_thumb_is_none_and_a_superseded_one_has_its_new_value():
    rows = [
        make_answer(1, canary=True),
        make_answer(2, canary=True),
        make_answer(3, canary=True),
        make_thumb(1, False, event_id="one"),
        make_thumb(1, None, event_id="gone", kind="retract", name="retract", supersedes="one"),
        make_thumb(2, True, event_id="two"),
        make_thumb(2, False, event_id="new", kind="supersede", supersedes="two"),
        make_thumb(3, True, event_id="three"),
        make_thumb(3, False, event_id="not", kind="supersede", supersedes="three"),
        make_thumb(3, None, event_id="undo", kind="retract", name="retract", supersedes="not"),
    ]
    assert counted(*rows)["thumbs"] == ((0, 0), (2, 1))


def test_supersedes_that_name_each_other_change_nothing():
    rows = [
        make_answer(1, canary=True),
        make_thumb(1, True),
        make_thumb(1, False, event_id="a", kind="supersede", supersedes="b"),
        make_thumb(1, False, event_id="b", kind="supersede", supersedes="a"),
    ]
    assert counted(*rows)["thumbs"] == ((0, 0), (1, 0))


@pytest.mark.parametrize(
    "changes", [{"source_type": "judge"}, {"name": "helpful"}, {"kind": "rating", "value_num": 1.0}, {"up": None}]
)
def test_other_signals_are_no_thumbs(changes):
    up = changes.pop("up", False)
    assert counted(make_answer(1, canary=True), make_thumb(1, up, **changes))["thumbs"] == ((0, 0), (0, 0))


def test_one_rater_cannot_bring_a_canary_down():
    rows = [make_answer(n, canary=True) for n in range(50)]
    rows += [make_thumb(n, False, rater="angry") for n in range(50)]
    assert counted(*rows, outcomes_per_unit=3)["thumbs"] == ((0, 0), (3, 3))


# Stages, and the order of rows


def test_each_stage_has_its_own_counts_and_answers_move_when_its_beginning_is_learnt_late():
    rows = [make_answer(n, canary=n % 2 == 0) for n in range(20)]
    made = tally(*rows)
    assert told(made.counts()["errors"][0]) == ((10, 0), (10, 0))
    made.follow(canary_of(make_aliases((0.1, 0), (0.5, 12))))
    assert [told(stage) for stage in made.counts()["errors"]] == [((6, 0), (6, 0)), ((4, 0), (4, 0))]


def test_counts_do_not_depend_on_the_order_of_rows_nor_on_repeats():
    rng = random.Random(5)
    rows = [
        make_answer(n, canary=rng.random() < 0.5, failed=rng.random() < 0.3, person=f"p{rng.randrange(30)}")
        for n in range(300)
    ]
    about = [make_undelivered(n) for n in range(0, 300, 17)]
    about += [make_thumb(n, rng.random() < 0.5, rater=f"p{n % 7}") for n in range(0, 300, 3)]
    canary = canary_of(make_aliases((0.1, 0), (0.5, 150)))
    expected = tally(*rows, *about, canary=canary).counts()
    for _ in range(5):
        mixed = rng.sample(rows + about, len(rows) + len(about)) * 2
        assert tally(*mixed, canary=canary).counts() == expected
        piecewise = tally(canary=canary)
        for row in sorted(mixed, key=lambda row: row["kind"] != "generation"):
            piecewise.add([row])
        assert piecewise.counts() == expected
    assert sum(stage.canary.failures for stage in expected["validator"]) > 0


def test_rows_of_others_and_repeats_change_nothing_and_it_says_so():
    made = tally(make_answer(1, canary=True))
    assert made.add([make_answer(2, canary=True)])
    assert not made.add([make_answer(2, canary=True), make_answer(3, canary=True, adapter="d" * 64)])
    assert not made.add([make_thumb(3, True), make_undelivered(3)])
    assert made.add([make_undelivered(2)])
    assert not made.add([make_undelivered(2)])


# What to do


def counts_of(*canary_answers):
    stages = tuple(Stage(ArmCounts(100, 0), ArmCounts(answers, 0)) for answers in canary_answers)
    return dict.fromkeys(watch.SIGNALS, stages)


def test_a_stage_with_enough_outcomes_is_followed_by_the_next_share():
    canary = canary_of(make_aliases((0.01, 0)))
    assert next_step(canary, counts_of(49), CONTINUE, RolloutRules()).action == "wait"
    step = next_step(canary, counts_of(50), CONTINUE, RolloutRules())
    assert (step.action, step.share) == ("advance", 0.05)


def test_only_the_stage_that_runs_counts_for_the_next_and_after_the_last_there_is_none():
    canary = canary_of(make_aliases((0.01, 0), (0.05, 1)))
    assert next_step(canary, counts_of(500, 10), CONTINUE, RolloutRules()).action == "wait"
    assert next_step(canary_of(make_aliases((0.5, 0))), counts_of(500), CONTINUE, RolloutRules()).action == "wait"
    assert next_step(canary_of(make_aliases((0.1, 0))), counts_of(50), CONTINUE, RolloutRules()).share == 0.25


def test_a_verdict_comes_before_the_next_stage_and_a_canary_without_a_share_waits():
    canary = canary_of(make_aliases((0.01, 0)))
    bounds = {"validator": Bounds(0.2, 0.1, 0.3)}
    step = next_step(canary, counts_of(50), CanaryVerdict("roll_back", ("worse",), bounds), RolloutRules())
    assert (step.action, step.reason) == ("roll_back", "worse")
    paused = canary_of(make_aliases((0.01, 0), (0.0, 1)))
    assert next_step(paused, counts_of(50), CONTINUE, RolloutRules()).action == "wait"


def test_twenty_points_more_failures_are_found_within_200_answers_of_both_arms():
    answers = sorted(answers_until_rollback(seed, every=10) for seed in range(20))
    assert answers[10] <= 200
    assert answers[-1] <= 500


def answers_until_rollback(seed, every):
    """With a share of one half and a look after so many answers."""
    rng, rules = random.Random(seed), RolloutRules()
    made = CanaryTally(canary_of(make_aliases((0.5, 0))), rules)
    for number in range(1, 2001):
        canary = rng.random() < 0.5
        made.add([make_answer(number, canary=canary, failed=rng.random() < (0.25 if canary else 0.05))])
        if number % every == 0:
            counts = made.counts()
            step = next_step(made.canary, counts, judge_canary(signals_of(counts, rules), rules.canary), rules)
            if step.action == "roll_back":
                return number
    return 2001


def test_thumbs_are_too_rare_for_promotion_to_wait_for_them():
    signals = signals_of(counts_of(1), RolloutRules(validator_margin=0.1))
    assert {name: signal.margin for name, signal in signals.items()} == {
        "validator": 0.1,
        "errors": 0.05,
        "thumbs": None,
    }


@pytest.mark.parametrize(
    "rules",
    [
        {"shares": ()},
        {"shares": (0.5, 0.1)},
        {"shares": (0.0,)},
        {"shares": (0.5, 1.5)},
        {"stage_answers": 0},
        {"outcomes_per_unit": 0},
    ],
)
def test_rules_that_cannot_be_followed_are_refused(rules):
    with pytest.raises(InvalidRequest):
        RolloutRules(**rules)
