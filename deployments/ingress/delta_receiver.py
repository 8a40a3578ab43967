"""What generators push ahead to this ingress, handed to the answers that wait for it.

A `Mailbox` belongs to one attempt. It gives its deltas in order, without a gap, those that piled up as one: whoever
reads slowly reads fewer and longer ones. What never came, or came late, is taken from the generator's own return value.
"""

import asyncio
import hmac
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from graph.contracts import DeltaAddress, Generated, TokenDelta
from graph.delta_frames import decode_deltas, decode_frame, join, unpack


class Mailbox:
    """The deltas of one attempt as they come.

    Args:
        address: Where the generator pushes them to.
        hold_s: Seconds between two deltas that are handed on, at least; the first and the last one wait for nothing.
    """

    def __init__(self, address: DeltaAddress, hold_s: Callable[[], float] = lambda: 0.0) -> None:
        self.address = address
        self._hold_s = hold_s
        self._received = 0
        self._unread: list[TokenDelta] = []
        self._end: Generated | BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_holding = False
        self._given_at = -math.inf

    def put(self, place: int, delta: TokenDelta) -> None:
        """Takes the next delta; any other is left for the end."""
        if place == self._received and self._end is None:
            self._received += 1
            self._unread.append(delta)
            if not self._is_holding or delta.finish_reason is not None:
                self._wake()

    def end(self, end: Generated | BaseException) -> None:
        """Says that the generator's call has returned, or failed."""
        if self._end is None:
            self._end = end
            if isinstance(end, Generated) and end.count > self._received:
                self._unread.extend(decode_deltas(end.deltas)[self._received :])
            self._wake()

    async def next(self) -> TokenDelta | None:
        """All that has come since the last call, as one delta; None: that was the last one.

        Raises:
            BaseException: What the call failed with, after the deltas that came before it.
        """
        loop = asyncio.get_running_loop()
        while not self._unread:
            if isinstance(self._end, BaseException):
                raise self._end
            if self._end is not None:
                return None
            await self._wait(loop)
        hold_s = self._hold_s()
        if hold_s:
            wait_s = self._given_at + hold_s - loop.time()
            if wait_s > 0 and self._end is None and self._unread[-1].finish_reason is None:
                self._is_holding = True
                timer = loop.call_later(wait_s, self._wake)
                try:
                    await self._wait(loop)
                finally:
                    timer.cancel()
                    self._is_holding = False
            self._given_at = loop.time()
        unread, self._unread = self._unread, []
        return join(unread)

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class DeltaReceiver:
    """The mailboxes of one ingress replica.

    Args:
        endpoint: Where generators reach it.
        key: Secret of this replica: frames without it are dropped.
        hold_s: As `Mailbox`'s.
    """

    def __init__(self, endpoint: str, key: bytes, hold_s: Callable[[], float] = lambda: 0.0) -> None:
        self._hold_s = hold_s
        self._endpoint = endpoint
        self._key = key
        self._next_stream = 0
        self._open: dict[int, Mailbox] = {}
        self.dropped_frames = 0
        """Since the start: no frames, or without the key."""

    @contextmanager
    def opened(self) -> Iterator[Mailbox]:
        """A mailbox; what still comes for it after the block is nobody's."""
        self._next_stream += 1
        stream = self._next_stream
        box = self._open[stream] = Mailbox(DeltaAddress(self._endpoint, self._key, stream), self._hold_s)
        try:
            yield box
        finally:
            del self._open[stream]

    @property
    def open_count(self) -> int:
        """Mailboxes that are open."""
        return len(self._open)

    def take(self, data: bytes) -> None:
        """Takes a frame off the wire."""
        frame = decode_frame(data)
        if frame is None or not hmac.compare_digest(frame.key, self._key):
            self.dropped_frames += 1
            return
        for pushed in frame.pushed:
            box = self._open.get(pushed.stream)
            if box is not None:
                box.put(pushed.place, unpack(pushed.delta))
