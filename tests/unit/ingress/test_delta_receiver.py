"""An answer's deltas reach its reader in order and whole, whatever was pushed ahead of the call's end and whatever not."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ingress.delta_receiver import DeltaReceiver, Mailbox
from graph.contracts import DeltaAddress, Generated, TokenDelta
from graph.delta_frames import Pushed, encode_deltas, encode_frame, pack
from graph.errors import Unavailable

KEY = b"0123456789abcdef"


def answer(tokens: int) -> list[TokenDelta]:
    return [TokenDelta(f"t{at} ", 1, 10, finish_reason="stop" if at == tokens - 1 else None) for at in range(tokens)]


def generated(deltas: Sequence[TokenDelta]) -> Generated:
    return Generated(len(deltas), encode_deltas(deltas))


def frame(deltas: Sequence[TokenDelta], stream: int, start: int = 0, key: bytes = KEY) -> bytes:
    return encode_frame(key, [Pushed(stream, start + at, pack(delta)) for at, delta in enumerate(deltas)])


async def read(box: Mailbox) -> list[TokenDelta]:
    got = []
    while (delta := await box.next()) is not None:
        got.append(delta)
    return got


@given(
    st.integers(1, 12), st.lists(st.integers(0, 11), max_size=20), st.integers(0, 20), st.sampled_from([0.0, 1e-4, 9.0])
)
def test_whatever_comes_ahead_the_answer_is_read_whole_and_once(
    tokens: int, places: list[int], end_after: int, hold_s: float
) -> None:
    deltas = answer(tokens)

    async def life() -> list[TokenDelta]:
        box = Mailbox(DeltaAddress("e", KEY, 1), lambda: hold_s)
        reading = asyncio.ensure_future(read(box))
        for at, place in enumerate(places):
            if at == end_after:
                box.end(generated(deltas))
            if place < tokens:
                box.put(place, deltas[place])
            if at % 3 == 0:
                await asyncio.sleep(0)
        box.end(generated(deltas))
        return await reading

    got = asyncio.run(life())
    assert "".join(delta.text for delta in got) == "".join(delta.text for delta in deltas)
    assert sum(delta.token_count for delta in got) == tokens
    assert [delta.finish_reason for delta in got if delta.finish_reason] == ["stop"]


async def test_what_piles_up_is_read_as_one_delta() -> None:
    deltas = answer(6)
    receiver = DeltaReceiver("e", KEY)
    with receiver.opened() as box:
        receiver.take(frame(deltas[:1], box.address.stream))
        assert await box.next() == deltas[0]
        receiver.take(frame(deltas[1:4], box.address.stream, 1))
        joined = await box.next()
        assert joined is not None
        assert (joined.text, joined.token_count) == ("t1 t2 t3 ", 3)
        box.end(generated(deltas))
        last = await box.next()
        assert last is not None
        assert (last.text, last.finish_reason) == ("t4 t5 ", "stop")
        assert await box.next() is None


async def test_a_call_that_fails_fails_the_reader_after_what_came_before() -> None:
    receiver = DeltaReceiver("e", KEY)
    with receiver.opened() as box:
        receiver.take(frame(answer(3)[:2], box.address.stream))
        box.end(Unavailable("gone"))
        first = await box.next()
        assert first is not None
        assert first.text == "t0 t1 "
        with pytest.raises(Unavailable, match="gone"):
            await box.next()


async def test_who_waits_is_woken_by_the_next_delta_and_by_the_end() -> None:
    receiver = DeltaReceiver("e", KEY)
    with receiver.opened() as box:
        for event in (lambda: receiver.take(frame(answer(1), box.address.stream)), lambda: box.end(generated([]))):
            waiting = asyncio.ensure_future(box.next())
            await asyncio.sleep(0)
            assert not waiting.done()
            event()
            await waiting


async def test_who_gives_up_waiting_loses_nothing() -> None:
    box = Mailbox(DeltaAddress("e", KEY, 1))
    waiting = asyncio.ensure_future(box.next())
    await asyncio.sleep(0)
    waiting.cancel()
    box.put(0, answer(1)[0])
    assert await box.next() == answer(1)[0]


async def test_frames_of_another_key_and_what_is_no_frame_reach_nobody_and_are_counted() -> None:
    receiver = DeltaReceiver("e", KEY)
    with receiver.opened() as box:
        receiver.take(frame(answer(1), box.address.stream, key=b"f" * 16))
        receiver.take(b"\x00garbage")
        assert receiver.dropped_frames == 2
        box.end(generated([]))
        assert await box.next() is None


async def test_attempts_never_get_each_others_deltas_and_a_closed_one_gets_none() -> None:
    receiver = DeltaReceiver("e", KEY)
    rng = random.Random(1)
    with receiver.opened() as first, receiver.opened() as second:
        both = {box.address.stream: [TokenDelta(f"{box.address.stream}.", 1, 10)] * 4 for box in (first, second)}
        order = [stream for stream in both for _ in range(4)]
        rng.shuffle(order)
        places = dict.fromkeys(both, 0)
        for stream in order:
            receiver.take(frame(both[stream][:1], stream, places[stream]))
            places[stream] += 1
        for box in (first, second):
            got = await box.next()
            assert got is not None
            assert got.text == f"{box.address.stream}." * 4
    receiver.take(frame(answer(1), first.address.stream))
    assert receiver.open_count == 0


async def test_while_the_ingress_is_busy_a_stream_s_deltas_are_joined_but_the_first_and_the_last() -> None:
    deltas = answer(5)
    box = Mailbox(DeltaAddress("e", KEY, 1), lambda: 1000.0)
    box.put(0, deltas[0])
    assert await box.next() == deltas[0], "the first one waits for nothing"
    reading = asyncio.ensure_future(box.next())
    for place in (1, 2, 3):
        box.put(place, deltas[place])
        await asyncio.sleep(0)
    assert not reading.done()
    box.put(4, deltas[4])
    joined = await reading
    assert joined is not None
    assert (joined.text, joined.finish_reason) == ("t1 t2 t3 t4 ", "stop")


async def test_a_held_delta_is_handed_on_when_its_time_is_over() -> None:
    deltas = answer(3)
    box = Mailbox(DeltaAddress("e", KEY, 1), lambda: 0.001)
    box.put(0, deltas[0])
    await box.next()
    box.put(1, deltas[1])
    assert await box.next() == deltas[1]
