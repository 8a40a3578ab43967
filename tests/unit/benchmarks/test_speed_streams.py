"""The measuring client: it counts only whole answers, and reads times off how an answer was cut on its way."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from benchmarks.streams import Answer, Client, Failed, ask_all, keep_asking, read_stream, read_whole

DONE = b"data: [DONE]\n\n"


def event(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choices = [] if "usage" in more else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return f"data: {json.dumps({'choices': choices, **more})}\n\n".encode()


ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
END = event(finish="length") + event(usage={"completion_tokens": 3}) + DONE


def stream(*pieces: bytes) -> list[tuple[float, bytes]]:
    """One arrival a second."""
    return [(float(second), piece) for second, piece in enumerate(pieces)]


def test_the_first_text_counts_and_not_the_role_before_it() -> None:
    answer = read_stream(-1.0, 9.0, stream(ROLE, event("one"), event(" two"), event(" three"), END))
    assert (answer.tokens, answer.deltas, answer.arrivals) == (3, 3, (1.0, 2.0, 3.0))
    assert answer.first_s == 2.0


def test_events_that_arrive_together_arrive_once() -> None:
    answer = read_stream(0.0, 9.0, stream(event("one") + event(" two"), event(" three"), END))
    assert (answer.deltas, answer.arrivals) == (3, (0.0, 1.0))


def test_an_event_that_is_cut_counts_when_its_text_begins() -> None:
    whole = event("one")
    cut = whole.index(b"one")
    answer = read_stream(0.0, 9.0, stream(whole[: cut - 4], whole[cut - 4 : cut], whole[cut:], END))
    assert answer.arrivals == (1.0,)


def test_a_text_that_looks_like_a_delta_or_a_usage_is_a_text() -> None:
    answer = read_stream(0.0, 9.0, stream(event('"content":"x" "usage":{ "error":1'), END))
    assert (answer.deltas, answer.tokens) == (1, 3)


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ((event("one"), event(finish="stop"), event(usage={"completion_tokens": 1})), "without"),
        ((event("one"), event(usage={"completion_tokens": 1}), DONE), "0 ends"),
        ((event("one"), event(finish="stop"), END), "2 ends"),
        ((event("one"), event(finish="stop"), DONE), "0 tokens"),
        ((ROLE, END), "0 deltas"),
        ((event("one"), b'data: {"error":{"message":"broke"}}\n\n', END), "broke"),
        ((event("one"), b'data: {"error":\n\n', END), "not an event"),
        ((), "without"),
    ],
)
def test_a_stream_that_is_not_whole_fails(pieces: tuple[bytes, ...], why: str) -> None:
    with pytest.raises(Failed, match=why):
        read_stream(0.0, 9.0, stream(*pieces))


def test_a_whole_answer_tells_its_tokens_and_its_outcome() -> None:
    value = {
        "choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 2},
        "rheostat": {"quality": {"outcome": "pass"}},
    }
    answer = read_whole(0.0, 1.0, stream(json.dumps(value).encode()))
    assert (answer.tokens, answer.outcome, answer.arrivals) == (2, "pass", ())


@pytest.mark.parametrize(
    "content", [b"{}", b"no JSON", b'{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}']
)
def test_what_is_no_answer_fails(content: bytes) -> None:
    with pytest.raises(Failed):
        read_whole(0.0, 1.0, stream(content))


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[str]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    size = int(head.split("content-length: ")[1].split("\r\n")[0])
    body: dict[str, Any] = json.loads(await reader.readexactly(size))
    return body


def chunked(*pieces: bytes) -> bytes:
    sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + sent


async def test_one_connection_is_kept_for_answer_after_answer() -> None:
    connections, requests = 0, 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, requests
        connections += 1
        while not reader.at_eof():
            try:
                await read_request(reader)
            except asyncio.IncompleteReadError:
                break
            requests += 1
            writer.write(chunked(event("one"), END) + b"0\r\n\r\n")
        writer.close()

    async with serving(handle) as url:
        answers = await ask_all(url, [{"stream": True}] * 6, users=2)
    assert [answer.failure for answer in answers] == [None] * 6
    assert (connections, requests) == (2, 6)


async def test_a_connection_that_ends_before_the_stream_does_fails_the_answer() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(chunked(event("one"), END))  # every event, and no end of the body
        writer.close()

    async with serving(handle) as url:
        (answer,) = await ask_all(url, [{"stream": True}], users=1)
    assert answer.failure is not None
    assert "broke off" in answer.failure


async def test_a_refusal_is_told_with_its_status() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 429 Too Many\r\ncontent-length: 4\r\n\r\nbusy")
        writer.close()

    async with serving(handle) as url:
        (answer,) = await ask_all(url, [{}], users=1)
    assert answer.failure == "Failed: 429: busy"


async def test_a_server_that_is_not_there_fails_and_does_not_raise() -> None:
    async with serving(lambda *_: asyncio.sleep(0)) as url:
        pass
    assert (await Client(url).ask({})).failure is not None


async def test_nobody_begins_after_the_time() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("was asked")

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield {}

    async with serving(handle) as url:
        answers: list[Answer] = await keep_asking(url, endless(), users=3, seconds=0.0)
    assert answers == []
