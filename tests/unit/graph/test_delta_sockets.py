"""The wire itself: real sockets on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from graph.delta_sockets import MAX_WAITING_FRAMES, PullSocket, PushSocket


@pytest.fixture
async def pull() -> AsyncIterator[PullSocket]:
    made = PullSocket("127.0.0.1")
    yield made
    made.close()


async def test_frames_arrive_in_order_also_those_that_were_pushed_before_anybody_listened(pull: PullSocket) -> None:
    push = PushSocket(pull.endpoint)
    sent = [b"%d" % number for number in range(200)]
    for frame in sent[:100]:
        assert push.push(frame)
    got: list[bytes] = []
    are_all = asyncio.Event()

    def take(frame: bytes) -> None:
        got.append(frame)
        if len(got) == len(sent):
            are_all.set()

    pull.start(asyncio.get_running_loop(), take)
    pull.start(asyncio.get_running_loop(), take)
    for frame in sent[100:]:
        assert push.push(frame)
    await are_all.wait()
    assert got == sent
    push.close()


async def test_an_ingress_that_is_gone_costs_frames_and_never_time() -> None:
    # Its port, held so that nobody else listens there: ZeroMQ closes a socket of its own only some time later.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        push = PushSocket(f"tcp://127.0.0.1:{nobody.getsockname()[1]}")
        pushed = [push.push(b"x") for _ in range(3 * MAX_WAITING_FRAMES)]
        push.close()
    assert pushed[0]
    assert not pushed[-1]


async def test_it_listens_on_the_address_that_was_given_alone(pull: PullSocket) -> None:
    assert pull.endpoint.startswith("tcp://127.0.0.1:")
