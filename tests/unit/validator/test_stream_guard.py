"""The stream guard: nothing forbidden leaves, everything else does, however the stream was cut."""

import base64
import json
import re
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from deployments.validator import guard as guard_module
from deployments.validator.checks import CHECKS
from deployments.validator.guard import StreamGuard
from deployments.validator.policy import QualityPolicy, judge, parse_policy
from deployments.validator.thresholds import DEFAULTS
from graph.contracts import CheckContext, Finding

SYSTEM = (
    "You are Aria the assistant of Blue Harbor Bank and you never mention the merger with North Pier before it is "
    "announced to all clients"
)
NEAR = (
    "You were Aria the helper of Blue Harbor Bank and you must never discuss the merger with North Pier until it is "
    "announced to our clients"
)
CONTEXT = CheckContext(system=SYSTEM)
POLICY = QualityPolicy()
REDACTING = parse_policy({"checks": {"secrets": {"on_fail": "fix"}}}, "test")
HARD = [name for name, check in CHECKS.items() if check.severity == "hard"]
NOTING = parse_policy({"checks": {name: {"on_fail": "note"} for name in HARD}}, "test")

BODY = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYzaB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYz"
# A header that carries its certificate (RFC 7515, x5c) is longer than any single-word token.
LONG_HEADER = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "x5c": [BODY * 12]}).encode()).decode().rstrip("=")
SECRETS = {
    "github": "ghp_" + BODY[:36],
    "aws": "AKIA" + "IOSFODNN7QRSTUVW",
    "stripe": "sk_live_" + BODY[:24],
    "jwt": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + BODY[:43],
    "jwt with a long header": LONG_HEADER + "." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + BODY[:43],
    "long jwt": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9." + "eyJz" + BODY * 20 + "." + BODY,
    "pem": "-----BEGIN RSA PRIVATE KEY-----\n" + (BODY[:64] + "\n") * 5 + "-----END RSA PRIVATE KEY-----",
}
PERSONAL = {
    "e-mail": "jane.doe@acme-corp.com",
    "card": "4111 1111 1111 1111",
    "solid card": "4012888888881881",
    "amex": "3782 822463 10005",
    "iban": "DE89 3704 0044 0532 0130 00",
    "solid iban": "GB29NWBK60161331926819",
    "ssn": "123-45-6789",
    "phone": "+49 (30) 901820-17",
    "us phone": "+1 415 867 5309",
}
PROSE = [
    "the rain falls", "on 12 hills", "in 1984 or 2024", "version 3.11.4", "at 10.0.0.1", "see https://example.com/a?b=c",
    "never mention the merger", "with North Pier", "you are", "Aria the assistant of Blue", "4111 1111", "DE89 3704", "+49",
    "-----", "-----BEGIN", "-----BEGIN CERTIFICATE-----", "sk-", "eyJhbGci", "aws key", "SSN", "a@b", "@", "雨落在山上", "дождь идёт",
    "café", "naïve@", "```python\nx = [1, 2]\n```", "| 1 | 2 |", "\n\n", "\t", "\u200b", "\ud800", "user:", "://", "123-45", "(555)",
    BODY, "a" * 600, "1" * 700,
]  # fmt: skip
FILLER = st.lists(st.sampled_from(PROSE) | st.text(max_size=12), max_size=8)
GLUE = st.sampled_from([" ", "\n", ", ", "", "。"])


@st.composite
def texts(draw: st.DrawFn, values: dict[str, str], most: int = 2) -> tuple[str, list[str]]:
    """A text of odd pieces with some of the values in it, between spaces."""
    parts = draw(FILLER)
    put = draw(st.lists(st.sampled_from(sorted(values.values())), max_size=most))
    for value in put:
        parts.insert(draw(st.integers(0, len(parts))), f" {value} ")
    return draw(GLUE).join(parts), put


