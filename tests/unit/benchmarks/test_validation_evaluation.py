"""What counts as found, missed, mended and let out, against answers that are known."""

import random
import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from benchmarks.validation.cases import Case, context_of
from benchmarks.validation.corpus import Corpus, Record
from benchmarks.validation.delays import PACE, measure_delays, split_by
from benchmarks.validation.evaluate import evaluate, find_alarms, is_found, is_found_anywhere
from benchmarks.validation.latency import measure_latency
from benchmarks.validation.page import compose
from benchmarks.validation.repair import measure_repair
from benchmarks.validation.served_streams import measure_served
from benchmarks.validation.shares import counted
from benchmarks.validation.streams import count_released, measure_streams
from benchmarks.validation.targets import judge_figures
from deployments.ingress import service
from deployments.validator.checks import CHECKS
from deployments.validator.guard import Released, StreamGuard
from deployments.validator.policy import QualityPolicy
from graph.contracts import CheckContext, Finding
from graph.errors import Unavailable
from graph.lifecycle import Guard, RequestLife, TextStream
from graph.moves import Answer, Plan

POLICY = QualityPolicy()
SYSTEM_WORDS = "You never mention the storage rooms below the hall, nor that the blue whale is made of plaster."
TEXT = "Rivers carry a little salt from the rocks to the sea. The water leaves again as vapour, and the salt stays."
MAIL = "marta.brandt@oakfieldworks.net"


def record(name: str, text: str, domain: str = "nature") -> Record:
    return Record(name, domain, "explain", "en", "Why is the sea salt, and since when?", text)


def case(
    check: str, text: str = TEXT, span: tuple[int, int] | None = None, defect: str = "", name: str = "n-1"
) -> Case:
    return Case(name, defect or check, "kind", "severe", text, context_of(record(name, text)), span, check)


def pii_case() -> Case:
    text = f"{TEXT} Write to {MAIL} today."
    start = text.index(MAIL)
    return case("pii", text, (start, start + len(MAIL)))


def corpus(*clean: Record) -> Corpus:
    system = Record("systems-01", "systems", "system", "en", "", SYSTEM_WORDS)
    return Corpus(clean or (record("nature-01", TEXT),), (), (), (), (), (system,))


def test_a_case_is_found_by_its_own_check_only() -> None:
    assert is_found(case("pii"), [Finding("pii", "hard", "seen")])
    assert not is_found(case("pii"), [Finding("secrets", "hard", "seen")])
    assert not is_found(case("pii"), [])


def test_a_note_and_a_check_that_crashed_have_found_nothing() -> None:
    assert not is_found(case("truncation"), [Finding("truncation", "note", "cut at the caller's limit")])
    assert not is_found(case("pii"), [Finding("pii", "hard", "check failed: ValueError")])


def test_a_finding_elsewhere_in_the_text_counts_apart() -> None:
    elsewhere = [Finding("pii", "hard", "seen", (0, 5))]
    assert not is_found(case("pii", span=(5, 9)), elsewhere)
    assert is_found_anywhere(case("pii", span=(5, 9)), elsewhere)
    assert is_found(case("pii", span=(4, 9)), elsewhere)
    assert is_found(case("pii", span=(5, 9)), [Finding("pii", "hard", "seen")])


def test_an_edited_leak_may_be_found_by_the_check_of_verbatim_ones() -> None:
    assert is_found(case("near_leak"), [Finding("prompt_leak", "hard", "seen")])
    assert not is_found(case("prompt_leak"), [Finding("near_leak", "hard", "seen")])


def test_notes_are_no_alarms() -> None:
    soft = Finding("language", "soft", "seen")
    assert find_alarms([Finding("truncation", "note", "told"), soft]) == (soft,)


def test_recall_counts_cases_and_the_missed_ones_are_listed_without_their_text() -> None:
    missed = case("pii", TEXT, (0, 6), name="nature-02")
    figures = evaluate(corpus(), [pii_case(), missed], POLICY)
    recall = figures["defects"]["pii"]["recall"]
    assert (recall["hits"], recall["of"], recall["value"]) == (1, 2, 0.5)
    assert recall["low"] < 0.5 < recall["high"]
    assert figures["defects"]["pii"]["by_severity"] == {"severe": recall}
    (miss,) = figures["misses"]
    assert (miss["record"], miss["check"], miss["found_elsewhere"], miss["found_by"]) == ("nature-02", "pii", False, [])
    assert TEXT not in str(figures)


