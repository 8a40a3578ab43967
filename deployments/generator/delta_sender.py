"""Pushes deltas ahead to the ingresses that stream them: all of one turn of the event loop in one message.

An engine's step makes a delta for each of its requests. Sent one by one through Serve's streams each takes about as
much time as making its token; here they share one message. Nothing hangs on its arrival: a generator's call returns
all deltas at its end, and an ingress takes from there what it has not got (``deployments/ingress/delta_receiver.py``).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from graph.contracts import DeltaAddress, TokenDelta
from graph.delta_frames import Pushed, encode_frame, pack

MAX_SOCKETS = 64
"""Ingresses come and go: the one that was longest not written to is forgotten first."""


class Socket(Protocol):
    """One way to one ingress."""

    def push(self, frame: bytes) -> bool:
        """Sends without waiting; False: it could not, and the frame is lost."""
        ...

    def close(self) -> None: ...


class DeltaSender:
    """Of one generator replica.

    Args:
        connect: Opens the way to an endpoint; must not wait.
        soon: Runs a function once what is ready now has run, such as ``loop.call_soon``.
        tell_lost: Told how many deltas could not be sent.
    """

    def __init__(
        self,
        connect: Callable[[str], Socket],
        soon: Callable[[Callable[[], None]], object],
        tell_lost: Callable[[int], None],
    ) -> None:
        self._connect = connect
        self._soon = soon
        self._tell_lost = tell_lost
        self._sockets: OrderedDict[str, Socket] = OrderedDict()
        self._waiting: dict[tuple[str, bytes], list[Pushed]] = {}

    def send(self, to: DeltaAddress, place: int, delta: TokenDelta) -> None:
        """Sends a delta with all others of this turn.

        Args:
            place: Which of its answer's deltas it is, from 0.
        """
        if not self._waiting:
            self._soon(self._flush)
        self._waiting.setdefault((to.endpoint, to.key), []).append(Pushed(to.stream, place, pack(delta)))

    def close(self) -> None:
        """Closes all ways."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for (endpoint, key), pushed in waiting.items():
            if not self._socket(endpoint).push(encode_frame(key, pushed)):
                self._tell_lost(len(pushed))

    def _socket(self, endpoint: str) -> Socket:
        socket = self._sockets.get(endpoint)
        if socket is None:
            socket = self._sockets[endpoint] = self._connect(endpoint)
            if len(self._sockets) > MAX_SOCKETS:
                self._sockets.popitem(last=False)[1].close()
        self._sockets.move_to_end(endpoint)
        return socket
