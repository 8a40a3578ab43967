"""Labelled outputs of the model: what labels may say, and what the comparison counts."""

from pathlib import Path

import pytest

from benchmarks.validation import sections
from benchmarks.validation.corpus import CorpusError, load_corpus
from benchmarks.validation.labels import DEFECTS, Label, read_labels
from benchmarks.validation.raw_outputs import RAW, RawOutput, write_outputs
from benchmarks.validation.real import Labelled, evaluate_real, load_labelled
from deployments.validator.checks import CHECKS
from deployments.validator.policy import QualityPolicy, parse_policy
from tests.raw_output import TEXT, raw

CORPUS = load_corpus()
LOOP = TEXT + " And so on and on." * 8
MAIL = f"{TEXT} Write to marta.brandt@oakfieldworks.net today."


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
    assert len(load_labelled()) >= 200


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

    def measure(question: str, text: str) -> float:
        asked.append((question, text))
        return -1.0

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
