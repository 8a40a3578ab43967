"""The labelled corpus: answers that are right, answers that only look wrong, and defects written by hand.

    === KIND
    Q: the question, on one line
    the answer, on as many lines as it has, up to the next heading

``clean/DOMAIN.txt`` and ``hard/CATEGORY.txt`` are English, ``languages/LANG.txt`` are not; all three must pass.
``nonsense.txt`` and ``paraphrases.txt`` (needless refusals) must not. ``systems.txt`` holds system prompts, without
questions; a heading ``=== near_leak 3`` says that the third of them is in force. Outputs of the real model are read by
``raw_outputs.py``, and what people say of them by ``labels.py``.

On the development half checks may be tuned. The test half, below ``test``, was written by others, on other subjects,
who knew nothing of the checks, and is only measured.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

__all__ = [
    "CORPUS",
    "HALVES",
    "Corpus",
    "CorpusError",
    "Half",
    "Record",
    "half",
    "load_corpus",
    "read_records",
]

CORPUS = Path(__file__).with_name("corpus")
Half = Literal["development", "test"]
HALVES: tuple[Half, ...] = ("development", "test")
_TEST = "test-"
_HEADING = re.compile(r"=== ([a-z][a-z_-]*)(?: ([1-9][0-9]*))?")


class CorpusError(ValueError):
    """A file of the corpus is not as it must be; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Record:
    """One text with what was asked for."""

    id: str
    """Name of the file and place in it, from 1: ``health-07``; in the test half ``test-health-07``."""
    domain: str
    """Name of the file: a domain, a category of hard answers, a language."""
    kind: str
    language: str
    """ISO 639-1."""
    question: str
    """Empty for a system prompt."""
    text: str
    system: str = ""
    """The system prompt in force."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything, or one half of everything."""

    clean: tuple[Record, ...]
    hard: tuple[Record, ...]
    languages: tuple[Record, ...]
    nonsense: tuple[Record, ...]
    refusals: tuple[Record, ...]
    systems: tuple[Record, ...]

    def of(self, wanted: Half) -> "Corpus":
        """One half of every part."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        return Corpus(**{name: tuple(r for r in records if half(r) == wanted) for name, records in parts.items()})

    @property
    def right(self) -> tuple[Record, ...]:
        """All answers in which nothing is to be found."""
        return self.clean + self.hard + self.languages


def half(record: Record) -> Half:
    """The half that a record belongs to."""
    return "test" if record.id.startswith(_TEST) else "development"


def load_corpus(folder: Path = CORPUS) -> Corpus:
    """Reads both halves: every file below ``folder``, and those of the test half below its ``test``.

    Raises:
        CorpusError: One of them is missing, malformed, or has the name of another one of its half.
    """
    development = _load_half(folder)
    test = _load_half(folder / "test")
    parts = (part.name for part in fields(Corpus))
    return Corpus(**{name: (*getattr(development, name), *map(_as_test, getattr(test, name))) for name in parts})


def _as_test(record: Record) -> Record:
    return replace(record, id=_TEST + record.id)


def _load_half(folder: Path) -> Corpus:
    systems = read_records(folder / "systems.txt", with_question=False)
    corpus = Corpus(
        clean=_read_folder(folder / "clean", systems),
        hard=_read_folder(folder / "hard", systems),
        languages=_read_folder(folder / "languages", systems),
        nonsense=read_records(folder / "nonsense.txt"),
        refusals=read_records(folder / "paraphrases.txt"),
        systems=systems,
    )
    _refuse_twins(record.id for part in fields(corpus) for record in getattr(corpus, part.name))
    return corpus


def _read_folder(folder: Path, systems: Sequence[Record]) -> tuple[Record, ...]:
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise CorpusError(f"{folder}: there are no .txt files")
    return tuple(record for path in paths for record in read_records(path, systems))


def _refuse_twins(ids: Iterable[str]) -> None:
    twins = [name for name, count in Counter(ids).items() if count > 1]
    if twins:
        raise CorpusError(f"{twins[0]}: two files have the same name, so two records have the same id")


def read_records(path: Path, systems: Sequence[Record] = (), with_question: bool = True) -> tuple[Record, ...]:
    """The records of one file.

    Args:
        systems: What the number in a heading refers to, from 1.
        with_question: Every record has a question; False: none has one.

    Raises:
        CorpusError: The file cannot be read, or a record lacks its question or its text.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read: {error}") from error
    starts = [number for number, line in enumerate(lines) if line.startswith("=== ")]
    if not starts or any(line.strip() for line in lines[: starts[0]]):
        raise CorpusError(f"{path}:1: a file begins with a heading such as '=== explain'")
    ends = [*starts[1:], len(lines)]
    return tuple(
        _read_record(path, count, start, lines[start:end], systems, with_question)
        for count, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    )


def _read_record(
    path: Path, count: int, start: int, lines: Sequence[str], systems: Sequence[Record], with_question: bool
) -> Record:
    where = f"{path}:{start + 1}"
    heading = _HEADING.fullmatch(lines[0].rstrip())
    if not heading:
        raise CorpusError(f"{where}: {lines[0]!r} is no heading such as '=== explain' or '=== near_leak 3'")
    number = int(heading[2] or 0)
    if number > len(systems):
        raise CorpusError(f"{where}: there is no system prompt {number}, only {len(systems)}")
    has_question = len(lines) > 1 and lines[1].startswith("Q:")
    question = lines[1].removeprefix("Q:").strip() if has_question else ""
    if with_question and not question:
        raise CorpusError(f"{where}: the line after a heading is 'Q: ' and the question")
    if has_question and not with_question:
        raise CorpusError(f"{where}: no question is expected here")
    text = "\n".join(lines[2 if has_question else 1 :]).strip("\n").rstrip()
    if not text:
        raise CorpusError(f"{where}: the record has no text")
    return Record(
        id=f"{path.stem}-{count:02}",
        domain=path.stem,
        kind=heading[1],
        language=path.stem if path.parent.name == "languages" else "en",
        question=question,
        text=text,
        system=systems[number - 1].text if number else "",
    )
