from pathlib import Path

import pytest
from canary_support import make_answer, make_thumb
from rollout_support import START_US, Rig

from benchmarks.durability.recording import QuickFiles
from deployments.feedback.compaction import compact
from deployments.feedback.writer import LogWriter
from deployments.rollout import canary as canary_module
from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import ALIASES
from deployments.rollout.canary import RETRY_S, CanaryWatcher
from deployments.rollout.sequential import CanaryRules
from deployments.rollout.watch import RolloutRules

LONG_S = 30
QUICK = RolloutRules(shares=(0.1, 0.5), stage_answers=20, canary=CanaryRules(min_answers=60))


class Watched(Rig):
    """A registry with a log and a watcher, and clocks of the test's own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.writer = LogWriter(self.log, files=QuickFiles())
        self.at_s = 0.0
        self.now_us = START_US + 1
        self.number = 0
        self.watcher = self.make_watcher()

    def make_watcher(self, rules: RolloutRules = QUICK, acts: bool = True) -> CanaryWatcher:
        return CanaryWatcher(self.registry, self.root, self.log, rules, acts, lambda: self.now_us, lambda: self.at_s)

    def write(self, *rows):
        for row in rows:
            self.writer.submit(row).result(LONG_S)

    def answers(self, adapter, count, failing_canary=0, failing_champion=0, **changes):
        """Answers of both arms in turn; every so many-th of an arm fails."""
        for n in range(count):
            self.number += 1
            self.now_us += 1000
            is_canary = n % 2 == 1
            every = failing_canary if is_canary else failing_champion
            failed = bool(every) and (n // 2) % every == 0
            named = {"adapter": adapter if is_canary else None, "at_us": self.now_us, **changes}
            self.write(make_answer(self.number, canary=is_canary, failed=failed, **named))

    def poll(self):
        self.at_s += 1
        self.now_us += 1
        return self.watcher.poll()


@pytest.fixture
def rig(tmp_path):
    watched = Watched(tmp_path)
    yield watched
    watched.writer.close()


def test_without_a_registry_or_a_canary_it_does_nothing(rig):
    assert rig.poll().canary is None
    assert not rig.root.exists()
    adapter = rig.register()
    rig.registry.set_challenger(adapter, **rig.decide())
    rig.answers(adapter, 40, failing_canary=1)
    assert rig.poll().as_json()["canary"] is None
    assert rig.aliases.challenger == adapter


def test_a_canary_that_fails_more_is_taken_back_with_its_reason(rig):
    adapter = rig.canary()
    rig.answers(adapter, 120, failing_canary=2)
    report = rig.poll()
    assert (report.step.action, report.held) == ("roll_back", None)
    assert (rig.aliases.challenger, rig.aliases.champion, rig.aliases.share) == (None, BASE, 0.0)
    last = rig.aliases.history[-1]
    assert (last.action, last.adapter, last.by) == ("clear_challenger", adapter, "canary")
    assert "validator: the canary is worse by +0.5" in last.reason
    assert rig.poll().canary is None


def test_a_good_canary_gets_more_traffic_and_then_takes_over(rig):
    adapter = rig.canary(share=0.1)
    rig.answers(adapter, 30)
    assert rig.poll().step.action == "wait"
    rig.answers(adapter, 10)
    rig.poll()
    assert (rig.aliases.share, rig.aliases.history[-1].by) == (0.5, "canary")
    rig.answers(adapter, 400)
    assert rig.poll().step.action == "promote"
    assert (rig.aliases.champion, rig.aliases.challenger, rig.aliases.previous) == (adapter, None, BASE)


def test_a_good_canary_without_a_passed_gate_stays_and_says_why(rig):
    adapter = rig.canary(gated=False)
    rig.answers(adapter, 300)
    report = rig.poll()
    assert report.step.action == "promote"
    assert "The gate has not compared" in report.held
    version = rig.aliases.version
    rig.poll()
    assert (rig.aliases.version, rig.watcher.report.held) == (version, report.held)
    rig.passed(adapter)
    rig.at_s += RETRY_S
    rig.poll()
    assert rig.aliases.champion == adapter


def test_what_another_decided_first_stands_and_the_next_poll_decides_anew(rig, monkeypatch):
    adapter = rig.canary(share=0.1)
    rig.answers(adapter, 60)
    real = rig.registry.set_share

    def another_first(*args, **decided):
        monkeypatch.setattr(rig.registry, "set_share", real)
        rig.registry.set_share(0.2, **rig.decide(now_us=rig.now_us))
        return real(*args, **decided)

    monkeypatch.setattr(rig.registry, "set_share", another_first)
    assert "another one came first" in rig.poll().held
    assert rig.aliases.share == 0.2
    report = rig.poll()
    assert (report.canary.windows[-1].share, report.step.action, report.held) == (0.2, "wait", None)
    assert len(report.counts["errors"]) == 2


def test_it_may_only_look(rig):
    rig.watcher = rig.make_watcher(acts=False)
    adapter = rig.canary()
    rig.answers(adapter, 120, failing_canary=2)
    report = rig.poll()
    assert report.step.action == "roll_back"
    assert "does not act" in report.held
    assert rig.aliases.challenger == adapter


def test_a_restart_counts_the_same_wherever_the_rows_are_by_then(rig):
    adapter = rig.canary(share=0.1)
    watching = RolloutRules(stage_answers=10**6)
    rig.watcher = rig.make_watcher(watching)
    rig.answers(adapter, 60, failing_canary=8, failing_champion=9, source_id="ann")
    rig.answers(adapter, 40, failing_canary=8, failing_champion=9)
    expected = rig.poll().counts
    rig.registry.set_share(0.2, **rig.decide(now_us=rig.now_us))
    rig.answers(adapter, 30, failing_canary=8, failing_champion=9)
    rig.write(make_thumb(70, True, ts_server_us=rig.now_us), make_thumb(71, False, ts_server_us=rig.now_us))
    live = rig.poll()
    assert live.counts["validator"][0] == expected["validator"][0]
    rig.watcher = rig.make_watcher(watching)
    assert rig.poll().counts == live.counts
    rig.writer.close()
    compact(rig.log, QuickFiles())
    rig.watcher = rig.make_watcher(watching)
    assert rig.poll().counts == live.counts
    thumbs = live.counts["thumbs"][0]
    assert (thumbs.champion.answers, thumbs.canary.answers) == (1, 1)


def test_rows_that_come_again_after_a_compaction_are_left_out_once(rig):
    adapter = rig.canary()
    rig.answers(adapter, 4, extra={"purpose": "gate"})
    assert rig.poll().left_out == {"arm chosen by the caller": 4}
    rig.answers(adapter, 2)
    rig.writer.close()
    compact(rig.log, QuickFiles())
    report = rig.poll()
    assert report.left_out == {"arm chosen by the caller": 4}
    assert report.counts["errors"][0].canary.answers == 1


def test_rules_that_change_while_it_runs_count_anew(rig):
    adapter = rig.canary()
    rig.answers(adapter, 20, source_id="ann")
    rig.watcher = rig.make_watcher(RolloutRules(outcomes_per_unit=5))
    assert rig.poll().counts["errors"][0].canary.answers == 5
    rig.watcher.retune(RolloutRules(outcomes_per_unit=7), True)
    assert rig.poll().counts["errors"][0].canary.answers == 7


def test_damaged_aliases_are_told_and_nothing_is_decided_until_they_are_mended(rig):
    adapter = rig.canary()
    good = (rig.root / ALIASES).read_bytes()
    rig.poll()
    (rig.root / ALIASES).write_bytes(b"{}")
    rig.answers(adapter, 120, failing_canary=2)
    assert "cannot be trusted" in rig.poll().problem
    assert rig.poll().as_json()["canary"] is not None
    (rig.root / ALIASES).write_bytes(good)
    report = rig.poll()
    assert (report.problem, report.step.action) == (None, "roll_back")


def test_a_log_that_cannot_be_read_is_told_and_no_row_is_missed(rig, monkeypatch):
    adapter = rig.canary()

    def fail(tail):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(canary_module.LogTail, "read", fail)
        assert "Input/output error" in rig.poll().problem
    rig.answers(adapter, 120, failing_canary=2)
    assert rig.poll().step.action == "roll_back"


def test_a_share_that_was_set_in_the_future_is_told(rig):
    rig.canary()
    rig.now_us -= 60_000_000
    assert "60 s in the future" in rig.poll().problem
    rig.now_us += 60_000_000
    assert rig.poll().problem is None


def test_a_poll_without_news_judges_nothing(rig, monkeypatch):
    adapter = rig.canary()
    rig.answers(adapter, 20)
    before = rig.poll()
    monkeypatch.setattr(canary_module, "judge_canary", lambda *_: pytest.fail("judged"))
    after = rig.poll()
    assert (after.counts, after.verdict, after.at_us > before.at_us) == (before.counts, before.verdict, True)


def test_judging_takes_a_fifth_of_a_core_at_most(rig, monkeypatch):
    adapter = rig.canary()
    rig.answers(adapter, 20)
    real, judged = canary_module.judge_canary, []

    def slow(*args):
        judged.append(rig.at_s)
        rig.at_s += 10
        return real(*args)

    monkeypatch.setattr(canary_module, "judge_canary", slow)
    for _ in range(100):
        rig.answers(adapter, 2)
        rig.poll()
    assert len(judged) in (3, 4)
    assert rig.watcher.report.problem is None


def test_its_report_is_json_with_counts_bounds_and_what_comes_next(rig):
    adapter = rig.canary(share=0.1)
    rig.answers(adapter, 20, failing_canary=4)
    told = rig.poll().as_json()["canary"]
    assert (told["challenger"], told["champion"], told["share"], told["stage"]) == (adapter, BASE, 0.1, 1)
    validator = told["signals"]["validator"]
    assert (validator["canary_answers"], validator["canary_failures"], validator["champion_failures"]) == (10, 3, 0)
    assert validator["low"] <= validator["difference"] <= validator["high"]
    assert told["stages"][0]["validator"]["canary_answers"] == 10
    assert (told["next"], told["held"]) == ("wait", None)
