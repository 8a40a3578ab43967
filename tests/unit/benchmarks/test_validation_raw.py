"""Raw outputs of the model: what is asked, what a line keeps, what labels may say, and what the comparison counts."""

import asyncio
import inspect
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmarks.validation import raw as command
from benchmarks.validation import sections
from benchmarks.validation.corpus import HALVES, Corpus, CorpusError, Record, half, load_corpus
from benchmarks.validation.labels import DEFECTS, Label, read_labels
from benchmarks.validation.raw import count_outputs, generate_all, plan_ask
from benchmarks.validation.raw_outputs import RAW, RawOutput, read_outputs, to_line, write_outputs
from benchmarks.validation.raw_settings import MAX_DEPTH, RawAsk, choose_questions, draw_asks
from benchmarks.validation.real import Labelled, evaluate_real, load_labelled
from benchmarks.validation.shipped import read_args, read_facts
from deployments.generator.simulated import SimulatedEngine, SimulatedSettings
from deployments.generator.vllm_engine import VllmEngine
from deployments.validator.checks import CHECKS
from deployments.validator.policy import QualityPolicy, parse_policy
from graph.contracts import CheckContext, EngineInfo
from graph.errors import Unavailable
from graph.settings import VllmSettings

FACTS = read_facts()
ENGINE = EngineInfo("a-model", "vllm", 2048, "0")
CORPUS = load_corpus()
ASKS = draw_asks(CORPUS, FACTS.catalogue, 600, 7)
TEXT = "Rivers carry a little salt from the rocks to the sea. The water leaves again as vapour, and the salt stays."
LOOP = TEXT + " And so on and on." * 8
MAIL = f"{TEXT} Write to marta.brandt@oakfieldworks.net today."


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


def raw(name: str, text: str = TEXT, record: str = "health-07", **context: object) -> RawOutput:
    values = {"prompt": "Why is the sea salt, and since when?", "known_text": "Why is the sea salt?", **context}
    return RawOutput(name, record, {"lp": {}, "ls": {}}, {"seed": 1}, CheckContext(**values), text)  # type: ignore[arg-type]


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


def write_labels(folder: Path, text: str) -> Path:
    path = folder / "raw_labels.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_label_has_its_defects_and_one_reason(tmp_path: Path) -> None:
    path = write_labels(
        tmp_path, 'raw-001: {defects: [], reason: "Nothing: all is well."}\nraw-002:\n  defects: [language]\n  reason: No.\n'
    )  # fmt: skip
    labels = read_labels(["raw-001", "raw-002"], path)
    assert labels == {"raw-001": Label((), "Nothing: all is well."), "raw-002": Label(("language",), "No.")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- raw-001\n", ": expected a mapping of ids to labels"),
        ("", ": expected a mapping of ids to labels"),
        ("raw-001: []\n", ":1: raw-001: a label has the keys defects and reason"),
        ("raw-001: {defects: []}\n", ":1: raw-001: a label has the keys defects and reason"),
        ("raw-001: {defects: [], reason: a, who: me}\n", ":1: raw-001: a label has the keys defects and reason"),
        ("raw-001: {defects: language, reason: a}\n", ":1: raw-001: defects is a list"),
        ("raw-001: {defects: [langauge], reason: a}\n", ":1: raw-001: 'langauge' is no defect; there are: truncation"),
        ("raw-001: {defects: [[pii]], reason: a}\n", ":1: raw-001: ['pii'] is no defect"),
        ("raw-001: {defects: [pii, pii], reason: a}\n", ":1: raw-001: a defect is named twice"),
        ("raw-001: {defects: [], reason: ''}\n", ":1: raw-001: reason is one short sentence"),
        ("raw-001: {defects: [], reason: 7}\n", ":1: raw-001: reason is one short sentence"),
        ("raw-001: {defects: [], reason: a}\nraw-002: {defects: [], reason: a}\n", ":2: raw-002 is the id of no raw output"),
        ("raw-001: {defects: [], reason: a}\nraw-001: {defects: [], reason: a}\n", ":2: raw-001: was already given"),
    ],
)  # fmt: skip
def test_a_faulty_label_is_refused_with_file_and_id(tmp_path: Path, text: str, message: str) -> None:
    path = write_labels(tmp_path, text)
    with pytest.raises(CorpusError) as error:
        read_labels(["raw-001"], path)
    assert str(error.value).startswith(f"{path}{message}")


