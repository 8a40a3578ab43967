"""Raw outputs of the model: what is asked, what a line keeps, what a run writes."""

import asyncio
import inspect
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmarks.validation import raw as command
from benchmarks.validation.corpus import HALVES, Corpus, CorpusError, Record, half, load_corpus
from benchmarks.validation.raw import count_outputs, generate_all, plan_ask
from benchmarks.validation.raw_outputs import read_outputs, to_line, write_outputs
from benchmarks.validation.raw_settings import MAX_DEPTH, RawAsk, choose_questions, draw_asks
from benchmarks.validation.shipped import read_args, read_facts
from deployments.generator.simulated import SimulatedEngine, SimulatedSettings
from deployments.generator.vllm_engine import VllmEngine
from graph.contracts import CheckContext, EngineInfo
from graph.errors import Unavailable
from graph.settings import VllmSettings
from tests.raw_output import TEXT, raw

FACTS = read_facts()
ENGINE = EngineInfo("a-model", "vllm", 2048, "0")
CORPUS = load_corpus()
ASKS = draw_asks(CORPUS, FACTS.catalogue, 600, 7)


def plan_context(ask: RawAsk) -> CheckContext:
    return plan_ask(ask, FACTS, ENGINE).context


def test_the_same_seed_draws_the_same_and_another_seed_something_else() -> None:
    assert draw_asks(CORPUS, FACTS.catalogue, 40, 7) == ASKS[:40]
    assert draw_asks(CORPUS, FACTS.catalogue, 40, 8) != ASKS[:40]
    assert [ask.id for ask in ASKS[:3]] == ["raw-001", "raw-002", "raw-003"]


def test_questions_are_of_all_parts_and_of_both_halves_and_none_comes_twice() -> None:
    records = [ask.record for ask in ASKS]
    assert len(set(records)) == len(records)
    assert {half(record) for record in records} == set(HALVES)
    for part in (CORPUS.clean, CORPUS.hard, CORPUS.languages):
        assert set(part) & set(records)
    assert set(records) <= set(CORPUS.right)


def test_a_new_record_takes_the_place_of_one_question_at_most() -> None:
    new = Record("new-01", "new", "explain", "en", "What is new?", TEXT)
    before, after = choose_questions(CORPUS.clean, 50, 7), choose_questions((*CORPUS.clean, new), 50, 7)
    assert len(set(before) & set(after)) >= 49


def test_another_seed_asks_other_questions() -> None:
    assert len(set(choose_questions(CORPUS.clean, 60, 7)) & set(choose_questions(CORPUS.clean, 60, 8))) < 30


def test_more_questions_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 questions are wanted, and the corpus has 1"):
        choose_questions(CORPUS.clean[:1], 2, 7)


def test_every_dial_is_set_and_no_answer_is_to_be_long() -> None:
    depths = [ask.controls["lp"]["depth"] for ask in ASKS]
    assert all(ask.controls["lp"].keys() == FACTS.catalogue.lp.keys() for ask in ASKS)
    assert min(depths) < 6
    assert MAX_DEPTH - 6 < max(depths) <= MAX_DEPTH
    assert max(ask.controls["lp"]["formality"] for ask in ASKS) > 95
    assert max(plan_context(ask).target_words or 0 for ask in ASKS) < 250


def test_shares_of_formats_languages_and_ways_of_sampling_are_about_those_promised() -> None:
    def share(which: Sequence[bool]) -> float:
        return sum(which) / len(which)

    assert share([ask.controls["ls"]["format"] == "markdown" for ask in ASKS]) == pytest.approx(0.55, abs=0.06)
    assert {ask.controls["ls"]["format"] for ask in ASKS} == {"markdown", "plain", "bullets", "steps", "json"}
    assert share(["language" in ask.controls["ls"] for ask in ASKS]) == pytest.approx(0.15, abs=0.05)
    by_hand = [ask.sampling for ask in ASKS if "temperature" in ask.sampling]
    assert len(by_hand) / len(ASKS) == pytest.approx(0.4, abs=0.06)
    assert all(1.0 <= sampling["temperature"] <= 1.5 and sampling["repetition_penalty"] == 1.0 for sampling in by_hand)
    limits = [sampling["max_tokens"] for sampling in by_hand if "max_tokens" in sampling]
    assert len(limits) / len(by_hand) == pytest.approx(0.3, abs=0.1)
    assert all(20 <= limit <= 60 for limit in limits)


