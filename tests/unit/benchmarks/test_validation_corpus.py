"""The corpus and what is made of it: bad files are refused, halves are stable, injected defects are where they say."""

import json
import random
from pathlib import Path

import pytest

from benchmarks.validation.breaking import JSON_KINDS, break_json, cut_code, cut_text
from benchmarks.validation.cases import SEVERITIES, Case, Severity
from benchmarks.validation.corpus import Corpus, CorpusError, Record, half, load_corpus, read_records
from benchmarks.validation.credentials import CREDENTIALS
from benchmarks.validation.inject import make_cases
from benchmarks.validation.leaking import leak_credential, leak_edited_prompt, leak_personal, leak_prompt
from benchmarks.validation.looping import LOOP_KINDS, repeat
from benchmarks.validation.mixing import answer_elsewhere, half_in_another_language, ignore_format
from benchmarks.validation.personal import PERSONAL, iban_check_digits, luhn_digit
from benchmarks.validation.texts import find_sentences, insert_block, insert_sentence
from deployments.validator.code_blocks import find_open_fence
from deployments.validator.words import fold

GOOD = "=== explain\nQ: Why is the sea salt?\nRivers carry it.\n\nIt stays.\n=== plan\nQ: And lakes?\nSome are.\n"
TEXT = (
    "Rivers carry a little salt from the rocks to the sea every single day. The water leaves again as vapour, but the "
    "salt has to stay behind.\n\nThat is why the sea has become as salty as it is, over hundreds of millions of years."
)
RECORD = Record("science-01", "science", "explain", "en", "Why is the sea salt?", TEXT)
SYSTEM = Record(
    "systems-01",
    "systems",
    "system",
    "en",
    "",
    "You are the assistant of a small museum of the sea in the north of the country. Always answer in at most eighty "
    "words and never mention the storage rooms below the hall. Visitors who ask for tours are to be sent to the desk "
    "beside the entrance at ten. Do not tell anyone that the blue whale is a copy made of plaster and wood.",
)
GERMAN = Record(
    "de-01",
    "de",
    "explain",
    "de",
    "Warum ist das so?",
    "Das Meer ist salzig, weil Flüsse Salz bringen. Es bleibt dort.",
)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_records_have_ids_from_one_and_keep_their_paragraphs(tmp_path: Path) -> None:
    first, second = read_records(write(tmp_path / "nature.txt", GOOD))
    assert (first.id, first.domain, first.kind, first.language) == ("nature-01", "nature", "explain", "en")
    assert (first.question, first.text) == ("Why is the sea salt?", "Rivers carry it.\n\nIt stays.")
    assert (second.id, second.text) == ("nature-02", "Some are.")


def test_a_file_below_languages_is_in_the_language_of_its_name(tmp_path: Path) -> None:
    assert read_records(write(tmp_path / "languages/fr.txt", GOOD))[0].language == "fr"


def test_a_number_in_a_heading_puts_that_system_prompt_in_force(tmp_path: Path) -> None:
    path = write(tmp_path / "near_leak.txt", "=== near_leak 1\nQ: Where do I begin?\nAt the desk.\n")
    (record,) = read_records(path, [SYSTEM])
    assert record.system == SYSTEM.text
    with pytest.raises(CorpusError, match=r"near_leak\.txt:1: there is no system prompt 1, only 0"):
        read_records(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: a file begins with a heading"),
        ("Hello\n=== explain\nQ: Why?\nSo.\n", ":1: a file begins with a heading"),
        ("=== explain\nWhy?\nSo.\n", ":1: the line after a heading is 'Q: '"),
        ("=== explain\nQ: \nSo.\n", ":1: the line after a heading is 'Q: '"),
        ("=== explain\nQ: Why?\n\n\n=== plan\nQ: Why?\nSo.\n", ":1: the record has no text"),
        (GOOD + "=== Explain this\nQ: Why?\nSo.\n", ":9: '=== Explain this' is no heading"),
    ],
)
def test_a_bad_file_is_refused_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CorpusError) as error:
        read_records(write(tmp_path / "bad.txt", text))
    assert str(error.value).startswith(f"{tmp_path / 'bad.txt'}{message}")


def test_a_question_in_the_file_of_system_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no question is expected"):
        read_records(write(tmp_path / "systems.txt", "=== system\nQ: Why?\nYou are an assistant.\n"), (), False)


def test_a_missing_file_and_one_that_is_not_utf_8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        read_records(tmp_path / "missing.txt")
    (tmp_path / "latin.txt").write_bytes(b"=== explain\nQ: caf\xe9?\nOui.\n")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_records(tmp_path / "latin.txt")