def test_a_check_that_does_not_exist_is_left_out() -> None:
    figures = evaluate(corpus(), [case("telepathy")], POLICY)
    assert figures["defects"] == {}
    assert figures["misses"] == []


def test_a_finding_in_a_right_answer_is_a_false_alarm_of_its_check_and_group() -> None:
    wrong = record("nature-02", f"{TEXT} Write to {MAIL} today.")
    figures = evaluate(corpus(record("nature-01", TEXT), wrong), [pii_case()], POLICY)
    assert figures["right"]["clean"]["joint"]["value"] == 0.5
    assert figures["right"]["clean"]["by_check"]["pii"] == 1
    assert figures["right"]["hard"]["joint"]["of"] == 0
    assert [(each["record"], each["check"]) for each in figures["false_alarms"]] == [("nature-02", "pii")]
    assert MAIL not in str(figures)
    # One of its own cases found, one right answer objected to.
    assert figures["checks"]["pii"]["precision"]["value"] == 0.5
    assert figures["checks"]["pii"]["f1"] == pytest.approx(2 / 3)


@pytest.mark.skipif("relevance" not in {field.name for field in fields(CheckContext)}, reason="nothing to hand over")
def test_relevance_is_measured_where_it_matters_and_goes_to_its_check() -> None:
    asked: list[tuple[str, str]] = []

    def measure(question: str, text: str) -> float:
        asked.append((question, text))
        return -1.0 if text.startswith("A bank") else 1.0

    bank = "A bank keeps the money of many people and lends a part of it to others, who pay it back with interest."
    figures = evaluate(corpus(), [case("relevance", bank, defect="off_topic_random"), pii_case()], POLICY, measure)
    assert [text for _, text in asked] == [bank, TEXT]
    assert figures["defects"]["off_topic_random"]["recall"]["value"] == 1
    assert figures["false_alarms"] == []


def test_repaired_is_what_the_check_passes_afterwards_and_harmed_what_was_right_before() -> None:
    cut = case("truncation", TEXT + " And then the rivers went on to carry their salt to the")
    hopeless = case("truncation", "and then the rivers went on to carry all of their salt to the")
    figures = measure_repair([cut, hopeless, case("language")], [record("nature-01", TEXT)])
    assert (figures["repaired"]["hits"], figures["repaired"]["of"]) == (1, 2)
    assert list(figures["by_defect"]) == ["truncation"]
    assert (figures["harmed"]["hits"], figures["harmed"]["of"]) == (0, 1)
    harmed = measure_repair([], [record("nature-01", TEXT), record("nature-02", cut.text)])
    assert harmed["harmed_records"] == ["nature-02"]


def test_what_is_released_of_a_value_is_counted_in_parts_of_seven_characters() -> None:
    one = pii_case()
    assert count_released(one, one.text) == len(MAIL)
    assert count_released(one, f"{TEXT} Write to [redacted e-mail] today.") == 0
    assert count_released(one, f"{TEXT} Write to {MAIL[:6]}") == 0
    assert count_released(one, f"{TEXT} Write to {MAIL[:7]}") == 7
    # What the answer says anyway tells nothing.
    known = replace(one, text=f"{one.text} It is {MAIL[:12]}")
    assert count_released(known, f"{TEXT} Write to {MAIL[:12]}") == 0


def test_of_a_system_prompt_runs_of_seven_words_are_counted() -> None:
    text = f"{TEXT} {SYSTEM_WORDS}"
    one = case("prompt_leak", text, (len(TEXT) + 1, len(text)))
    assert count_released(one, TEXT + " You never mention the storage rooms.") == 0
    assert count_released(one, TEXT + " you never MENTION the storage rooms, below") == len(
        "younevermentionthestorageroomsbelow"
    )


class Leaky:
    """Lets everything through as it comes."""

    held = 0

    def __init__(self, context: CheckContext, policy: QualityPolicy) -> None:
        pass

    def feed(self, text: str) -> Released:
        return Released(text)

    def flush(self) -> Released:
        return Released("")


