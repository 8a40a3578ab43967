"""Deltas are pushed ahead: one message an ingress and turn of the loop, and what cannot be sent is counted."""

from collections.abc import Callable

from deployments.generator.delta_sender import MAX_SOCKETS, DeltaSender
from graph.contracts import DeltaAddress, TokenDelta
from graph.delta_frames import decode_frame


class Wire:
    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.is_full = False
        self.is_closed = False

    def push(self, frame: bytes) -> bool:
        if not self.is_full:
            self.frames.append(frame)
        return not self.is_full

    def close(self) -> None:
        self.is_closed = True


class World:
    """Wires by endpoint, and a loop of which each turn is taken by hand."""

    def __init__(self) -> None:
        self.wires: dict[str, Wire] = {}
        self.ready: list[Callable[[], None]] = []
        self.lost = 0
        self.sender = DeltaSender(self.connect, self.ready.append, self.lose)

    def connect(self, endpoint: str) -> Wire:
        self.wires[endpoint] = Wire()
        return self.wires[endpoint]

    def lose(self, count: int) -> None:
        self.lost += count

    def turn(self) -> None:
        ready, self.ready[:] = list(self.ready), []
        for run in ready:
            run()

    def sent(self, endpoint: str) -> list[list[tuple[int, int, str]]]:
        frames = [decode_frame(frame) for frame in self.wires[endpoint].frames]
        return [[(each.stream, each.place, each.delta.text) for each in frame.pushed] for frame in frames if frame]


def delta(text: str) -> TokenDelta:
    return TokenDelta(text, 1, 10)


def to(stream: int, endpoint: str = "a", key: bytes = b"k") -> DeltaAddress:
    return DeltaAddress(endpoint, key, stream)


def test_what_is_sent_in_one_turn_goes_in_one_message_an_ingress() -> None:
    world = World()
    for stream in range(3):
        world.sender.send(to(stream), 0, delta(f"s{stream}"))
    world.sender.send(to(9, "b"), 4, delta("other"))
    assert world.wires == {}, "nothing leaves before the turn ends"
    world.turn()
    assert world.sent("a") == [[(0, 0, "s0"), (1, 0, "s1"), (2, 0, "s2")]]
    assert world.sent("b") == [[(9, 4, "other")]]


def test_each_turn_has_a_message_of_its_own_and_an_idle_one_none() -> None:
    world = World()
    for place in range(2):
        world.sender.send(to(1), place, delta(str(place)))
        world.turn()
    world.turn()
    assert world.sent("a") == [[(1, 0, "0")], [(1, 1, "1")]]


def test_what_cannot_be_sent_is_counted_and_the_next_goes_on() -> None:
    world = World()
    world.sender.send(to(1), 0, delta("x"))
    world.turn()
    world.wires["a"].is_full = True
    for stream in (1, 2):
        world.sender.send(to(stream), 1, delta("lost"))
    world.turn()
    assert world.lost == 2
    world.wires["a"].is_full = False
    world.sender.send(to(1), 2, delta("y"))
    world.turn()
    assert world.sent("a") == [[(1, 0, "x")], [(1, 2, "y")]]


def test_replicas_of_another_key_at_one_endpoint_are_not_mixed() -> None:
    world = World()
    world.sender.send(to(1, key=b"old"), 0, delta("x"))
    world.sender.send(to(1, key=b"new"), 0, delta("y"))
    world.turn()
    keys = [frame.key for frame in map(decode_frame, world.wires["a"].frames) if frame]
    assert sorted(keys) == [b"new", b"old"]


def test_ways_to_ingresses_that_are_gone_are_closed_the_longest_unused_first() -> None:
    world = World()
    for number in range(MAX_SOCKETS):
        world.sender.send(to(1, f"e{number}"), 0, delta("x"))
        world.turn()
    world.sender.send(to(1, "e0"), 1, delta("again"))
    world.sender.send(to(1, "new"), 0, delta("x"))
    world.turn()
    assert [name for name, wire in world.wires.items() if wire.is_closed] == ["e1"]
    world.sender.close()
    assert all(wire.is_closed for wire in world.wires.values())