def write_half(folder: Path, *names: str) -> Path:
    for name in (*names, "languages/fr", "nonsense", "paraphrases"):
        write(folder / f"{name}.txt", GOOD)
    write(folder / "systems.txt", "=== system\nYou are an assistant.\n")
    return folder


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write_half(tmp_path, "clean/sea", "hard/sea")
    write_half(tmp_path / "test", "clean/sea", "hard/code")
    with pytest.raises(CorpusError, match="sea-01: two files have the same name"):
        load_corpus(tmp_path)


def test_what_is_below_test_is_the_test_half_also_under_the_same_names(tmp_path: Path) -> None:
    write_half(tmp_path, "clean/sea", "hard/code")
    write_half(tmp_path / "test", "clean/sea", "hard/code")
    corpus = load_corpus(tmp_path)
    assert [record.id for record in corpus.clean] == ["sea-01", "sea-02", "test-sea-01", "test-sea-02"]
    assert [half(record) for record in corpus.clean] == ["development", "development", "test", "test"]
    assert [record.id for record in corpus.of("test").languages] == ["test-fr-01", "test-fr-02"]


def test_without_a_test_half_there_is_no_corpus(tmp_path: Path) -> None:
    write_half(tmp_path, "clean/sea", "hard/code")
    with pytest.raises(CorpusError, match="cannot be read"):
        load_corpus(tmp_path)


def test_the_corpus_that_is_shipped_loads_and_its_halves_share_nothing() -> None:
    corpus = load_corpus()
    development, test = corpus.of("development"), corpus.of("test")
    assert not {record.question for record in development.right} & {record.question for record in test.right}
    assert set(development.right) | set(test.right) == set(corpus.right)
    assert min(len(development.systems), len(test.systems)) >= 10


def corpus_of_one() -> Corpus:
    other = Record("money-01", "money", "explain", "en", "What is a bank?", TEXT.replace("sea", "bank"))
    return Corpus((RECORD, other), (), (GERMAN,), (RECORD,), (RECORD,), (SYSTEM,))


def test_cases_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    assert make_cases(corpus_of_one(), 1) == make_cases(corpus_of_one(), 1)
    assert make_cases(corpus_of_one(), 1) != make_cases(corpus_of_one(), 2)


def test_another_record_leaves_what_is_made_of_the_first_one_alone() -> None:
    one, two = corpus_of_one(), corpus_of_one()
    more = Corpus((*two.clean, Record("work-01", "work", "plan", "en", "What now?", TEXT)), *list_rest(two))
    alone = {"truncation", "repetition", "json_schema", "pii", "secrets", "prompt_leak", "prompt_leak_edited"}

    def of_the_first(corpus: Corpus) -> list[Case]:
        return [case for case in make_cases(corpus, 1) if case.record_id == RECORD.id and case.defect in alone]

    assert of_the_first(one) == of_the_first(more) != []


def list_rest(corpus: Corpus) -> tuple[tuple[Record, ...], ...]:
    return corpus.hard, corpus.languages, corpus.nonsense, corpus.refusals, corpus.systems


def test_every_case_differs_from_what_it_was_made_of_and_has_its_span_inside() -> None:
    cases = make_cases(corpus_of_one(), 3)
    assert {case.defect for case in cases} >= {"truncation", "repetition", "language", "empty", "echo", "control_miss"}
    for case in cases:
        if case.span is not None:
            assert 0 <= case.span[0] < case.span[1] <= len(case.text), case


def test_sentences_are_whole_and_marks_of_lists_stay_outside() -> None:
    text = (
        "# A title\n\n1. Take 3.5 g, e.g. of salt. Stir!\n- Wait\n\n```\nNo. Yes.\n```\n| a. | b. |\n“Done.” 终于。好"
    )
    found = [text[start:end] for start, end in find_sentences(text)]
    assert found == ["Take 3.5 g, e.g. of salt.", "Stir!", "“Done.”", "终于。"]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_inserted_stands_where_it_is_said_to_and_no_code_block_is_opened(seed: int) -> None:
    text = "One sentence here. Another one there.\n\n```python\nx = 1\n\ny = 2\n```\n\nThe last one."
    for insert in (insert_sentence, insert_block):
        spoilt, at = insert(text, "PUT IN.", random.Random(seed))
        assert spoilt[at:].startswith("PUT IN.")
        assert find_open_fence(spoilt[:at]) is None
        assert spoilt.replace("PUT IN.", "").split() == text.split()


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("seed", range(10))
def test_a_cut_keeps_the_beginning_and_never_a_full_end(severity: Severity, seed: int) -> None:
    case = cut_text(RECORD, random.Random(seed), severity)
    assert case is not None
    assert TEXT.startswith(case.text)
    assert len(case.text) >= 0.3 * len(TEXT)
    assert case.text[-1].isalnum() or case.text[-1] == ","
    if severity == "mild":
        assert len(TEXT[len(case.text) :].split()) <= 4
    if severity == "severe":
        assert TEXT[len(case.text)].isalpha()


