"""From a real log and a real dataset: which prompts and votes the gate may use."""

import json
from dataclasses import replace

import pytest

from deployments.controls.catalogue import load_catalogue
from graph.errors import InvalidRequest, NotFound
from graph.settings import PROJECT_ROOT
from tests.curation_log import CurationLog, fill
from training.curate import LogSource, curate
from training.curation import CurationParameters, assign_split
from training.held_out import (
    Found,
    HeldOutPrompt,
    choose_prompts,
    parameters_of,
    read_log_prompts,
    read_prompt_file,
    read_votes,
    require_enough,
    trained_prompts,
)
from training.rows import split_key

CATALOGUE = load_catalogue(PROJECT_ROOT / "configs/controls.yaml")
HALF = CurationParameters(eval_share=0.4, vault_share=0.1)


@pytest.fixture
def log(tmp_path):
    return fill(CurationLog(tmp_path / "log"))


def make_dataset(log, tmp_path, parameters=HALF):
    return curate(tmp_path / "datasets", parameters, log=LogSource(log.write()))


def ask(text):
    return [{"role": "user", "content": text}]


def make_prompt(text, controls=None, before=()):
    return HeldOutPrompt(f"id-{text}-{controls}-{len(before)}", (*before, *ask(text)), controls or {})


def split_of(prompt, parameters=HALF):
    return assign_split(split_key("acme", prompt.messages, parameters.split_by), parameters)


# Prompts of the log


def test_only_prompts_of_the_eval_split_are_asked_and_none_that_was_trained_on(log, tmp_path):
    dataset = make_dataset(log, tmp_path)
    assert parameters_of(dataset) == HALF
    found = read_log_prompts(log.root, parameters_of(dataset), CATALOGUE)
    assert len(found.prompts) > 20
    assert {split_of(prompt) for prompt in found.prompts} == {"eval"}
    assert len(found.prompts) + found.left_out["other_split"] == 120
    trained = {json.dumps(prompt) for prompt in trained_prompts(dataset)}
    assert trained
    assert not trained & {json.dumps(list(prompt.messages)) for prompt in found.prompts}
    vault = read_log_prompts(log.root, HALF, CATALOGUE, "vault")
    assert {split_of(prompt) for prompt in vault.prompts} == {"vault"}
    with pytest.raises(InvalidRequest, match="'train' is not held out"):
        read_log_prompts(log.root, HALF, CATALOGUE, "train")


def test_erased_undelivered_repeated_and_the_gate_s_own_prompts_are_left_out(log):
    all_in = replace(HALF, eval_share=0.99, vault_share=0.0)
    log.erase(log.answer(prompt=ask("An erased question of some length?")), scope="generation")
    log.undelivered(log.answer(prompt=ask("An undelivered question of some length?")))
    log.answer(prompt=ask("A question by the gate itself?"), arm="challenger", extra={"purpose": "gate"})
    log.answer(prompt=ask("What is asked twice?"))
    log.answer(prompt=ask("What is asked twice?"))
    log.answer(prompt="no turns")
    found = read_log_prompts(log.write(), all_in, CATALOGUE)
    questions = {prompt.question for prompt in found.prompts}
    assert "What is asked twice?" in questions
    assert not any("erased" in each or "undelivered" in each or "the gate" in each for each in questions)
    assert (found.left_out["gate"], found.left_out["repeated"], found.left_out["unreadable"]) == (1, 1, 1)


def test_a_prompt_is_asked_with_what_was_set_by_hand(log):
    knob = {"value": 80, "source": "explicit"}
    receipt = {
        "lp": {"depth": knob, "creativity": {"value": 35, "source": "default"}},
        "ls": {"format": {"value": "steps", "source": "explicit"}},
    }
    log.answer(prompt=ask("By the receipt?"), controls=receipt)
    log.answer(prompt=ask("By the settings?"), settings={"depth": 20, "creativity": 35, "format": "markdown"})
    log.answer(prompt=ask("By unknown settings?"), settings={"loudness": 20})
    found = read_log_prompts(log.write(), replace(HALF, eval_share=0.99, vault_share=0.0), CATALOGUE)
    by_question = {prompt.question: prompt.controls for prompt in found.prompts}
    assert by_question["By the receipt?"] == {"lp": {"depth": 80}, "ls": {"format": "steps"}}
    assert by_question["By the settings?"] == {"lp": {"depth": 20}}
    assert found.left_out["unknown_settings"] == 1


def test_prompts_of_one_tenant_can_be_asked_alone(log):
    log.answer(prompt=ask("Of another house?"), tenant="other")
    every = replace(HALF, eval_share=0.99, vault_share=0.0)
    (prompt,) = read_log_prompts(log.write(), every, CATALOGUE, tenant="other").prompts
    assert prompt.question == "Of another house?"


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(NotFound, match="There is no log at"):
        read_log_prompts(tmp_path / "none", HALF, CATALOGUE)


# Which of them


def test_nearly_what_was_trained_on_is_not_asked():
    known = "What do you know of the tides in the old harbour this month, please?"
    found = Found((make_prompt(known.upper()), make_prompt("What of rust on ships?")), {})
    chosen = choose_prompts(found, [ask(known)], 0.85, 10, 0)
    assert [prompt.question for prompt in chosen.prompts] == ["What of rust on ships?"]
    assert chosen.left_out == {"near_training": 1}


