import asyncio
import contextvars

import pytest

from deployments.ingress.appender import MAX_GROUP_CHARS, Appender
from graph.contracts import LogAck
from graph.errors import Conflict, InternalError, Unavailable

LONG_S = 30


def row(number, text="x"):
    return {"event_id": str(number), "text": text}


def ack(one):
    return LogAck(one["event_id"], "segment", 0)


class Log:
    """Takes groups when its gate is open."""

    def __init__(self):
        self.groups = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors = []

    async def send(self, rows):
        self.groups.append([one["event_id"] for one in rows])
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return [ack(one) for one in rows]


async def test_what_comes_while_calls_are_under_way_goes_as_one_group():
    log = Log()
    log.gate.clear()
    appender = Appender(log.send, max_calls=1)
    tasks = [asyncio.create_task(appender.append([row(number)])) for number in range(5)]
    await asyncio.sleep(0)
    log.gate.set()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks), LONG_S)
    assert [outcome.event_id for (outcome,) in outcomes] == ["0", "1", "2", "3", "4"]
    assert log.groups[0][0] == "0"
    assert len(log.groups) <= 2


async def test_a_caller_that_goes_away_takes_neither_its_row_nor_its_neighbours_along():
    log = Log()
    log.gate.clear()
    appender = Appender(log.send)
    gone, kept = (asyncio.create_task(appender.append([row(number)])) for number in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    log.gate.set()
    assert (await asyncio.wait_for(kept, LONG_S))[0].event_id == "1"
    assert sorted(one for group in log.groups for one in group) == ["0", "1"]


async def test_calls_run_outside_the_context_of_the_request():
    variable = contextvars.ContextVar("request")
    seen = []

    async def send(rows):
        seen.append(variable.get("none"))
        return [ack(one) for one in rows]

    variable.set("mine")
    await Appender(send).append([row(1)])
    assert seen == ["none"]


async def test_a_log_without_a_replica_is_tried_again_and_other_refusals_are_not():
    log = Log()
    log.errors = [Unavailable("gone", code="not_ready"), Unavailable("gone", code="not_ready")]
    (outcome,) = await Appender(log.send, pause_s=0).append([row(1)])
    assert (outcome.event_id, len(log.groups)) == ("1", 3)
    log.errors = [Unavailable("busy")]
    (outcome,) = await Appender(log.send, pause_s=0).append([row(2)])
    assert isinstance(outcome, Unavailable)
    assert len(log.groups) == 4


async def test_trying_again_ends():
    log = Log()
    log.errors = [Unavailable("gone", code="not_ready")] * 9
    (outcome,) = await Appender(log.send, retry_s=0, pause_s=0).append([row(1)])
    assert (outcome.code, len(log.groups)) == ("not_ready", 1)


async def test_a_bug_is_told_to_everyone_who_waits_and_the_next_group_goes():
    log = Log()
    log.errors = [KeyError("bug")]
    appender = Appender(log.send)
    outcomes = await appender.append([row(1), row(2)])
    assert [type(outcome) for outcome in outcomes] == [InternalError, InternalError]
    assert (await appender.append([row(3)]))[0].event_id == "3"


async def test_one_rows_refusal_is_its_own():
    async def send(rows):
        return [Conflict("other content") if one["event_id"] == "2" else ack(one) for one in rows]

    outcomes = await Appender(send).append([row(1), row(2), row(3)])
    assert [isinstance(outcome, Conflict) for outcome in outcomes] == [False, True, False]


@pytest.mark.parametrize(
    "rows", [[row(n) for n in range(10)], [row(n, "x" * (MAX_GROUP_CHARS // 2)) for n in range(4)]]
)
async def test_groups_are_bounded_in_rows_and_in_bytes(rows):
    log = Log()
    await Appender(log.send, max_rows=4, max_calls=1).append(rows)
    assert max(map(len, log.groups)) <= 4
    by_id = {one["event_id"]: len(one["text"]) for one in rows}
    assert all(sum(by_id[i] for i in group) <= MAX_GROUP_CHARS for group in log.groups)
    assert [one for group in log.groups for one in group] == [one["event_id"] for one in rows]


async def test_a_queue_that_is_full_refuses_at_once_whoever_still_waits():
    log = Log()
    log.gate.clear()
    appender = Appender(log.send, max_rows=1, max_calls=1, max_queued_rows=3)
    gone = [asyncio.create_task(appender.append([row(number)])) for number in range(4)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    (refused,) = await appender.append([row(9)])
    assert isinstance(refused, Unavailable)
    log.gate.set()
    while len(log.groups) < 4:
        await asyncio.sleep(0)
    assert log.groups == [["0"], ["1"], ["2"], ["3"]]


async def test_texts_that_wait_are_bounded_too_but_a_large_row_alone_is_taken():
    log = Log()
    log.gate.clear()
    appender = Appender(log.send, max_calls=1, max_queued_chars=100)
    tasks = [asyncio.create_task(appender.append([row(number, "x" * 90)])) for number in range(2)]
    await asyncio.sleep(0)
    (refused,) = await appender.append([row(2, "x" * 90)])
    assert isinstance(refused, Unavailable)
    log.gate.set()
    assert [outcome.event_id for (outcome,) in await asyncio.gather(*tasks)] == ["0", "1"]


async def test_time_for_trying_again_counts_from_when_a_row_came():
    loop = asyncio.get_running_loop()
    tries = []

    async def send(rows):
        tries.append(loop.time())
        raise Unavailable("gone", code="not_ready")

    appender = Appender(send, max_rows=1, max_calls=1, retry_s=0.05, pause_s=0.001)
    outcomes = await asyncio.gather(*(appender.append([row(number)]) for number in range(3)))
    assert [outcome.code for (outcome,) in outcomes] == ["not_ready"] * 3
    # Its time was over while it waited behind the first: one try each.
    assert sum(tries[-1] - at < 0.02 for at in tries[-2:]) == 2


@pytest.mark.parametrize("fault", ["too few", "cancelled"])
async def test_nobody_waits_for_ever_when_a_call_ends_strangely(fault):
    async def send(rows):
        if fault == "cancelled":
            raise asyncio.CancelledError
        return [ack(rows[0])]

    outcomes = await asyncio.wait_for(Appender(send).append([row(1), row(2)]), LONG_S)
    assert all(not isinstance(outcome, LogAck) for outcome in outcomes)
