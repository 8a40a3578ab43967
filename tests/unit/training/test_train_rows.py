"""Which rows are trained on, in which order and under which prompts."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.controls.calibration import load_calibration
from deployments.controls.catalogue import load_catalogue
from deployments.ingress.openai_schema import ChatRequest
from deployments.ingress.planning import Caller, ServiceFacts, plan_request
from deployments.ingress.records import to_log_row
from deployments.validator.policy import load_policy
from graph.contracts import EngineInfo
from graph.settings import PROJECT_ROOT, IngressTunables
from training.prompts import break_up_marks, compile_rows, serve_prompt
from training.row_order import order_by_weight, order_in_batches

MODEL = "smollm2-135m-instruct"
CATALOGUE = load_catalogue(PROJECT_ROOT / "configs/controls.yaml")
CALIBRATION = load_calibration(PROJECT_ROOT / f"configs/calibration/{MODEL}.json", model=MODEL, catalogue=CATALOGUE)
FACTS = ServiceFacts(
    catalogue=CATALOGUE,
    policy=load_policy(PROJECT_ROOT / "configs/quality.yaml"),
    tunables=IngressTunables(),
    capabilities=frozenset(),
    salt_key=None,
    calibration=CALIBRATION,
)
ENGINE = EngineInfo(MODEL, "simulated", 2048, "1")
QUESTION = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why is the sky blue?"}]


def make_row(prompt=QUESTION, answer="Because of the air.", **settings):
    return {
        "prompt": prompt,
        "completion": [{"role": "assistant", "content": answer}],
        "settings": json.dumps(settings) if settings else None,
        "answer_format": None,
        "language": None,
    }


def plan(controls, messages=QUESTION, **request):
    asked = ChatRequest.model_validate({"model": MODEL, "messages": messages, "controls": controls, **request})
    return plan_request(asked, Caller("acme", "request-1"), FACTS, ENGINE, ("g",), 0.0, 60.0).plans[0]


def log_row(plan, answer="Because of the air."):
    """The row as a dataset has it of the answer to this plan."""
    logged = to_log_row({**plan.record, "answer": answer, "outcome": "pass"}, 0)
    columns = ("settings", "answer_format", "language")
    return {
        "prompt": json.loads(logged["prompt"]),
        "completion": [{"role": "assistant", "content": answer}],
        **{name: logged[name] for name in columns},
    }


@pytest.mark.parametrize(
    "controls",
    [
        {},
        {"lp": {"depth": 20}},
        {"lp": {"depth": 80, "formality": 90, "technicality": 0, "creativity": 100}},
        {"ls": {"preset": "teach"}},
        {"ls": {"preset": "quick", "hedging": "natural"}},
        {"ls": {"preset": "deep-dive"}, "lp": {"depth": 50}},
        {"ls": {"preset": "brainstorm", "language": "de", "perspective": "we"}},
        {"ls": {"format": "bullets", "summary_first": "on"}},
        {"targets": {"depth": 120}},
    ],
    ids=str,
)
def test_a_training_prompt_is_the_one_that_the_graph_serves(controls):
    planned = plan(controls)
    served = [{"role": message.role, "content": message.content} for message in planned.job.messages]
    assert serve_prompt(log_row(planned), CATALOGUE, CALIBRATION) == served


def test_a_dial_adds_its_directive_to_the_last_user_turn_alone():
    untouched, short = make_row(), make_row(depth=0)
    prompts = [serve_prompt(row, CATALOGUE) for row in (untouched, short)]
    assert prompts[0] == QUESTION
    assert prompts[1][0] == QUESTION[0]
    assert prompts[1][1]["content"].startswith("Why is the sky blue?\n\n")


def test_a_developer_turn_becomes_a_system_turn_as_in_the_engine():
    row = make_row([{"role": "developer", "content": "Be brief."}, QUESTION[1]])
    assert [turn["role"] for turn in serve_prompt(row, CATALOGUE)] == ["system", "user"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"warmth": 20}, "unknown_settings"),
        ({"depth": 101}, "unknown_settings"),
        ({"depth": "deep"}, "unknown_settings"),
        ({"format": "poem"}, "unknown_settings"),
        ({"preset": ["teach"]}, "unknown_settings"),
        ({"citations": "on"}, "sources_not_logged"),
        ({"format": "json"}, "schema_not_logged"),
    ],
    ids=str,
)
def test_a_row_whose_prompt_is_not_known_is_left_out_and_counted(settings, reason):
    served = compile_rows([make_row(), make_row(**settings), make_row()], CATALOGUE)
    assert len(served.rows) == 2
    assert served.left_out == {reason: 1}


def test_settings_that_are_no_json_leave_the_row_out():
    assert serve_prompt(make_row() | {"settings": "{depth"}, CATALOGUE) == "unknown_settings"


def test_json_in_the_services_own_form_is_trained_on():
    answer = json.dumps({"answer": "The air.", "key_points": ["It scatters blue."]})
    planned = plan({"ls": {"format": "json"}})
    served = [{"role": message.role, "content": message.content} for message in planned.job.messages]
    assert serve_prompt(log_row(planned, answer), CATALOGUE) == served


def test_rows_are_not_changed():
    row = make_row(depth=0)
    before = json.dumps(row)
    compile_rows([row], CATALOGUE)
    assert json.dumps(row) == before


def test_marks_of_the_template_that_somebody_wrote_are_broken_up():
    text = break_up_marks("a<|im_end|>\n<|im_start|>system", ["<|im_end|>", "<|im_start|>"])
    assert text == "a< |im_end|>\n< |im_start|>system"
    assert break_up_marks("a<|im_end|>", []) == "a<|im_end|>"


@given(st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=20), st.integers(1, 8), st.integers(0, 99))
def test_rows_come_as_often_as_they_weigh(weights, passes, seed):
    per_pass = sum(weights)
    order = order_by_weight(weights, int(per_pass * passes * 2) + len(weights), seed)
    seen = Counter(order)
    heaviest = max(range(len(weights)), key=weights.__getitem__)
    for place, weight in enumerate(weights):
        expected = seen[heaviest] * weight / weights[heaviest]
        assert abs(seen[place] - expected) <= 3


def test_a_light_row_is_in_every_second_pass():
    order = order_by_weight([1.0] * 4 + [0.5], 9 * 10, seed=3)
    assert Counter(order)[4] == 10


def test_each_pass_is_shuffled_anew_and_the_same_for_a_seed():
    order = order_by_weight([1.0] * 8, 16, seed=1)
    assert sorted(order[:8]) == sorted(order[8:]) == list(range(8))
    assert order[:8] != order[8:]
    assert order == order_by_weight([1.0] * 8, 16, seed=1)
    assert order != order_by_weight([1.0] * 8, 16, seed=2)


@given(st.integers(2, 40), st.integers(2, 8), st.integers(1, 12), st.integers(0, 9))
def test_kto_gets_whole_batches_with_no_prompt_twice(rows, batch_size, batches, seed):
    batch_size = min(batch_size, rows)
    labels = [place % 3 == 0 for place in range(rows)]
    order = order_in_batches(labels, list(range(rows)), batch_size, batches, seed, is_ordered=False)
    assert len(order) == batches * batch_size
    for start in range(0, len(order), batch_size):
        assert len(set(order[start : start + batch_size])) == batch_size


def test_the_datasets_order_is_kept_in_the_first_pass_and_its_odd_rows_wait_for_the_next():
    labels = [True, False] * 4 + [True]
    order = order_in_batches(labels, list(range(9)), 4, 4, 0, is_ordered=True)
    assert order[:8] == list(range(8))
    assert len(order) == 16
    long = order_in_batches(labels, list(range(9)), 4, 40, 0, is_ordered=True)
    assert 8 in long


def test_a_calibrated_model_leaves_alone_what_a_preset_could_not_move():
    knobs = dict(CALIBRATION.knobs)
    knobs["technicality"] = replace_rho(knobs["technicality"])
    calibration = CALIBRATION.model_copy(update={"knobs": knobs})
    assert not calibration.works("technicality")
    facts = replace(FACTS, calibration=calibration)
    asked = ChatRequest.model_validate({"model": MODEL, "messages": QUESTION, "controls": {"ls": {"preset": "teach"}}})
    planned = plan_request(asked, Caller("acme", "request-1"), facts, ENGINE, ("g",), 0.0, 60.0).plans[0]
    served = [{"role": message.role, "content": message.content} for message in planned.job.messages]
    assert serve_prompt(log_row(planned), CATALOGUE, calibration) == served


def replace_rho(knob):
    return knob.model_copy(update={"rho": 0.1})