def test_another_language_is_never_that_of_the_question() -> None:
    switched = [ask for ask in ASKS if "language" in ask.controls["ls"]]
    assert all(ask.controls["ls"]["language"] not in ("auto", ask.record.language) for ask in switched)


def test_who_does_not_sample_by_hand_sets_nothing_but_the_seed() -> None:
    assert all(ask.sampling.keys() == {"seed"} for ask in ASKS if "temperature" not in ask.sampling)
    assert len({ask.sampling["seed"] for ask in ASKS}) == len(ASKS)


def test_every_request_is_one_that_the_service_accepts_and_compiles_with_the_callers_sampling() -> None:
    for ask in ASKS:
        plan = plan_ask(ask, FACTS, ENGINE)
        assert plan.job.sampling.seed == ask.sampling["seed"]
        assert plan.context.prompt == ask.record.question
        assert plan.context.system == ""
        assert plan.context.caller_limited == ("max_tokens" in ask.sampling)
        if "temperature" in ask.sampling:
            assert plan.job.sampling.temperature == ask.sampling["temperature"]
            assert plan.job.sampling.repetition_penalty == 1.0


def test_whatever_the_settings_say_of_the_engine_is_an_argument_of_it() -> None:
    # Read from the source: the module is light, and vllm comes with start().
    taken = inspect.signature(VllmEngine.__init__).parameters
    assert set(VllmSettings.model_fields) <= set(taken)
    assert read_args().engine.kind == "vllm"


async def test_outputs_come_in_the_order_of_asking_with_the_context_of_their_request() -> None:
    engine = SimulatedEngine(SimulatedSettings(first_token_s=0, token_s=0), model_id="a-model")
    await engine.start()
    told: list[int] = []
    asks = [*ASKS[:20], *[ask for ask in ASKS[20:] if ask.controls["ls"]["format"] == "json"][:3]]
    outputs = await generate_all(asks, FACTS, engine, told.append, concurrency=8)
    assert [output.id for output in outputs] == [ask.id for ask in asks]
    assert len(told) == len(asks)
    assert min(told) > 0
    for ask, output in zip(asks, outputs, strict=True):
        assert (output.record_id, output.controls, output.sampling) == (ask.record.id, ask.controls, ask.sampling)
        assert output.context == replace(plan_context(ask), finish_reason=output.context.finish_reason)
        assert output.text
    assert json.loads(outputs[-1].text).keys() == {"answer", "key_points"}
    counts = count_outputs(outputs)
    assert all(sum(each.values()) == len(asks) for each in counts.values())


async def test_a_limit_of_the_callers_that_cuts_is_told() -> None:
    engine = SimulatedEngine(SimulatedSettings(first_token_s=0, token_s=0), model_id="a-model")
    await engine.start()
    ask = next(
        ask for ask in ASKS if "max_tokens" in ask.sampling and ask.controls["ls"]["format"] in ("markdown", "plain")
    )
    (output,) = await generate_all([replace(ask, sampling={**ask.sampling, "max_tokens": 5})], FACTS, engine)
    assert output.context.finish_reason == "length"
    assert output.context.caller_limited
    assert count_outputs([output])["sampling"] == {"by hand, limited": 1}


def test_outputs_are_read_back_as_they_were_written_whatever_marks_they_hold(tmp_path: Path) -> None:
    odd = raw("raw-002", "Line\u2028other\x85\r\nnext\ttab \u202e \ufffd ünï", finish_reason="length", language="de")
    schema = raw("raw-003", '{"a": 1}', answer_format="json", json_schema={"type": "object"}, target_words=25)
    limited = raw("raw-004", caller_limited=True, finish_reason="repetition")
    promised = raw("raw-005", reading_level=(1.25, 1.5))
    outputs = (raw("raw-001"), odd, schema, limited, promised)
    write_outputs(tmp_path / "raw.jsonl", outputs)
    assert read_outputs(tmp_path / "raw.jsonl") == outputs
    assert len((tmp_path / "raw.jsonl").read_text(encoding="utf-8").split("\n")) == 6