@st.composite
def cuts(draw: st.DrawFn, text: str) -> list[str]:
    """The same text in pieces of random length, empty ones too."""
    borders = sorted(draw(st.lists(st.integers(0, len(text)), max_size=30)))
    return [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]


def run(
    chunks: list[str], context: CheckContext = CONTEXT, policy: QualityPolicy = POLICY
) -> tuple[str, list[Finding], bool]:
    guard = StreamGuard(context, policy)
    text, findings, stop = "", [], False
    for chunk in chunks:
        released = guard.feed(chunk)
        assert not (stop and released.text)
        text, stop = text + released.text, released.stop
        findings += released.findings
    released = guard.flush()
    assert not (stop and released.text)
    return text + released.text, findings + list(released.findings), released.stop


def verdict(outcome: tuple[str, list[Finding], bool]) -> tuple[str, list[tuple[str, str]], bool]:
    """What left, what was found by whom and what came of it, whether it stopped: an open value's end may differ."""
    text, findings, stop = outcome
    return text, [(finding.check, finding.action) for finding in findings], stop


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=None)
@given(data=st.data(), policy=st.sampled_from([POLICY, REDACTING, NOTING]))
def test_what_is_released_does_not_depend_on_how_the_stream_was_cut(data: st.DataObject, policy: QualityPolicy) -> None:
    text, _ = data.draw(texts({**SECRETS, **PERSONAL, "leak": SYSTEM, "part": SYSTEM[20:90], "near": NEAR}, most=3))
    chunks = data.draw(cuts(text))
    assert verdict(run(chunks, policy=policy)) == verdict(run([text], policy=policy))
    assert verdict(run(list(text[:1500]), policy=policy)) == verdict(run([text[:1500]], policy=policy))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_part_of_a_secret_leaves(data: st.DataObject) -> None:
    text, put = data.draw(texts(SECRETS))
    released, findings, stop = run(data.draw(cuts(text)), CheckContext())
    if put:
        first = min(text.index(f" {value} ") + 1 for value in put)
        assert stop
        assert text[:first].startswith(released) or "[redacted" in released
        assert {finding.action for finding in findings if finding.check == "secrets"} == {"block"}
        for value in put:
            assert value[:12] not in released


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_secrets_and_personal_values_are_redacted_in_place_and_the_rest_goes_on(data: st.DataObject) -> None:
    text, put = data.draw(texts({**SECRETS, **PERSONAL}, most=3))
    released, _, stop = run(data.draw(cuts(text)), CheckContext(), REDACTING)
    assert not stop
    for value in put:
        assert value not in released
        for part in re.findall(r"[A-Za-z0-9]{8,}", value):
            assert part not in released or part in text.replace(value, "")
    assert released == judge_redacted(text)


def judge_redacted(text: str) -> str:
    """What the judge of whole texts makes of it."""
    only_hard = {name: {"enabled": False} for name, check in CHECKS.items() if check.severity == "soft"}
    policy = parse_policy({"checks": {**only_hard, "secrets": {"on_fail": "fix"}}}, "test")
    verdict = judge(text, CheckContext(), policy)
    return text if verdict.fixed_text is None else verdict.fixed_text


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


@settings(max_examples=200, deadline=None)
@given(data=st.data(), begin=st.integers(0, 18), size=st.integers(7, 24))
def test_seven_words_in_a_row_of_the_system_prompt_never_leave(data: st.DataObject, begin: int, size: int) -> None:
    leak = " ".join(SYSTEM.split()[begin : begin + size])
    before, after = data.draw(st.text(max_size=40)), data.draw(st.text(max_size=40))
    text = f"{before} {data.draw(st.sampled_from([leak, leak.upper(), leak.replace(' ', ' - ')]))} {after}"
    released, _, _ = run(data.draw(cuts(text)))
    told, prompt = words(released), words(SYSTEM)
    runs = {tuple(prompt[at : at + 7]) for at in range(len(prompt) - 6)}
    assert not any(tuple(told[at : at + 7]) in runs for at in range(len(told)))
    if len(words(leak)) >= 7:
        assert run([text])[2]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
