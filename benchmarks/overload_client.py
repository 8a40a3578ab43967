"""A caller of an OpenAI SDK, as cheap as one can be: the SDK's retries over a pool of kept-alive connections.

Callers and service share the cores of the machine, and ten times the peak is mostly refusals: what it costs to send one
and to read it is missing from what is measured. So a refusal is read no further than to its headers.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools
import orjson

PATH = "/v1/chat/completions"
RETRIES = 2
MAX_PAUSE_S = 120.0
"""The SDK does not come back when it is told to wait for longer."""


@dataclass(frozen=True, slots=True)
class Try:
    """One request. Times in seconds."""

    sent: float
    took_s: float
    status: int
    """0: there was no answer, or not a whole one."""

    @property
    def ended(self) -> float:
        return self.sent + self.took_s


@dataclass(slots=True)
class Call:
    """What a caller of an SDK sees as one call: up to three requests."""

    due: float
    tries: list[Try] = field(default_factory=list)

    @property
    def total_s(self) -> float:
        return self.tries[-1].ended - self.due

    def is_good(self, deadline_s: float) -> bool:
        return self.tries[-1].status == 200 and self.tries[-1].took_s <= deadline_s


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


def pause_s(headers: Mapping[str, str], retries_taken: int, rng: random.Random) -> float | None:
    """How long openai for Python 3.54 waits before its next try (``_base_client.py``); None: it gives up."""
    if headers.get("x-should-retry") == "false" or retries_taken == RETRIES:
        return None
    for name, scale in (("retry-after-ms", 1e3), ("retry-after", 1.0)):
        if name in headers and (told_s := float(headers[name]) / scale) > 0:
            return told_s if told_s <= MAX_PAUSE_S else None
    return float(min(0.5 * 2.0**retries_taken, 8.0) * (1 - 0.25 * rng.random()))


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._reply: asyncio.Future[Reply] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by its type.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._fail(exc or ConnectionError("closed before the answer was whole"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_result(Reply(self._parser.get_status_code(), self._headers, b"".join(self._body)))
        self._headers, self._body = {}, []
        if not self._parser.should_keep_alive():
            self.close()

    async def ask(self, request: bytes) -> Reply:
        """Raises OSError when no whole answer comes."""
        if self.transport is None:
            raise ConnectionError("closed as soon as it was open")
        self._reply = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._reply

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _fail(self, error: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        self.close()


class Pool:
    """Connections to one server, kept alive; as many as there are requests at once.

    Args:
        url: Of the server, without a path.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port = parts.hostname, parts.port
        self._idle: list[_Connection] = []

    async def post(self, body: bytes, headers: str, timeout_s: float) -> Reply:
        """Raises OSError (TimeoutError is one) when no whole answer comes.

        Args:
            headers: Lines that each end with CR LF.
        """
        head = f"POST {PATH} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
        request = f"{head}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body
        async with asyncio.timeout(timeout_s):
            connection = await self._connection()
            try:
                reply = await connection.ask(request)
            except BaseException:
                connection.close()
                raise
        self._idle.append(connection)
        return reply

    async def _connection(self) -> _Connection:
        while self._idle:
            # The last one that was used: it is the least likely to have been closed.
            if (connection := self._idle.pop()).is_open:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        return connection

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


class Sdk:
    """One process's calls.

    Args:
        deadline_s: Of each request, told to the service. The caller itself waits for twice as long.
    """

    def __init__(self, pool: Pool, model: str, deadline_s: float, seed: int) -> None:
        self._pool = pool
        self._model = model
        self._deadline_s = deadline_s
        self._rng = random.Random(seed)
        self._numbers = itertools.count()
        self.calls: list[Call] = []

    async def call(self, due: float | None = None) -> Call:
        """Asks until there is an answer, or no retry is left."""
        call = Call(time.perf_counter() if due is None else due)
        self.calls.append(call)
        question = f"Question {next(self._numbers)}: why is the sky blue?"
        body = orjson.dumps({"model": self._model, "messages": [{"role": "user", "content": question}]})
        while True:
            sent = time.perf_counter()
            status, headers = await self._post(body, len(call.tries))
            call.tries.append(Try(sent, time.perf_counter() - sent, status))
            if 200 <= status < 400 or (400 <= status < 500 and status not in (408, 409, 429)):
                return call
            wait_s = pause_s(headers, len(call.tries) - 1, self._rng)
            if wait_s is None:
                return call
            await asyncio.sleep(wait_s)

    async def _post(self, body: bytes, retry: int) -> tuple[int, Mapping[str, str]]:
        told = f"x-stainless-retry-count: {retry}\r\nx-request-timeout-seconds: {self._deadline_s:g}\r\n"
        try:
            reply = await self._pool.post(body, told, 2 * self._deadline_s)
        except OSError:
            return 0, {}
        if reply.status == 200 and orjson.loads(reply.body)["choices"][0]["finish_reason"] is None:
            return 0, {}
        return reply.status, reply.headers

    async def keep_asking(self, clients: int, seconds: float) -> None:
        """So many clients; each asks again at once."""
        until = time.perf_counter() + seconds

        async def one() -> None:
            while time.perf_counter() < until:
                await self.call()

        await asyncio.gather(*(one() for _ in range(clients)))

    async def arrive(self, rate: float, seconds: float) -> list[asyncio.Task[Call]]:
        """``rate`` calls a second, as a Poisson process; returns when the last was sent."""
        began = due = time.perf_counter()
        tasks = []
        while (due := due + self._rng.expovariate(rate)) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self.call(due)))
        await asyncio.sleep(max(0.0, began + seconds - time.perf_counter()))
        return tasks