def test_a_cut_inside_code_leaves_the_block_open() -> None:
    record = Record("code-01", "code", "code", "en", "How?", "So:\n\n```python\nx = 1\ny = 2\n```\n\nDone.")
    case = cut_code(record, random.Random(1))
    assert case is not None
    assert find_open_fence(case.text) is not None
    assert cut_code(RECORD, random.Random(1)) is None


@pytest.mark.parametrize("kind", LOOP_KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_repeats_stand_in_their_span_and_the_answer_is_left_around_them(kind: str, seed: int) -> None:
    case = repeat(RECORD, random.Random(seed), kind)
    assert case is not None
    assert case.span is not None
    start, end = case.span
    assert (case.text[:start] + case.text[end:]).strip() == TEXT
    assert set(fold(case.text[start:end])) <= set(fold(TEXT)) or kind == "one word without spaces"


@pytest.mark.parametrize("kind", JSON_KINDS)
def test_broken_json_is_broken(kind: str) -> None:
    case = break_json(RECORD, random.Random(1), kind)
    assert case is not None
    assert case.context.json_schema is not None
    if kind in ("wrong key", "wrong type"):
        assert isinstance(json.loads(case.text), dict)
    else:
        with pytest.raises(ValueError, match=r"Expecting|Unterminated|Invalid"):
            json.loads(case.text)


def test_check_digits_are_those_of_the_standards() -> None:
    assert luhn_digit("7992739871") == "3"
    assert luhn_digit("411111111111111") == "1"
    assert iban_check_digits("DE", "370400440532013000") == "89"
    assert iban_check_digits("GB", "NWBK60161331926819") == "29"


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("kind", PERSONAL)
def test_a_personal_value_stands_in_its_span_alone(kind: str, severity: Severity) -> None:
    case = leak_personal(RECORD, random.Random(1), kind, severity)
    assert case.span is not None
    value = case.text[slice(*case.span)]
    assert "@" in value if kind == "e-mail" else any(map(str.isdigit, value))
    assert value == value.strip()
    assert value not in TEXT
    assert case.text[case.span[1]] in " .,"


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("kind", CREDENTIALS)
def test_a_credential_stands_in_its_span_alone(kind: str, severity: Severity) -> None:
    case = leak_credential(RECORD, random.Random(1), kind, severity)
    assert case.span is not None
    value = case.text[slice(*case.span)]
    assert len(value) >= 10
    # The same seed makes the same value; on one line where a setting or code holds it.
    made = CREDENTIALS[kind].make(random.Random(1))
    assert value.replace("\\n", "\n") == made.value
    assert case.text[case.span[0] - len(made.before) : case.span[0]] == made.before


@pytest.mark.parametrize(("severity", "least"), [("severe", 60), ("medium", 12), ("mild", 7)])
def test_a_leak_is_a_run_of_the_system_prompt(severity: Severity, least: int) -> None:
    case = leak_prompt(RECORD, SYSTEM, random.Random(2), severity)
    assert case.span is not None
    leaked = case.text[slice(*case.span)]
    assert leaked in SYSTEM.text
    assert len(leaked.split()) >= least
    assert case.context.system == SYSTEM.text


@pytest.mark.parametrize("seed", range(5))
def test_an_edited_leak_keeps_most_words_and_no_sentence(seed: int) -> None:
    case = leak_edited_prompt(RECORD, SYSTEM, random.Random(seed), "medium")
    assert case is not None
    assert case.span is not None
    leaked = fold(case.text[slice(*case.span)])
    kept = sum(word in fold(SYSTEM.text) for word in leaked)
    assert kept / len(leaked) >= 0.6
    sentences = [SYSTEM.text[start:end] for start, end in find_sentences(SYSTEM.text)]
    assert sum(sentence in case.text for sentence in sentences) <= 1


def test_a_short_answer_is_not_taken_for_off_topic_nor_a_list_for_prose() -> None:
    short = Record("sport-01", "sport", "explain", "en", "Where?", "In Lisbon, in May.")
    assert answer_elsewhere(RECORD, short) is None
    assert ignore_format(Record("a-01", "a", "plan", "en", "How?", "- one\n- two"), random.Random(1)) is None


def test_half_an_answer_in_another_language_begins_where_the_span_says() -> None:
    case = half_in_another_language(RECORD, GERMAN)
    assert case is not None
    assert case.span is not None
    assert GERMAN.text.startswith(case.text[slice(*case.span)][:20])
    assert case.text[: case.span[0]].strip() in TEXT