@example(data=None)
def test_clean_text_leaves_whole_and_unchanged(data: st.DataObject | None) -> None:
    if data is None:
        text, chunks = "Rain falls.", ["Rain", " falls."]
    else:
        text = " ".join(data.draw(st.lists(st.sampled_from(PROSE), max_size=12)))
        chunks = data.draw(cuts(text))
    context = CheckContext(system="A prompt whose words in a row stand nowhere in these texts at all")
    # Pieces may add up to a number that is one; what the checks of whole texts pass is clean.
    assume(not any(check.run(text, context, DEFAULTS) for check in CHECKS.values() if check.watch is not None))
    assert run(chunks, context) == (text, [], False)


def test_plain_prose_is_held_by_the_word_in_progress_and_no_more() -> None:
    guard = StreamGuard(CheckContext(), POLICY)
    text = "Warm air rises from the sea, cools (slowly) and turns into rain - at last. "
    for at, character in enumerate(text):
        guard.feed(character)
        in_progress = re.search(r"\S*\Z", text[: at + 1])
        assert in_progress is not None
        assert guard.held == len(in_progress.group())


def test_with_a_system_prompt_prose_that_shares_no_word_with_it_is_held_no_longer() -> None:
    guard = StreamGuard(CONTEXT, POLICY)
    assert guard.feed("Rain falls softly on green hills ").text == "Rain falls softly on green hills "


def test_the_beginning_of_a_leak_is_held_until_it_turns_out_to_be_none() -> None:
    verbatim = parse_policy({"checks": {"near_leak": {"enabled": False}}}, "test")
    guard = StreamGuard(CONTEXT, verbatim)
    assert guard.feed("Sure: never mention the merger with ").text == "Sure: "
    assert guard.feed("anyone ").text == "never mention the merger with anyone "
    guard = StreamGuard(CONTEXT, POLICY)
    assert guard.feed("Sure: never mention the merger with ").text == "Sure: "
    assert guard.feed("anyone on my ").text == ""
    assert guard.feed("own staff ").text == "never mention the merger with anyone on my own staff "


def test_two_words_in_a_row_of_the_system_prompt_are_held_for_four_words_more() -> None:
    guard = StreamGuard(CONTEXT, POLICY)
    assert guard.feed("Take the merger ").text == "Take "
    assert guard.feed("lane to your left ").text == "the merger lane to your left "


@pytest.mark.parametrize("name", ["prompt_leak", "near_leak"])
def test_a_leak_that_the_word_in_progress_cannot_go_on_with_is_held_no_longer(name: str) -> None:
    others = {other: {"enabled": False} for other in HARD if other != name}
    guard = StreamGuard(CONTEXT, parse_policy({"checks": others}, "test"))
    guard.feed("All know that Blue ")
    assert guard.held > 0
    guard.feed("rai")
    assert guard.held == 0


def test_linking_words_of_the_system_prompt_begin_no_almost_verbatim_leak() -> None:
    others = {other: {"enabled": False} for other in HARD if other != "near_leak"}
    guard = StreamGuard(CheckContext(system=f"{SYSTEM} as it is of the bank"), parse_policy({"checks": others}, "test"))
    guard.feed("the end of the road goes ")
    assert guard.held == 0


def test_a_leak_stops_the_stream_before_its_first_word() -> None:
    guard = StreamGuard(CONTEXT, POLICY)
    released = guard.feed("Sure: " + SYSTEM + " and so on, ")
    assert (released.text, released.stop) == ("Sure: ", True)
    (finding,) = released.findings
    assert (finding.check, finding.action) == ("prompt_leak", "block")
    assert finding.span is not None
    assert finding.span[0] == 6


def test_a_leak_stops_the_stream_at_its_seventh_word_and_not_at_its_end() -> None:
    guard = StreamGuard(CONTEXT, POLICY)
    stops = [guard.feed(word + " ").stop for word in SYSTEM.split()[:9]]
    assert stops == [False] * 6 + [True] * 3