def test_a_line_holds_the_whole_context_but_what_models_measure() -> None:
    measured = {"relevance", "model_scores", "unmeasured"}
    kept = {"question": "prompt"}
    names = {kept.get(name, name) for name in json.loads(to_line(raw("raw-001", reading_level=(1.25, 1.5))))}
    assert {field.name for field in fields(CheckContext)} - measured <= names


def test_the_halves_of_outputs_are_stable_and_about_even() -> None:
    ids = [f"{domain}-{number:02}" for domain in ("health", "money", "work", "code") for number in range(1, 251)]
    halves = [raw("raw-001", record=name).half for name in ids]
    assert halves[:6] == ["development", "development", "test", "development", "development", "test"]
    assert 450 < halves.count("test") < 550


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: "not json", ":1: is not JSON"),
        (lambda data: "[]", ":1: is not a raw output"),
        (lambda data: {**data, "more": 1}, ":1: is not a raw output; missing or unknown: more"),
        (lambda data: {k: v for k, v in data.items() if k != "text"}, ":1: is not a raw output; missing or unknown: text"),
        (lambda data: {**data, "finish_reason": "abort"}, ":1: raw-001: finish_reason is 'abort'; must be one of: stop"),
        (lambda data: {**data, "answer_format": "prose"}, ":1: raw-001: answer_format is 'prose'"),
        (lambda data: {**data, "reading_level": [1, "B2"]}, ":1: raw-001: reading_level is [1, 'B2']; must be two numbers"),
        (lambda data: {**data, "half": "third"}, ":1: raw-001: its half is 'third', its question's is '"),
    ],
)  # fmt: skip
def test_a_faulty_line_is_refused_with_file_and_line(tmp_path: Path, change: object, message: str) -> None:
    assert callable(change)
    changed = change(json.loads(to_line(raw("raw-001"))))
    path = tmp_path / "raw.jsonl"
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(CorpusError) as error:
        read_outputs(path)
    assert str(error.value).startswith(f"{path}{message}")


def test_an_id_that_comes_twice_and_a_file_without_outputs_are_refused(tmp_path: Path) -> None:
    write_outputs(tmp_path / "twice.jsonl", [raw("raw-001"), raw("raw-001")])
    with pytest.raises(CorpusError, match="raw-001 stood on an earlier line"):
        read_outputs(tmp_path / "twice.jsonl")
    write_outputs(tmp_path / "none.jsonl", [])
    with pytest.raises(CorpusError, match="holds no outputs"):
        read_outputs(tmp_path / "none.jsonl")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_outputs(tmp_path / "missing.jsonl")


def test_other_records_change_nothing_of_what_is_drawn_for_a_question() -> None:
    one = Corpus((CORPUS.clean[0],), (), (), (), (), ())
    (alone,) = draw_asks(one, FACTS.catalogue, 1, 7)
    among = {ask.record: ask for ask in draw_asks(CORPUS, FACTS.catalogue, len(CORPUS.right), 7)}[alone.record]
    assert (alone.controls, alone.sampling) == (among.controls, among.sampling)


def test_more_outputs_than_questions_are_refused_before_an_engine_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "make_engine", lambda *_: pytest.fail("an engine was made"))
    assert command.main(["--count", "100000"]) == 1
    assert f"100000 questions are wanted, and the corpus has {len(CORPUS.right)}" in capsys.readouterr().err


def test_a_run_writes_its_outputs_and_prints_their_counts_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = SimulatedEngine(SimulatedSettings(first_token_s=0, token_s=0), model_id="a-model")
    monkeypatch.setattr(command, "make_engine", lambda *_: engine)
    for name in ("a.jsonl", "b.jsonl"):
        assert command.main(["--count", "6", "--out", str(tmp_path / name)]) == 0
    assert [output.id for output in read_outputs(tmp_path / "a.jsonl")] == [f"raw-00{number}" for number in range(1, 7)]
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert "6 raw outputs in" in capsys.readouterr().out
    with pytest.raises(Unavailable):
        asyncio.run(engine.check_health())