class Hasty(Leaky):
    """Looks at each piece by itself."""

    def __init__(self, context: CheckContext, policy: QualityPolicy) -> None:
        self._given = (context, policy)

    def feed(self, text: str) -> Released:
        guard = StreamGuard(*self._given)
        first = guard.feed(text)
        rest = guard.flush()
        return Released(first.text + rest.text, first.findings + rest.findings)


def test_a_guard_that_lets_everything_through_is_caught() -> None:
    figures = measure_streams(corpus(), 30, 1, Leaky)
    assert all(figures["released"][load] > 0 for load in ("secrets", "pii", "prompt_leak"))
    assert figures["released_though_known"] > 0
    assert figures["independent"]["value"] == 1


def test_a_guard_that_depends_on_how_the_stream_was_cut_is_caught() -> None:
    figures = measure_streams(corpus(), 30, 1, Hasty)
    assert figures["independent"]["value"] < 1
    assert figures["differing"]
    assert figures["released_though_known"] > 0


def test_the_guard_lets_nothing_out_that_the_checks_know() -> None:
    figures = measure_streams(corpus(), 30, 1)
    assert figures["released_though_known"] == 0
    assert figures["independent"]["value"] == 1
    assert sum(figures["fed"].values()) == 60
    assert figures["held"]["max"] > 0


def test_a_value_is_told_with_the_end_of_its_sentence_at_the_latest() -> None:
    sentences = measure_streams(corpus(), 30, 1)["sentences"]
    assert {"secrets", "pii", "prompt_leak"} <= sentences.keys()
    # One that ends its sentence is told when the next word begins.
    assert sentences["pii"]["max"] == 1


def test_what_a_leaky_guard_lets_through_is_read_in_the_frames_and_in_the_logprobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "StreamGuard", Leaky)
    figures = measure_served(corpus(), 30, 1)
    assert all(figures["released"][load] > 0 for load in ("secrets", "pii", "prompt_leak"))
    assert figures["released_in_logprobs"] > 0
    assert all(each["known"] for each in figures["leaking"])


def test_a_client_of_the_service_gets_nothing_of_a_value_and_always_a_verdict() -> None:
    figures = measure_served(corpus(), 60, 1)
    assert figures["released"] == {"secrets": 0, "pii": 0, "prompt_leak": 0}
    assert figures["released_in_logprobs"] == 0
    assert figures["leaking"] == []
    assert figures["without_verdict"] == figures["without_ending"] == figures["unlike_log"] == 0
    assert sum(figures["fed"].values()) == 60
    outcomes = figures["outcomes"]
    assert outcomes["secrets"].keys() == outcomes["prompt_leak"].keys() == {"blocked"}
    assert "pass" not in outcomes["pii"]
    assert "blocked" not in outcomes["nothing"]


class GuardFirst:
    """Looks at what the engine said, and not at what a rendering makes of it."""

    def __init__(self, guard: Guard, rendering: TextStream) -> None:
        self._guard, self._rendering = guard, rendering

    def feed(self, text: str) -> Released:
        released = self._guard.feed(text)
        return Released(self._rendering.feed(released.text), released.findings, released.stop)

    def flush(self) -> Released:
        released = self._guard.flush()
        text = self._rendering.feed(released.text) + self._rendering.flush()
        return Released(text, released.findings, released.stop)


def test_a_guard_that_comes_before_the_rendering_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def guard_first(
        plan: Plan,
        make_guard: Callable[[], Guard],
        make_rendering: Callable[[], TextStream] | None,
        *rest: Any,
    ) -> RequestLife:
        if make_rendering is None:
            return RequestLife(plan, make_guard, None, *rest)
        return RequestLife(plan, lambda: GuardFirst(make_guard(), make_rendering()), None, *rest)

    monkeypatch.setattr(service, "RequestLife", guard_first)
    figures = measure_served(corpus(), 60, 1)
    assert sum(figures["released"].values()) > 0
    assert all(each["disguised"] for each in figures["leaking"])


def test_streams_of_the_service_are_the_same_again() -> None:
    assert measure_served(corpus(), 10, 3) == measure_served(corpus(), 10, 3)