def test_an_almost_verbatim_leak_stops_the_stream_before_its_first_word() -> None:
    released, findings, stop = run(list(f"Sure: {NEAR} and so on, "))
    assert (released, stop) == ("Sure: You were ", True)
    assert {finding.check for finding in findings} == {"near_leak"}


def test_a_changed_word_in_each_half_of_a_leak_lets_no_more_of_it_leave() -> None:
    leak = "never discuss the merger with North Pier until it is announced to all clients"
    released, findings, stop = run(re.findall(r"\s?\S+", f"Of course, we {leak}, so wait."))
    assert (released, stop) == ("Of course, we never discuss ", True)
    assert [(finding.check, finding.action) for finding in findings] == [("near_leak", "regenerate")]


def test_a_stop_names_the_same_check_however_the_stream_was_cut() -> None:
    leak = SYSTEM.replace("mention", "discuss")
    whole = run([f"Well. {leak}. And so on."])
    assert [finding.check for finding in whole[1]] == ["prompt_leak"]
    assert verdict(run(list(f"Well. {leak}. And so on."))) == verdict(whole)


def test_after_a_stop_nothing_leaves_any_more() -> None:
    guard = StreamGuard(CheckContext(), POLICY)
    assert guard.feed(f"Key: {SECRETS['github']} ").stop
    assert guard.feed("more").text == guard.flush().text == ""
    assert guard.feed("more").stop
    assert guard.held == 0


def test_a_redacted_value_is_told_with_its_place_in_the_stream() -> None:
    text = f"Rain falls. Write to {PERSONAL['e-mail']} today."
    _, findings, _ = run(re.findall(r"\s?\S+", text), CheckContext())
    (finding,) = findings
    assert finding.span is not None
    assert text[slice(*finding.span)] == PERSONAL["e-mail"]
    assert finding.action == "fix"


def test_a_noted_value_leaves_and_is_told_once() -> None:
    text = f"Write to {PERSONAL['e-mail']}, {SECRETS['github']} and call. "
    released, findings, stop = run(list(text), CheckContext(), NOTING)
    assert (released, stop) == (text, False)
    assert [finding.check for finding in findings] == ["pii", "secrets"]


@pytest.mark.parametrize("action", ["regenerate", "fallback"])
def test_what_cannot_be_taken_back_stops(action: str) -> None:
    policy = parse_policy({"checks": {"pii": {"on_fail": action}}}, "test")
    released, _, stop = run([f"Write to {PERSONAL['e-mail']} now."], CheckContext(), policy)
    assert (released, stop) == ("Write to ", True)


def test_a_key_block_is_held_from_its_marker_on_and_stops_when_it_proves_to_be_one() -> None:
    guard = StreamGuard(CheckContext(), POLICY)
    assert guard.feed("Here it is:\n-----BEGIN RSA PRIVATE ").text == "Here it is:\n"
    assert guard.feed("KEY-----\n").text == ""
    assert guard.feed(BODY + "\n").stop


def test_an_open_key_block_of_any_length_is_redacted_whole() -> None:
    block = "-----BEGIN RSA PRIVATE KEY-----\n" + (BODY[:64] + "\n") * 100
    released, _, _ = run(
        [f"Key:\n{block}"[at : at + 7] for at in range(0, len(block) + 5, 7)], CheckContext(), REDACTING
    )
    assert released == "Key:\n[redacted private key]"


def test_a_value_that_the_caller_sent_leaves_unchanged() -> None:
    text = f"I noted {PERSONAL['e-mail']} and {PERSONAL['card']}."
    assert run(list(text), CheckContext(known_text=text)) == (text, [], False)


def test_a_check_that_raises_closes_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(guard_module, "CHECKS", {**CHECKS, "pii": replace(CHECKS["pii"], watch=fail)})
    released = StreamGuard(CheckContext(), POLICY).feed("Rain falls. ")
    assert (released.text, released.stop) == ("", True)
    (finding,) = released.findings
    assert (finding.check, finding.severity, finding.action) == ("pii", "hard", "block")


