"""The wire itself: real sockets on loopback."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from graph.delta_sockets import MAX_WAITING_FRAMES, PullSocket, PushSocket


@pytest.fixture
async def pull() -> AsyncIterator[PullSocket]:
    socket = PullSocket("127.0.0.1")
    yield socket
    socket.close()


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


async def test_an_ingress_that_is_gone_costs_frames_and_never_time(pull: PullSocket) -> None:
    endpoint = pull.endpoint
    pull.close()
    push = PushSocket(endpoint)
    pushed = [push.push(b"x") for _ in range(3 * MAX_WAITING_FRAMES)]
    assert pushed[0]
    assert not pushed[-1]
    push.close()


async def test_it_listens_on_the_address_that_was_given_alone(pull: PullSocket) -> None:
    assert pull.endpoint.startswith("tcp://127.0.0.1:")
