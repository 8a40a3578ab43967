"""A client for measuring OpenAI servers: one process, any number of streams, as cheap as a client can be that still
checks every answer.

Client and servers share the cores of the machine, so what the client burns is missing from what it measures. While an
answer comes, nothing is done but to note what arrived when; it is read once it is whole.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import uvloop

PATH = "/v1/chat/completions"
DONE = b"data: [DONE]"
_CONTENT = re.compile(rb'"content":\s?"(?!")')
"""The beginning of a delta with text in it. In a text the quotes would be escaped."""
_TELLING = re.compile(rb'"usage":\s?\{|"finish_reason":\s?"|"error":')
"""What makes an event worth parsing: the others hold text alone."""


class Failed(Exception):
    """An answer that is none; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and what came of it. Times are `time.perf_counter`'s."""

    began: float
    ended: float
    tokens: int
    """Of the answer, as the server counts them."""
    arrivals: tuple[float, ...] = ()
    """When text arrived: of deltas that arrived together, one time. Empty where the answer was not streamed."""
    deltas: int = 0
    """Events with text in them."""
    outcome: str | None = None
    """What became of it in the validator; None: the server has none."""
    failure: str | None = None
    """Why it does not count; None: it does."""

    @property
    def first_s(self) -> float:
        """Seconds to the first text."""
        return self.arrivals[0] - self.began


class _Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._now = 0.0
        self.pieces: list[tuple[float, bytes]] = []
        """What came of the body, and when."""
        self.status = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Failed(f"the connection broke off: {exc or 'closed'}"))

    def on_body(self, body: bytes) -> None:
        self.pieces.append((self._now, body))

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        keeps = self._parser.should_keep_alive()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if not keeps and self.transport is not None:
            self.transport.close()

    async def send(self, request: bytes) -> None:
        """Returns when the answer is whole; raises Failed when it breaks off."""
        if self.transport is None:
            raise Failed("the connection was closed before the request was sent")
        self.pieces, self.status = [], 0
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._waiter

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Client:
    """One user: asks one question after the other over one connection.

    Args:
        url: Of the server, without a path.
        timeout_s: An answer that takes longer counts as failed.
    """

    def __init__(self, url: str, timeout_s: float = 300.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port = parts.hostname, parts.port
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None

    async def ask(self, body: Mapping[str, Any]) -> Answer:
        """Sends one request; never raises for what the server does."""
        content = json.dumps(body).encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        began = time.perf_counter()
        try:
            connection = await self._connected()
            async with asyncio.timeout(self._timeout_s):
                await connection.send(head.encode() + content)
            ended = time.perf_counter()
            if connection.status != 200:
                said = b"".join(piece for _, piece in connection.pieces)
                raise Failed(f"{connection.status}: {said[:300].decode(errors='replace')}")
            read = read_stream if body.get("stream") else read_whole
            return read(began, ended, connection.pieces)
        except (Failed, OSError, TimeoutError, httptools.HttpParserError) as error:
            self.close()
            return Answer(began, time.perf_counter(), 0, failure=f"{type(error).__name__}: {error}")

    async def _connected(self) -> _Connection:
        if self._connection is None or self._connection.transport is None or self._connection.transport.is_closing():
            loop = asyncio.get_running_loop()
            _, self._connection = await loop.create_connection(_Connection, self._host, self._port)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read_whole(began: float, ended: float, pieces: Sequence[tuple[float, bytes]]) -> Answer:
    """An answer in one piece.

    Raises:
        Failed: It is not one.
    """
    try:
        value = json.loads(b"".join(piece for _, piece in pieces))
        (choice,) = value["choices"]
        if choice["finish_reason"] is None or not choice["message"]["content"]:
            raise Failed(f"an answer without an end or a text: {choice}")
        return Answer(began, ended, value["usage"]["completion_tokens"], outcome=_outcome(value))
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"not an answer ({type(error).__name__}: {error})") from None


def read_stream(began: float, ended: float, pieces: Sequence[tuple[float, bytes]]) -> Answer:
    """A streamed answer: server-sent events, wherever they were cut on their way.

    Raises:
        Failed: It is not whole: no text, an error, not one end of the answer, no usage, or ``[DONE]`` is not its end.
    """
    body = b"".join(piece for _, piece in pieces)
    events = [event for event in body.replace(b"\r\n", b"\n").split(b"\n\n") if event.startswith(b"data:")]
    if not events or events[-1].strip() != DONE:
        raise Failed(f"the stream ended without [DONE]: ...{body[-200:]!r}")
    tokens, finishes, outcome = 0, 0, None
    try:
        for event in events[:-1]:
            if _TELLING.search(event):
                chunk = json.loads(event[len(b"data:") :])
                if "error" in chunk:
                    raise Failed(f"the stream holds an error: {chunk['error']}")
                finishes += sum(choice["finish_reason"] is not None for choice in chunk["choices"])
                tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
                outcome = _outcome(chunk) or outcome
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"not an event of a stream ({type(error).__name__}: {error})") from None
    arrivals, deltas = _arrivals(pieces, [found.end() for found in _CONTENT.finditer(body)])
    if finishes != 1 or not tokens or not arrivals:
        raise Failed(f"a stream with {finishes} ends, {tokens} tokens and {deltas} deltas")
    return Answer(began, ended, tokens, arrivals, deltas, outcome)


def _arrivals(pieces: Sequence[tuple[float, bytes]], ends: Sequence[int]) -> tuple[tuple[float, ...], int]:
    """The times at which these offsets of the body were there, each once; and how many offsets there are."""
    times: list[float] = []
    reach, rest = 0, iter(ends)
    end = next(rest, None)
    for at, piece in pieces:
        reach += len(piece)
        while end is not None and end <= reach:
            if not times or times[-1] != at:
                times.append(at)
            end = next(rest, None)
    return tuple(times), len(ends)


def _outcome(value: Mapping[str, Any]) -> str | None:
    quality = value.get("rheostat", {}).get("quality") or {}
    found: str | None = quality.get("outcome")
    return found


async def ask_all(url: str, bodies: Sequence[Mapping[str, Any]], users: int) -> list[Answer]:
    """All of ``bodies``, by so many users at once; each takes the next one as soon as it has its answer."""
    rest = iter(bodies)
    return await _together(url, users, rest, lambda: True)


async def keep_asking(url: str, bodies: Iterator[Mapping[str, Any]], users: int, seconds: float) -> list[Answer]:
    """As `ask_all`, and none begins after so many seconds."""
    until = time.perf_counter() + seconds
    return await _together(url, users, bodies, lambda: time.perf_counter() < until)


async def _together(url: str, users: int, bodies: Iterator[Mapping[str, Any]], goes_on: Any) -> list[Answer]:
    answers: list[Answer] = []

    async def one() -> None:
        client = Client(url)
        try:
            while goes_on() and (body := next(bodies, None)) is not None:
                answers.append(await client.ask(body))
        finally:
            client.close()

    await asyncio.gather(*(one() for _ in range(users)))
    return answers


def run(coroutine: Any) -> Any:
    """``asyncio.run`` on uvloop, which takes half the time for a small read."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
