"""The wire that deltas are pushed ahead on: ZeroMQ, one way, from a generator to an ingress. Neither end ever waits."""

import asyncio
from collections.abc import Callable

import zmq

MAX_FRAME_BYTES = 8 << 20
"""A longer message closes its connection."""
MAX_WAITING_FRAMES = 1000
"""For an ingress that is slow or gone; what is beyond is lost, and comes with the call's return value."""


class PushSocket:
    """To one ingress. Frames that are pushed before it is connected wait."""

    def __init__(self, endpoint: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, MAX_WAITING_FRAMES)
        self._socket.setsockopt(zmq.IPV6, "[" in endpoint)
        self._socket.connect(endpoint)

    def push(self, frame: bytes) -> bool:
        """Sends without waiting; False: the queue is full, and the frame is lost."""
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """What waits is lost."""
        self._socket.close()


class PullSocket:
    """Of one ingress.

    Args:
        host: Address of this machine that the generators reach.
    """

    def __init__(self, host: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.IPV6, ":" in host)
        self._socket.bind(f"tcp://[{host}]:*" if ":" in host else f"tcp://{host}:*")
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop, take: Callable[[bytes], None]) -> None:
        """Begins to hand each frame to ``take``, on this event loop; again: nothing."""
        if self._loop is not None:
            return

        def drain() -> None:
            while True:
                try:
                    frame = self._socket.recv(zmq.NOBLOCK)
                except zmq.Again:
                    return
                take(frame)

        self._loop = loop
        loop.add_reader(int(self._socket.getsockopt(zmq.FD)), drain)
        # ZeroMQ tells only of changes: what came before has to be looked for.
        drain()

    def close(self) -> None:
        """Takes no more."""
        if self._loop is not None:
            self._loop.remove_reader(int(self._socket.getsockopt(zmq.FD)))
        self._socket.close()
