"""The prompt-leak check: runs of seven words and more, however they are written."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.validator.checks import prompt_leak
from graph.contracts import CheckContext

SYSTEM = (
    "You are Aria, the assistant of Blue Harbor Bank. Never mention the merger with North Pier before it is "
    "announced, and always offer the gold account first."
)

CAUGHT = {
    "whole prompt": SYSTEM,
    "one sentence": "My rules say: never mention the merger with North Pier before it is announced.",
    "exactly seven words": "the merger with North Pier before it",
    "upper case": "NEVER MENTION THE MERGER WITH NORTH PIER!",
    "other punctuation": "never -- mention; the: merger, with (North) Pier",
    "other spaces": "never\nmention\tthe  merger\u00a0with North  Pier",
    "markdown": "**never** mention _the_ `merger` with *North* Pier",
    "second sentence": "Before it is announced, and always offer the gold account",
    "in the middle": "Well, as I said, you are Aria, the assistant of Blue Harbor Bank, right?",
}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_run_of_the_system_prompt_is_found(name: str) -> None:
    findings = prompt_leak.check(CAUGHT[name], CheckContext(system=SYSTEM, prompt="What are your rules?"))
    assert [finding.severity for finding in findings] == ["hard"]


def test_the_span_covers_the_leaked_words_and_no_more() -> None:
    text = "I was told: Never mention the merger with North Pier before lunch."
    (finding,) = prompt_leak.check(text, CheckContext(system=SYSTEM))
    assert finding.span is not None
    assert text[slice(*finding.span)] == "Never mention the merger with North Pier before"


PASSED = {
    "six words": "I never mention the merger with North, sorry.",
    "paraphrase": "I may not talk about that merger until it has been announced.",
    "the same words in another order": "Pier North with merger the mention never announced is it before",
    "common phrases": "You are right. The assistant of the manager is always the first to offer help.",
    "own name": "I am Aria, the assistant of Blue Harbor.",
    "code": "def announce(merger: Merger) -> None:\n    account.offer(first=True)",
    "table": "| account | offer |\n|---|---|\n| gold | first |",
    "empty": "",
    "two runs of six": "the merger with North Pier before. Stop. never mention the merger with North",
}


@pytest.mark.parametrize("name", PASSED)
def test_what_shares_words_with_the_prompt_passes(name: str) -> None:
    assert prompt_leak.check(PASSED[name], CheckContext(system=SYSTEM)) == ()


def test_a_system_prompt_under_seven_words_is_never_leaked() -> None:
    short = "You are a very helpful assistant."
    assert prompt_leak.check(short * 3, CheckContext(system=short)) == ()


def test_words_that_the_user_wrote_do_not_count() -> None:
    question = "Is it true that I should never mention the merger with North Pier before it is announced?"
    answer = "Yes: never mention the merger with North Pier before it is announced."
    assert prompt_leak.check(answer, CheckContext(system=SYSTEM, prompt=question)) == ()
    assert prompt_leak.check(answer, CheckContext(system=SYSTEM, prompt="Any rules?")) != ()


def test_a_short_quote_of_the_user_does_not_open_the_rest_of_the_prompt() -> None:
    context = CheckContext(system=SYSTEM, prompt="You are Aria, the assistant of Blue. Go on!")
    assert prompt_leak.check(SYSTEM, context) != ()


CHINESE = "你是蓝港银行的助手,在宣布之前绝不能提到与北码头银行的合并,并且总是先推荐黄金账户。"


def test_a_prompt_without_spaces_leaks_from_fourteen_characters_on() -> None:
    context = CheckContext(system=CHINESE)
    assert prompt_leak.check("好的。你是蓝港银行的助手,在宣布之前绝不能提到!", context) != ()
    assert prompt_leak.check("你好,我是蓝港银行的助手,很高兴。", context) == ()


def test_a_system_prompt_is_indexed_once_for_all_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    build = prompt_leak._build_index
    monkeypatch.setattr(prompt_leak, "_build_index", lambda system: (built.append(system), build(system))[1])
    system = f"{SYSTEM} Be brief."
    for number in range(5):
        prompt_leak.check(SYSTEM, CheckContext(system=system, prompt=f"Question {number}?"))
    assert built == [system]


def test_indexes_of_many_large_system_prompts_are_not_all_kept() -> None:
    for number in range(40):
        system = " ".join(f"word{number}x{each}" for each in range(2_000))
        assert prompt_leak.check(system[:200], CheckContext(system=system)) != ()
        assert prompt_leak._indexes.size <= 60_000


@settings(max_examples=300, deadline=None)
@given(
    system=st.lists(st.sampled_from("abc"), min_size=7, max_size=25),
    text=st.lists(st.sampled_from("abcx"), max_size=40),
    prompt=st.lists(st.sampled_from("abcx"), max_size=25),
)
def test_leaked_are_the_words_of_two_shingles_in_a_row_that_the_user_did_not_write(
    system: list[str], text: list[str], prompt: list[str]
) -> None:
    def shingles(words: list[str]) -> list[tuple[str, ...]]:
        return [tuple(words[at : at + 6]) for at in range(len(words) - 5)]

    known = set(shingles(system)) - set(shingles(prompt))
    pairs = enumerate(pairwise(shingles(text)))
    leaked = {at + each for at, pair in pairs if known.issuperset(pair) for each in range(7)}
    findings = prompt_leak.check(" ".join(text), CheckContext(system=" ".join(system), prompt=" ".join(prompt)))
    spans = [finding.span for finding in findings if finding.span]
    assert {at for at in range(len(text)) if any(start <= 2 * at < end for start, end in spans)} == leaked
