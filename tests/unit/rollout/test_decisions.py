import json
from dataclasses import replace

import pytest
from rollout_support import START_US, Rig

from benchmarks.durability.recording import QuickFiles
from deployments.feedback.compaction import compact
from deployments.feedback.directory import read_log
from deployments.feedback.fields import check_is_senders
from deployments.feedback.lookup import LogReader
from deployments.feedback.writer import LogWriter
from deployments.rollout.adapter_store import BASE, GateRecord
from deployments.rollout.aliases import ALIASES, Change
from deployments.rollout.decisions import MAX_REPORT_BYTES, change_id, change_row, gate_row
from deployments.rollout.mirror import DecisionMirror
from graph.contracts import LogAck
from graph.errors import RheostatError, Unavailable

LONG_S = 30
ADAPTER = "c" * 64
CHANGE = Change(3, "promote", ADAPTER, ADAPTER, None, BASE, 0.0, START_US, "ann", "better")


class Log:
    """A real log, as the FeedbackLog deployment offers it; may refuse or be away."""

    def __init__(self, root):
        self.root = root
        self.writer = LogWriter(root, files=QuickFiles())
        self.refusing = []
        """Given to the next rows in place of an acknowledgement."""
        self.looked_up = []

    async def append_many(self, rows):
        outcomes = []
        for row in rows:
            if self.refusing:
                outcomes.append(self.refusing.pop(0))
                continue
            try:
                outcomes.append(self.writer.submit(row).result(LONG_S))
            except RheostatError as error:
                outcomes.append(error)
        return outcomes

    async def find_event(self, event_id):
        self.looked_up.append(event_id)
        return LogReader(self.root).event(event_id)

    def decisions(self):
        return [row for row in read_log(self.root) if row["kind"] == "decision"]

    def names(self):
        return [row["name"] for row in self.decisions()]


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


@pytest.fixture
def log(rig):
    made = Log(rig.log)
    yield made
    made.writer.close()


def make_mirror(rig, log, told=None):
    seen = told if told is not None else []
    return DecisionMirror(rig.registry, rig.root, log.append_many, log.find_event, seen.append)


# Rows


def test_a_change_is_a_row_with_its_action_reason_and_the_aliases_after_it():
    row = change_row(CHANGE)
    assert (row["kind"], row["name"], row["adapter"], row["text"]) == ("decision", "promote", ADAPTER, "better")
    assert row["ts_server_us"] == START_US
    assert json.loads(row["extra"]) == {
        "about": ADAPTER,
        "version": 3,
        "champion": ADAPTER,
        "challenger": None,
        "previous": BASE,
        "share": 0.0,
        "by": "ann",
    }


def test_the_same_change_has_one_id_that_no_sender_can_use_and_others_have_others():
    changes = [CHANGE, replace(CHANGE, version=4), replace(CHANGE, at_us=1), replace(CHANGE, by="bob")]
    assert len({change_id(change) for change in changes}) == 4
    assert change_row(CHANGE) == change_row(replace(CHANGE))
    with pytest.raises(ValueError, match="version 8"):
        check_is_senders(change_id(CHANGE))


def test_a_gate_is_a_row_with_its_result_and_a_report_that_is_not_too_long():
    row = gate_row(ADAPTER, GateRecord(BASE, True, 7, {"reasons": ["a", "b"], "win_rate": 0.7}))
    assert (row["name"], row["value_bool"], row["text"], row["adapter"]) == ("gate", True, "a; b", ADAPTER)
    assert json.loads(row["extra"])["gate"] == {"reasons": ["a", "b"], "win_rate": 0.7}
    long = gate_row(ADAPTER, GateRecord(BASE, False, 7, {"n": 3, "outcomes": "x" * MAX_REPORT_BYTES}))
    assert json.loads(long["extra"])["gate"] == {"n": 3}


# Mirroring


async def test_every_decision_is_mirrored_once_in_order_and_new_ones_follow(rig, log):
    told = []
    mirror = make_mirror(rig, log, told)
    await mirror.run()
    assert log.decisions() == []
    rig.canary(0)
    await mirror.run()
    assert log.names() == ["set_challenger", "set_share", "gate"]
    rig.registry.clear_challenger(**rig.decide(now_us=START_US + 5))
    await mirror.run()
    await mirror.run()
    assert log.names()[3:] == ["clear_challenger"]
    assert [decision.event_id for decision in told] == [row["event_id"] for row in log.decisions()]
    assert mirror.pending == 0


async def test_a_restart_mirrors_what_happened_meanwhile_and_nothing_twice(rig, log):
    rig.canary(0)
    await make_mirror(rig, log).run()
    rig.registry.clear_challenger(**rig.decide(now_us=START_US + 5))
    told, log.looked_up = [], []
    await make_mirror(rig, log, told).run()
    assert [decision.what.action for decision in told] == ["clear_challenger"]
    # Newest first, until one is there: two of the aliases, one gate.
    assert len(log.looked_up) == 3
    log.writer.close()
    compact(rig.log, QuickFiles())
    log.writer = LogWriter(rig.log, files=QuickFiles())
    await make_mirror(rig, log, told).run()
    assert len(told) == 1


async def test_a_log_that_does_not_take_a_row_gets_it_again_before_any_later_one(rig, log):
    rig.canary(0)
    mirror = make_mirror(rig, log)
    log.refusing = [Unavailable("busy"), Unavailable("busy")]
    for pending in (3, 3):
        with pytest.raises(Unavailable):
            await mirror.run()
        assert (mirror.pending, log.decisions()) == (pending, [])
    await mirror.run()
    assert len(log.names()) == 3
    assert log.names()[0] == "set_challenger"


async def test_two_mirrors_at_once_write_each_decision_once(rig, log):
    rig.canary(0)
    one, other = make_mirror(rig, log), make_mirror(rig, log)
    await one.run()
    other._known = {source: set() for source in (ALIASES, *rig.registry.adapters())}
    told = []
    other._on_mirrored = told.append
    await other.run()
    assert (len(log.decisions()), told) == (3, [])


async def test_what_another_version_told_in_other_words_stays(rig, log):
    adapter = rig.register()
    rig.registry.set_challenger(adapter, **rig.decide())
    row = change_row(rig.aliases.history[0])
    assert isinstance((await log.append_many([{**row, "schema_version": None, "text": "other"}]))[0], LogAck)
    mirror = make_mirror(rig, log)
    mirror._known = {ALIASES: set()}
    await mirror.run()
    assert [row["text"] for row in log.decisions()] == ["other"]
    assert mirror.pending == 0


async def test_a_damaged_card_keeps_no_other_decision_out_of_the_log(rig, log):
    adapter = rig.canary(0)
    (rig.registry.path(adapter) / "card.json").write_text("{}")
    await make_mirror(rig, log).run()
    assert log.names() == ["set_challenger", "set_share"]


async def test_changes_keep_their_order_when_a_clock_goes_back(rig, log):
    adapter = rig.register()
    rig.registry.set_challenger(adapter, **rig.decide(now_us=START_US + 10))
    rig.registry.set_share(0.1, **rig.decide(now_us=START_US))
    await make_mirror(rig, log).run()
    assert log.names() == ["set_challenger", "set_share"]
