"""The corpus that the validator is to be measured with: bad files are refused, halves are stable."""

from pathlib import Path

import pytest

from benchmarks.validation.corpus import CorpusError, Record, half, load_corpus, read_records

GOOD = "=== explain\nQ: Why is the sea salt?\nRivers carry it.\n\nIt stays.\n=== plan\nQ: And lakes?\nSome are.\n"
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


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("clean/sea", "hard/sea", "languages/fr", "nonsense", "paraphrases"):
        write(tmp_path / f"{name}.txt", GOOD)
    write(tmp_path / "systems.txt", "=== system\nYou are an assistant.\n")
    with pytest.raises(CorpusError, match="sea-01: two files have the same name"):
        load_corpus(tmp_path)


def test_halves_are_stable_and_about_even() -> None:
    ids = [f"{domain}-{number:02}" for domain in ("health", "money", "work", "code") for number in range(1, 251)]
    halves = [half(Record(name, "", "", "en", "", "")) for name in ids]
    assert halves[:6] == ["development", "development", "test", "development", "development", "test"]
    assert 450 < halves.count("test") < 550


def test_the_corpus_that_is_shipped_loads_and_its_halves_share_nothing() -> None:
    corpus = load_corpus()
    development, test = corpus.of("development"), corpus.of("test")
    assert not set(development.right) & set(test.right)
    assert set(development.right) | set(test.right) == set(corpus.right)
    assert min(len(development.systems), len(test.systems)) >= 10