def test_a_long_system_turn_that_all_share_makes_no_two_questions_alike():
    system = {"role": "system", "content": "You are the harbour office. " * 40}
    found = Found(tuple(make_prompt(text, before=(system,)) for text in ("What of rust?", "Why is ice cold?")), {})
    assert len(choose_prompts(found, [[system, *ask("How do bees see?")]], 0.85, 10, 0).prompts) == 2


def test_equal_questions_are_asked_once_for_each_controls():
    found = Found(
        (
            make_prompt("Why is it so?"),
            make_prompt("why is it so", {}, ()),
            make_prompt("Why is it so?", {"lp": {"depth": 9}}),
        ),
        {},
    )
    chosen = choose_prompts(found, [], 0.85, 10, 0)
    assert len(chosen.prompts) == 2
    assert chosen.left_out == {"repeated": 1}


def test_the_seed_chooses_when_there_are_more_than_the_limit():
    found = Found(tuple(make_prompt(f"Question {n} of {n * 7} things, number {n * n}?") for n in range(40)), {})
    one, same, other = (choose_prompts(found, [], 0.85, 10, seed) for seed in (1, 1, 2))
    assert one == same
    assert {p.prompt_id for p in one.prompts} != {p.prompt_id for p in other.prompts}
    assert one.left_out["over_limit"] == 30
    with pytest.raises(InvalidRequest, match="The limit is 0"):
        choose_prompts(found, [], 0.85, 0, 1)


def test_too_few_prompts_say_what_was_left_out_and_how_to_get_more():
    with pytest.raises(InvalidRequest, match="2 held-out prompts, and the gate needs at least 60") as error:
        require_enough(Found((make_prompt("a"), make_prompt("b")), {"gate": 3}), 60)
    assert "left out: 3 gate" in str(error.value)
    assert "--prompts FILE.jsonl" in str(error.value)
    require_enough(Found((make_prompt("a"),), {}), 1)


# Prompts of a file


def test_a_file_holds_one_prompt_a_line(tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = [
        {"messages": ask("Why?"), "controls": {"lp": {"depth": 10}}},
        {"messages": ask("How?")},
        {"messages": ask("How?")},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    found = read_prompt_file(path)
    assert [(p.question, p.controls) for p in found.prompts] == [("Why?", {"lp": {"depth": 10}}), ("How?", {})]
    assert found.left_out == {"repeated": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2: must be one JSON object"),
        ('{"prompt": "Why?"}', "line 2: must be one JSON object"),
        ('{"messages": "Why?"}', "line 2: messages must be a list of turns"),
        ('{"messages": [{"role": "assistant", "content": "So."}]}', "the last one is the user's"),
        ('{"messages": [{"role": "user", "content": "a"}], "controls": {"depth": 5}}', "an object with lp and ls"),
    ],
)
def test_a_line_that_is_no_prompt_is_named_by_its_number(tmp_path, line, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"messages": ask("Why?")}) + "\n" + line)
    with pytest.raises(InvalidRequest, match=message):
        read_prompt_file(path)
    with pytest.raises(NotFound, match="There is no file"):
        read_prompt_file(tmp_path / "none.jsonl")


# Votes


def test_votes_are_those_of_people_on_held_out_prompts_with_their_raters(log, tmp_path):
    dataset = make_dataset(log, tmp_path)
    held_out = read_votes(dataset, log.root)
    kinds = {"dpo": 0, "kto": 0}
    for method in kinds:
        kinds[method] = dataset.read(method, "eval").num_rows
    assert len(held_out.votes) == kinds["dpo"] + kinds["kto"] > 20
    assert sum(vote.other is not None for vote in held_out.votes) == kinds["dpo"]
    assert held_out.gone == 0
    assert len({vote.rater for vote in held_out.votes}) > 10
    assert {split_of(make_prompt(vote.prompt)) for vote in held_out.votes} == {"eval"}
    assert {vote.liked for vote in held_out.votes} == {True, False}


def test_what_was_erased_or_retracted_since_votes_no_more(log, tmp_path):
    dataset = make_dataset(log, tmp_path)
    before = {vote.event_id: vote for vote in read_votes(dataset, log.root).votes}
    erased, retracted = sorted(dataset.read("kto", "eval").to_pylist(), key=lambda row: row["event_id"])[:2]
    log.erase(erased["event_id"])
    (about,) = (each for each in retracted["event_ids"] if each.startswith("answer"))
    rater = json.loads(before[retracted["event_id"]].rater)[1]
    log.say("retract", about, supersedes=retracted["event_id"], source_id=rater)
    log.write()
    after = read_votes(dataset, log.root)
    assert before.keys() - {vote.event_id for vote in after.votes} == {erased["event_id"], retracted["event_id"]}
    assert after.gone == 2


def test_what_a_check_said_is_no_vote(log, tmp_path):
    for number in range(40):
        about = log.answer(answer=f"Use AKIAIOSFODNN7EXAMPLF and your key id {number}, then log in with it.")
        log.say("comment", about, text="hm", source_id=f"rater-{number}")
    dataset = make_dataset(log, tmp_path)
    sources = dataset.read("kto", "eval").column("source").to_pylist()
    assert "check" in sources
    assert len(read_votes(dataset, log.root).votes) == sources.count("thumb") + dataset.read("dpo", "eval").num_rows