def test_a_finish_chunk_that_says_nothing_of_quality_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "quality_of", lambda answer: {})
    figures = measure_served(corpus(), 10, 1)
    assert (figures["without_verdict"], figures["without_ending"]) == (10, 0)


def test_a_stream_that_breaks_off_has_no_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(answer: Answer) -> dict[str, object]:
        raise Unavailable("The token cannot be signed.")

    monkeypatch.setattr(service, "quality_of", fail)
    figures = measure_served(corpus(), 10, 1)
    assert (figures["without_verdict"], figures["without_ending"]) == (10, 10)


def by_word(text: str) -> list[str]:
    return split_by(text, [match.end() for match in re.finditer(r"\s*\S+", text)])


def test_a_word_is_held_until_the_next_one_begins() -> None:
    figures = measure_delays([record("nature-01", "Rain falls down")], corpus().systems, by_word)["by_check"]
    first = figures["secrets"]["first_ms"]["p50"]
    assert 1000 / PACE <= first < 2000 / PACE
    # The engine says that the last one is the last.
    assert figures["secrets"]["at_once"] == pytest.approx(1 / 3)
    assert figures["prompt_leak"]["at_once"] == 1


def test_a_piece_of_a_split_character_comes_with_the_last_token_of_it() -> None:
    assert split_by("a雨b", [1, 2, 2, 2, 3]) == ["a", "雨", "", "", "b"]


def test_every_tier_is_timed_with_those_below_it() -> None:
    asked: list[str] = []

    def relate(question: str, text: str) -> float:
        asked.append(question)
        return 0.5

    records = [record(f"nature-{number:02}", f"{TEXT} {TEXT}") for number in range(3)]
    figures = measure_latency(records, corpus().systems, random.Random(1), relate)
    assert figures["texts"] == 3
    assert len(asked) == 1 + 3
    assert {"tier 0", "tiers 0 and 1", "all tiers", *CHECKS} == figures["milliseconds"].keys()


def all_figures() -> dict[str, object]:
    detection = evaluate(corpus(), [pii_case(), case("pii", TEXT, (0, 6))], POLICY)
    latency = {"texts": 1, "words": 300, "milliseconds": {"tier 0": {"p50": 1.0, "p95": 2.0, "p99": 5.0}}}
    return {
        "detection": detection,
        "repair": measure_repair([], [record("nature-01", TEXT)]),
        "streams": measure_streams(corpus(), 8, 1),
        "served": measure_served(corpus(), 8, 1),
        "delays": measure_delays(corpus().clean, corpus().systems, by_word),
        "latency": latency,
    }


def test_targets_say_what_was_reached_and_what_was_not_measured() -> None:
    targets = {target["what"]: target for target in judge_figures(all_figures())}
    assert targets["personal values found"]["met"] is False
    assert targets["personal values found"]["reached"].startswith("50.0% of 2 (")
    assert targets["tier 0: 300 words, one core, p95"]["met"] is True
    assert targets["all tiers: 300 words, one core, p95"]["met"] is None
    assert targets["broken JSON found"]["met"] is None


def test_the_page_tells_every_figure_and_lists_the_false_alarms() -> None:
    figures = all_figures()
    figures["detection"]["false_alarms"] = [  # type: ignore[index]
        {"group": "hard", "record": "verse-03", "check": "repetition", "severity": "soft", "message": "loops"}
    ]
    page = compose(
        {
            "corpus": {
                "half": "test",
                "records": dict.fromkeys(("clean", "hard", "languages"), 7),
                "code": "a",
                "texts": "b",
            },
            "configuration": {"seed": 1, "streams": 8},
            "versions": {"rheostat": "0.1"},
            "machine": {"python": "3.11", "cores": 2},
            "targets": judge_figures(figures),
            "figures": figures,
        },
        "validation.json",
    )
    assert "| verse-03 | repetition | loops |" in page
    assert "| pii | pii | 2 | 50.0%" in page
    assert "### From the engine to the client" in page
    assert "--half test --seed 1" in page


def test_a_share_has_its_hits_and_its_interval() -> None:
    assert counted(1, 2).keys() == {"hits", "of", "value", "low", "high"}


def test_every_check_is_in_the_figures() -> None:
    figures = evaluate(corpus(), [], POLICY)
    assert list(figures["checks"]) == list(CHECKS)