def test_an_output_without_a_label_is_refused(tmp_path: Path) -> None:
    path = write_labels(tmp_path, "raw-001: {defects: [], reason: a}\n")
    with pytest.raises(CorpusError, match="raw-002 has no label"):
        read_labels(["raw-001", "raw-002"], path)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_labels([], tmp_path / "missing.yaml")


def test_every_defect_is_the_name_of_a_check_and_has_its_rule() -> None:
    assert set(DEFECTS) <= set(CHECKS)
    rules = (Path(RAW).parent / "LABELLING.md").read_text()
    assert all(f"| `{defect}` |" in rules for defect in DEFECTS)


def test_outputs_and_labels_belong_together_or_there_are_none(tmp_path: Path) -> None:
    assert load_labelled(tmp_path) == ()
    write_outputs(tmp_path / "raw.jsonl", [raw("raw-001")])
    with pytest.raises(CorpusError, match=r"raw_labels\.yaml"):
        load_labelled(tmp_path)
    write_labels(tmp_path, "raw-001: {defects: [], reason: Fine.}\n")
    assert load_labelled(tmp_path) == (Labelled(raw("raw-001"), Label((), "Fine.")),)


def test_the_outputs_that_are_shipped_are_all_labelled() -> None:
    if not RAW.exists():
        pytest.skip("no raw outputs were made")
    load_labelled()


def labelled(output: RawOutput, *defects: str) -> Labelled:
    return Labelled(output, Label(defects, f"about {output.id}"))


def halves() -> tuple[str, str]:
    """The id of a question of each half."""
    names = {raw("raw-001", record=record.id).half: record.id for record in CORPUS.clean}
    return names["development"], names["test"]


DEVELOPMENT, TEST = halves()


def compare(*each: Labelled) -> dict[str, object]:
    figures = evaluate_real(each, "test", QualityPolicy())
    assert figures is not None
    return figures


def shares(value: object) -> tuple[int, int]:
    assert isinstance(value, dict)
    return value["hits"], value["of"]


def test_hits_misses_and_false_alarms_are_counted_by_check() -> None:
    figures = compare(
        labelled(raw("raw-001", LOOP, TEST), "repetition"),
        labelled(raw("raw-002", TEXT, TEST), "repetition"),
        labelled(raw("raw-003", LOOP, TEST)),
        labelled(raw("raw-004", TEXT, TEST)),
    )
    checks = figures["checks"]
    assert isinstance(checks, dict)
    loops = checks["repetition"]
    assert (shares(loops["precision"]), shares(loops["recall"]), loops["f1"]) == ((1, 2), (1, 2), 0.5)
    assert shares(checks["pii"]["recall"]) == (0, 0)
    assert figures["outputs"] == 4
    assert figures["joint"] == {
        "good_objected_to": {**loops["precision"]},
        "bad_objected_to": {**loops["recall"]},
    }


def test_every_disagreement_is_listed_with_its_way_and_the_labels_reason_and_no_text() -> None:
    figures = compare(
        labelled(raw("raw-001", LOOP, TEST), "repetition"),
        labelled(raw("raw-002", TEXT, TEST), "language"),
        labelled(raw("raw-003", MAIL, TEST)),
    )
    listed = figures["disagreements"]
    assert isinstance(listed, list)
    assert [(each["output"], each["check"], each["way"], each["reason"]) for each in listed] == [
        ("raw-002", "language", "missed", "about raw-002"),
        ("raw-003", "pii", "false alarm", "about raw-003"),
    ]
    assert "marta" not in str(figures)


def test_the_other_half_does_not_count_and_a_half_without_outputs_has_no_figures() -> None:
    other = labelled(raw("raw-001", LOOP, DEVELOPMENT))
    assert compare(other, labelled(raw("raw-002", TEXT, TEST)))["outputs"] == 1
    assert evaluate_real([other], "test", QualityPolicy()) is None
    assert evaluate_real([], "test", QualityPolicy()) is None