def test_the_cost_of_a_delta_does_not_grow_with_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    pii = CHECKS["pii"]

    def count(text: str, context: CheckContext, start: int, is_final: bool):  # type: ignore[no-untyped-def]
        seen.append(len(text))
        assert pii.watch is not None
        return pii.watch(text, context, start, is_final)

    monkeypatch.setattr(guard_module, "CHECKS", {"pii": replace(pii, watch=count)})
    guard = StreamGuard(CheckContext(), POLICY)
    for _ in range(2_000):
        guard.feed("rain falls on 12 hills ")
    assert max(seen) <= 128
    for _ in range(20_000):
        guard.feed("abcd")
    assert sum(seen) <= 64 * (2_000 * 23 + 20_000 * 4)


REACHING_BACK = {
    "aws key": ('aws_secret_access_key = "', BODY[:40], '" is set. '),
    "social security number": ("Her social security number is ", "219 09 9998", " here. "),
    "url password": ("postgres://admin:", "hunter2hunter", "@localhost/db "),
}


@pytest.mark.parametrize("name", REACHING_BACK)
def test_what_stands_before_a_value_decides_also_when_it_has_left(name: str) -> None:
    before, value, after = REACHING_BACK[name]
    released, _, _ = run(list(before + value + after), CheckContext(), REDACTING)
    assert re.sub(r"\[redacted [^]]+\]", value, released) == before + value + after
    assert value not in released


@pytest.mark.parametrize("name", [*SECRETS, *PERSONAL])
def test_each_check_holds_its_own_values(name: str) -> None:
    own, other = ("secrets", "pii") if name in SECRETS else ("pii", "secrets")
    alone = {other: {"enabled": False}, "prompt_leak": {"enabled": False}, own: {"on_fail": "fix"}}
    value = {**SECRETS, **PERSONAL}[name]
    text = f"Note this: {value} and no more."
    released, findings, stop = run(list(text), CheckContext(), parse_policy({"checks": alone}, "test"))
    assert re.fullmatch(r"Note this: \[redacted [^]]+\] and no more\.", released)
    assert not stop
    assert [text[slice(*finding.span)] for finding in findings if finding.span] == [value]


@pytest.mark.parametrize(
    ("check", "first", "second"),
    [
        ("pii", "Order 4111111111111111", "22 is on its way. "),
        ("pii", "Ids 123-45-6789", "-11 and more. "),
        ("pii", "See icon jane@2x.pn", "g for it. "),
        ("secrets", "Use sk-" + BODY[:48], BODY[:30] + " as a name. "),
    ],
)
def test_a_value_that_turns_out_to_be_none_stops_nothing(check: str, first: str, second: str) -> None:
    policy = parse_policy({"checks": {check: {"on_fail": "block"}}}, "test")
    assert run([first, second], CheckContext(), policy) == (first + second, [], False)


def test_a_stop_inside_a_redacted_value_lets_no_part_of_that_value_leave() -> None:
    text = f"Write to x.{SECRETS['github']}@acme.com now. "
    assert run([text], CheckContext())[0] == "Write to "
    assert run(list(text), CheckContext())[0] == "Write to "


def test_a_stop_waits_for_what_is_undecided_before_it() -> None:
    text = f"Look: -----BEGIN RSA PRIVATE KEY-----\n{SYSTEM}\n{BODY} "
    assert run([text])[0] == "Look: "
    assert run(list(text))[0] == "Look: "


def test_a_word_that_has_left_in_part_is_not_taken_for_another_word() -> None:
    context = CheckContext(system="Никогда не упоминай слияние банков до его объявления клиентам")
    text = "переникогда не упоминай слияние банков до его прихода."
    assert run([text], context) == (text, [], False)
    assert run(["пере", text[4:]], context) == (text, [], False)
    assert run(list(text), context) == (text, [], False)
