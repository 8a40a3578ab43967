"""The figures of the overload benchmark, and that its clients retry as the SDK does."""

import asyncio
import random
from contextlib import closing
from typing import Any, cast

import httpx
import pytest

from benchmarks.overload import figures_of, goodput, missed, recovery_s
from benchmarks.overload_client import RETRIES, Call, Pool, Sdk, Try, pause_s
from benchmarks.streams import run

DEADLINE_S = 10.0


def answered(due: float, took_s: float = 1.0, *refusals: float) -> Call:
    """A call that was refused so many times, each told to come back after so long, and then answered."""
    sent, tries = due, []
    for pause in refusals:
        tries.append(Try(sent, 0.01, 429))
        sent += 0.01 + pause
    return Call(due, [*tries, Try(sent, took_s, 200)])


def given_up(due: float) -> Call:
    return Call(due, [Try(due + number, 0.01, 429) for number in range(RETRIES + 1)])


def test_good_is_what_came_whole_and_in_time_within_the_span() -> None:
    late = Call(1.0, [Try(1.0, DEADLINE_S + 0.1, 200)])
    calls = [answered(0.0), answered(1.0), answered(9.5), given_up(2.0), late]
    assert goodput(calls, 0.0, 10.0, DEADLINE_S) == 0.2


def test_it_recovers_when_the_last_call_was_refused_or_slow() -> None:
    calm = [answered(second + part) for second in range(10) for part in (0.1, 0.5, 0.9)]
    assert recovery_s(calm, 0.0, 1.0, DEADLINE_S) == 0.0
    assert recovery_s([*calm, given_up(3.2)], 0.0, 1.0, DEADLINE_S) == 3.2
    slow = [answered(4.0 + part, 1.6) for part in (0.2, 0.3, 0.4, 0.6)]
    assert recovery_s([*calm, *slow], 0.0, 1.0, DEADLINE_S) == 5.0
    assert recovery_s([*calm, answered(4.0, 1.0, 1.5)], 0.0, 1.0, DEADLINE_S) == 0.0  # one of four
    assert recovery_s([*calm, given_up(9.5)], 0.0, 1.0, DEADLINE_S) is None
    assert recovery_s([], 0.0, 1.0, DEADLINE_S) is None


def test_what_is_missed_is_said() -> None:
    calls = [answered(-1.0)] + [answered(second / 10, 1.0, 1.2) for second in range(100)] + [given_up(5.0)]
    calls += [answered(10 + second / 10) for second in range(100)]
    one = figures_of(calls, 0.0, 10.0, DEADLINE_S, peak=8.0)
    assert (one["calls"], one["requests"], one["statuses"]) == (101, 203, {"200": 100, "429": 103})
    assert one["goodput_per_s"] == pytest.approx(7.8, abs=0.15)
    assert (one["refused_p99_ms"], one["recovery_s"]) == (10.0, 0.0)
    assert missed({"loads": {"2": one}}, DEADLINE_S) == []
    worse: dict[str, Any] = {
        **one,
        "ratio": 0.89,
        "refused_p99_ms": 51.0,
        "recovery_s": 5.1,
        "statuses": {"0": 1, "500": 1},
    }
    assert len(missed({"loads": {"2": worse}}, DEADLINE_S)) == 4
    assert len(missed({"loads": {"10": {**one, "recovery_s": None}}}, DEADLINE_S)) == 1


@pytest.mark.parametrize(
    "headers",
    [{"retry-after-ms": "1340", "Retry-After": "2"}, {"Retry-After": "3"}, {}],
)
@pytest.mark.parametrize("retries_taken", range(RETRIES))
def test_a_client_waits_as_long_as_the_sdk(headers: dict[str, str], retries_taken: int) -> None:
    openai = pytest.importorskip("openai")
    from openai._models import FinalRequestOptions

    sdk = openai.OpenAI(api_key="none", base_url="http://none")
    assert sdk.max_retries == RETRIES
    options = FinalRequestOptions.construct(method="post", url="/")
    remaining = RETRIES - retries_taken
    told = [sdk._calculate_retry_timeout(remaining, options, httpx.Headers(headers)) for _ in range(300)]
    rng = random.Random(1)
    ours = [
        pause_s({name.lower(): text for name, text in headers.items()}, retries_taken, rng) or 0 for _ in range(300)
    ]
    assert min(ours) == pytest.approx(min(told), rel=0.05)
    assert max(ours) == pytest.approx(max(told), rel=0.05)


def test_a_client_gives_up_when_it_is_told_to_or_has_no_retry_left() -> None:
    rng = random.Random(1)
    assert pause_s({"x-should-retry": "false", "retry-after": "1"}, 0, rng) is None
    assert pause_s({"retry-after": "900"}, 0, rng) is None
    assert pause_s({"retry-after": "1"}, RETRIES, rng) is None


class Answers(asyncio.Protocol):
    """A server that answers one request after the other with what is given; None: it hangs up."""

    def __init__(self, answers: list[bytes | None]) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answers.pop(0)
        if answer is None:
            self._transport.close()
        else:
            self._transport.write(answer)


def http(status: str, body: bytes, *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""])
    return head.encode() + body


WHOLE = http("200 OK", b'{"choices": [{"finish_reason": "stop"}]}')
REFUSED = http("429 Too Many Requests", b"{}", "retry-after-ms: 1")


@pytest.mark.parametrize(
    ("answers", "statuses"),
    [
        ([WHOLE], [200]),
        ([REFUSED, WHOLE], [429, 200]),
        ([REFUSED] * 3, [429] * 3),
        ([http("200 OK", b'{"choices": [{"finish_reason": null}]}', "x-should-retry: false"), WHOLE], [0, 200]),
        ([None, WHOLE], [0, 200]),
        ([http("504 Gateway Timeout", b"{}", "x-should-retry: false")], [504]),
    ],
)
def test_a_call_ends_as_the_sdks_would(
    answers: list[bytes | None], statuses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.overload_client.pause_s", _at_once)
    rest = list(answers)

    async def ask() -> Call:
        server = await asyncio.get_running_loop().create_server(lambda: Answers(rest), "127.0.0.1", 0)
        async with server:
            with closing(Pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as pool:
                return await Sdk(pool, "m", DEADLINE_S, 1).call()

    call = run(ask())
    assert [each.status for each in call.tries] == statuses
    assert call.is_good(DEADLINE_S) == (statuses[-1] == 200)


def _at_once(headers: dict[str, str], retries_taken: int, rng: random.Random) -> float | None:
    return None if pause_s(headers, retries_taken, rng) is None else 0.0