def test_a_loop_that_the_caller_asked_for_is_no_finding() -> None:
    figures = compare(labelled(raw("raw-001", LOOP, TEST, caller_limited=True)))
    assert figures["disagreements"] == []
    joint = figures["joint"]
    assert isinstance(joint, dict)
    assert shares(joint["good_objected_to"]) == (0, 1)


def test_what_is_only_noted_makes_no_output_bad_and_is_compared_all_the_same() -> None:
    refusal = raw("raw-001", "I'm sorry, but I can't help with that.", TEST)
    figures = compare(labelled(refusal, "refusal"), labelled(raw("raw-002", refusal.text, TEST)))
    checks, joint = figures["checks"], figures["joint"]
    assert isinstance(checks, dict)
    assert isinstance(joint, dict)
    assert shares(checks["refusal"]["recall"]) == (1, 1)
    assert shares(checks["refusal"]["precision"]) == (1, 2)
    assert shares(joint["good_objected_to"]) == (0, 2)
    assert shares(joint["bad_objected_to"]) == (0, 0)


def test_relevance_is_measured_where_the_service_would_and_goes_to_its_check() -> None:
    bank = "A bank keeps the money of many people and lends a part of it to others, who pay it back with interest."
    asked: list[tuple[str, str]] = []

    def measure(pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        asked.extend(pairs)
        return [-1.0 for _ in pairs]

    data = raw("raw-002", '{"a": 1}', TEST, answer_format="json", json_schema={"type": "object"})
    figures = evaluate_real(
        [labelled(raw("raw-001", bank, TEST), "relevance"), labelled(data)], "test", QualityPolicy(), measure
    )
    assert figures is not None
    assert [text for _, text in asked] == [bank]
    assert shares(figures["checks"]["relevance"]["recall"]) == (1, 1)
    assert figures["disagreements"] == []


def test_a_check_that_no_label_can_name_is_compared_if_it_acts_under_the_policy() -> None:
    short = labelled(raw("raw-001", TEXT, TEST, target_words=200))
    checks, joint = compare(short)["checks"], compare(short)["joint"]
    assert isinstance(checks, dict)
    assert isinstance(joint, dict)
    assert "near_leak" in checks
    # Its finding is only noted.
    assert "control_fit" not in checks
    assert shares(joint["good_objected_to"]) == (0, 1)
    strict = parse_policy({"checks": {"control_fit": {"on_fail": "regenerate"}}}, "test")
    figures = evaluate_real([short], "test", strict)
    assert figures is not None
    assert [(each["check"], each["way"]) for each in figures["disagreements"]] == [("control_fit", "false alarm")]
    assert shares(figures["joint"]["good_objected_to"]) == (1, 1)


def test_outputs_are_judged_by_the_policy_that_was_given() -> None:
    off = parse_policy({"checks": {"repetition": {"enabled": False}}}, "test")
    figures = evaluate_real([labelled(raw("raw-001", LOOP, TEST), "repetition")], "test", off)
    assert figures is not None
    assert shares(figures["checks"]["repetition"]["recall"]) == (0, 1)


def test_the_section_tells_the_shares_and_lists_the_disagreements() -> None:
    reason = Label(("language",), "Half a | of\nit.")
    figures = compare(labelled(raw("raw-001", LOOP, TEST), "repetition"), Labelled(raw("raw-002", TEXT, TEST), reason))
    text = sections.real(figures)
    assert "| repetition | 1 | 1 | 1 | 100.0% (21% to 100%) | 100.0% (21% to 100%) | 1.000 |" in text
    assert "| language | 1 | 0 | 0 | - | 0.0% (0% to 79%) | 0.000 |" in text
    assert "of 2 bad ones 1, 50.0% (9% to 91%)" in text
    assert "Of 0 good outputs 0 are objected to, -;" in text
    assert r"| raw-002 | language | missed | Half a \| of it. |  |" in text


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
