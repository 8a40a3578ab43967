import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from adapter_support import make_base, make_card, make_safetensors, make_tensors, write_adapter
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from benchmarks.durability.disk import Disk, write_state
from benchmarks.durability.recording import Crash, QuickFiles, RecordingFiles, crash_at, failing
from deployments.feedback.files import try_lock
from deployments.rollout.adapter_files import CONFIG, WEIGHTS
from deployments.rollout.adapter_store import BASE, GateRecord
from deployments.rollout.aliases import ALIASES, HISTORY_CHANGES, Aliases
from deployments.rollout.registry import Registry
from graph.errors import Conflict, InternalError, InvalidRequest, NotFound, RheostatError, Unavailable

MAX_RANK = 16
STEPS = 200


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "models")


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "registry", QuickFiles())


@pytest.fixture
def register(tmp_path, base, registry):
    def register(number=0, **card):
        folder = write_adapter(tmp_path / f"runs/{number}", number)
        return registry.register(folder, tmp_path / "runs", make_card(base, **card), base, MAX_RANK)

    return register


def passed(registry, adapter, champion=None, ok=True, at_us=1):
    champion = champion or registry.aliases().champion
    registry.record_gate(adapter, GateRecord(champion, ok, at_us, {"reasons": ["win rate 0.51 is too low"]}))


def now(registry):
    return {"expected_version": registry.aliases().version, "now_us": 5, "by": "tester"}


def promote(registry, adapter):
    registry.set_challenger(adapter, **now(registry))
    passed(registry, adapter)
    return registry.promote(adapter, **now(registry))


def parts(aliases):
    return aliases.champion, aliases.challenger, aliases.previous


# Adapters


def test_an_adapter_is_named_by_its_content_and_comes_back_as_it_was(registry, register, base):
    adapter = register()
    folder = registry.path(adapter)
    assert registry.adapters() == (adapter,)
    assert folder.name == adapter
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS, "card.json"]
    assert (folder / WEIGHTS).read_bytes() == make_safetensors(make_tensors(), __metadata__={"a": "b"})
    assert registry.verify(adapter) == folder
    card = registry.card(adapter)
    assert card.same_origin(replace(make_card(base), configuration={"method": "kto", "betas": [0.9, 0.95]}))
    assert card.metrics == {"loss": 0.5}
    # By hand, as the README of the format says.
    by_hand = subprocess.run(
        f"sha256sum {CONFIG} {WEIGHTS} | sha256sum", shell=True, cwd=folder, capture_output=True, text=True, check=True
    )
    assert by_hand.stdout.split()[0] == adapter


def test_the_same_adapter_again_is_the_same_and_another_has_another_name(registry, register):
    assert register(0) == register(0, created_us=9, metrics={"loss": 0.25}) != register(1)
    assert registry.card(register(0)).metrics == {"loss": 0.5}


def test_what_training_does_to_its_folder_afterwards_changes_nothing(tmp_path, registry, register):
    adapter = register(0)
    (tmp_path / "runs/0" / WEIGHTS).write_bytes(b"other")
    shutil.rmtree(tmp_path / "runs")
    assert registry.verify(adapter)


@pytest.mark.parametrize("change", [{"dataset": "dataset-2"}, {"seed": 8}, {"configuration": {"method": "dpo"}}])
def test_the_same_content_of_another_origin_is_a_conflict(register, change):
    register(0)
    with pytest.raises(Conflict, match="An adapter has one origin"):
        register(0, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_sha256": "0" * 64}, "trained on a base model with the sha256 000"),
        ({"dataset": ""}, "names no dataset"),
        ({"metrics": {"loss": float("nan")}}, "'loss' is nan"),
        ({"configuration": {"a": {1, 2}}}, "kept as JSON"),
        ({"configuration": {"a": float("inf")}}, "kept as JSON"),
        ({"gates": (GateRecord(BASE, True, 1, {}),)}, "no gates yet"),
        ({"parent": "../../etc"}, "no adapter's name"),
    ],
)
def test_a_card_that_is_not_complete_or_true_is_refused(registry, register, change, message):
    with pytest.raises(InvalidRequest, match=message):
        register(0, **change)
    assert registry.adapters() == ()


def test_a_parent_must_be_registered(registry, register):
    with pytest.raises(NotFound, match="not registered"):
        register(1, parent="0" * 64)
    parent = register(0)
    assert registry.card(register(1, parent=parent)).parent == parent


def test_a_refused_adapter_leaves_nothing_behind(tmp_path, registry, base):
    for number, broken in enumerate(({"weights": b"x" * 99}, {"use_dora": True}, {"tensors": make_tensors(rank=16)})):
        folder = write_adapter(tmp_path / f"runs/{number}", **broken)
        with pytest.raises(InvalidRequest):
            registry.register(folder, tmp_path / "runs", make_card(base), base, MAX_RANK)
    assert [path for path in (tmp_path / "registry").rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert not (tmp_path / "registry/adapters/.incoming").exists()


@pytest.mark.parametrize("name", ["", "..", "../x", "base", "a" * 63, "A" * 64, "a" * 64 + "\n", "champion", "." * 64])
def test_a_name_that_is_no_hash_never_becomes_a_path(registry, name):
    for call in (registry.path, registry.verify, registry.card):
        with pytest.raises(InvalidRequest, match="no adapter's name"):
            call(name)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_damaged_or_missing_file_is_an_error_that_says_so_and_is_never_promoted(registry, register, name):
    adapter = register()
    passed(registry, adapter)
    path = registry.path(adapter) / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    for call in (registry.verify, lambda adapter: promote(registry, adapter)):
        with pytest.raises(InternalError, match=r"is damaged.*the champion goes on serving"):
            call(adapter)
    path.unlink()
    with pytest.raises(InternalError, match="cannot be read"):
        registry.verify(adapter)
    assert registry.aliases() == Aliases()


def test_a_damaged_adapter_is_not_taken_for_the_whole_one_when_it_is_registered_again(registry, register):
    folder = registry.path(register())
    (folder / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(InternalError, match="is damaged"):
        register()
    folder.rename(folder.parent / "moved-away")
    assert registry.verify(register()) == folder


def test_a_card_that_somebody_edited_is_not_trusted(registry, register):
    adapter = register()
    card = registry.path(adapter) / "card.json"
    whole = card.read_text()
    for text in (
        whole.replace("dataset-1", "dataset-2"),
        whole[:-10],
        "",
        "[]",
        whole.replace('"format": 1', '"format": 2'),
    ):
        card.write_text(text)
        with pytest.raises(InternalError, match=r"card .* cannot be trusted"):
            registry.card(adapter)


def test_gates_are_added_in_their_order_and_each_once(registry, register):
    adapter = register()
    first = GateRecord(BASE, False, 1, {"reasons": ["no"]})
    second = GateRecord(BASE, True, 2, {"reasons": ("yes",)})
    for record in (first, second, second):
        registry.record_gate(adapter, record)
    assert registry.card(adapter).gates == (first, replace(second, report={"reasons": ["yes"]}))
    assert registry.verify(adapter)


# Aliases


def test_before_the_first_change_the_base_model_is_champion(registry):
    assert registry.aliases() == Aliases(0, BASE, None, None)
    assert registry.aliases().resident == ()


def test_a_promotion_and_its_rollback_are_each_other_s_inverse(registry, register):
    a, b = register(0), register(1)
    promote(registry, a)
    assert parts(registry.aliases()) == (a, None, BASE)
    before = registry.aliases()
    after = promote(registry, b)
    assert parts(after) == (b, None, a)
    assert after.resident == (b, a)
    back = registry.roll_back(**now(registry))
    assert parts(back) == (a, None, b)
    assert back.champion == before.champion
    assert registry.aliases() == back


def test_a_rollback_of_the_first_promotion_brings_the_base_model_back(registry, register):
    promote(registry, register(0))
    assert registry.roll_back(**now(registry)).champion == BASE


def test_a_second_rollback_is_refused_for_it_would_serve_what_was_taken_back(registry, register):
    a = register(0)
    promote(registry, a)
    registry.roll_back(**now(registry))
    with pytest.raises(Conflict, match="rolled back already"):
        registry.roll_back(**now(registry))
    assert registry.aliases().champion == BASE
    # Forward again only on purpose.
    assert parts(registry.promote(a, **now(registry))) == (a, None, BASE)
    assert registry.roll_back(**now(registry)).champion == BASE


def test_without_a_promotion_there_is_nothing_to_roll_back_to(registry):
    with pytest.raises(Conflict, match="Nothing was promoted yet"):
        registry.roll_back(**now(registry))
    assert registry.aliases() == Aliases()


def test_only_the_challenger_or_the_previous_may_be_promoted(registry, register):
    adapter = register()
    passed(registry, adapter)
    with pytest.raises(Conflict, match="neither challenger"):
        registry.promote(adapter, **now(registry))


def test_a_challenger_is_promoted_only_if_its_last_gate_against_this_champion_passed(registry, register):
    a, b = register(0), register(1)
    registry.set_challenger(a, **now(registry))
    with pytest.raises(Conflict, match="has not compared"):
        registry.promote(a, **now(registry))
    passed(registry, a, at_us=1)
    passed(registry, a, ok=False, at_us=2)
    with pytest.raises(Conflict, match=r"did not pass .*win rate 0.51 is too low"):
        registry.promote(a, **now(registry))
    passed(registry, a, at_us=3)
    registry.promote(a, **now(registry))
    # Against the base model only: the champion is another one by now.
    passed(registry, b, champion=BASE)
    registry.set_challenger(b, **now(registry))
    with pytest.raises(Conflict, match="has not compared"):
        registry.promote(b, **now(registry))
    assert registry.promote(b, ungated=True, reason="by hand", **now(registry)).history[-1].reason == "by hand"


def test_a_challenger_is_cleared_before_another_takes_its_place(registry, register):
    a, b = register(0), register(1)
    registry.set_challenger(a, **now(registry))
    with pytest.raises(Conflict, match=f"The challenger is {a}"):
        registry.set_challenger(b, **now(registry))
    cleared = registry.clear_challenger(**now(registry), reason="canary failed")
    assert (cleared.history[-1].adapter, cleared.history[-1].reason) == (a, "canary failed")
    with pytest.raises(Conflict, match="no challenger to clear"):
        registry.clear_challenger(**now(registry))
    assert registry.set_challenger(b, **now(registry)).challenger == b


def test_the_champion_cannot_challenge_itself(registry, register):
    a = register(0)
    promote(registry, a)
    with pytest.raises(Conflict, match="champion already"):
        registry.set_challenger(a, **now(registry))


def test_a_change_that_was_decided_on_an_older_version_is_refused_and_says_what_came_first(registry, register):
    a, b = register(0), register(1)
    registry.set_challenger(a, **now(registry))
    stale = now(registry)
    passed(registry, a)
    registry.promote(a, **stale)
    for change in (
        lambda: registry.promote(b, **stale, ungated=True),
        lambda: registry.roll_back(**stale),
        lambda: registry.set_challenger(b, **stale),
        lambda: registry.clear_challenger(**stale),
    ):
        with pytest.raises(
            Conflict, match=f"at version 2, by promote of {a}, .* version 1: another one came first"
        ) as caught:
            change()
        assert caught.value.http_status == 409
    assert registry.aliases().version == 2


def test_of_many_promotions_at_once_exactly_one_wins(tmp_path, registry, register):
    a = register(0)
    registry.set_challenger(a, **now(registry))
    passed(registry, a)
    decided = now(registry)
    start, outcomes = threading.Barrier(8), []

    def run(number):
        mine = Registry(tmp_path / "registry", QuickFiles())
        start.wait()
        try:
            outcomes.append(mine.promote(a, **(decided | {"by": str(number)})).history[-1].by)
        except RheostatError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(winners) == 1
    assert [type(outcome) for outcome in outcomes if not isinstance(outcome, str)] == [Conflict] * 7
    assert registry.aliases().history[-1].by == winners[0]
    assert registry.aliases().version == decided["expected_version"] + 1


def test_a_change_waits_for_another_one_and_gives_up_in_the_end(tmp_path, register, registry):
    a = register(0)
    lock = try_lock(tmp_path / "registry/aliases.lock")
    time_s, waits = [0.0], []

    def sleep(wait_s):
        waits.append(wait_s)
        time_s[0] += wait_s

    waiting = Registry(tmp_path / "registry", QuickFiles(), 0.1, lambda: time_s[0], sleep)
    with pytest.raises(Unavailable, match=r"has held .* for 0.1 s"):
        waiting.set_challenger(a, **now(registry))
    assert 15 <= len(waits) <= 25
    # Reading waits for nobody.
    assert registry.aliases() == Aliases()
    lock.close()
    assert waiting.set_challenger(a, **now(registry)).challenger == a


def test_a_registration_that_takes_long_does_not_hold_up_a_rollback(tmp_path, registry, register):
    promote(registry, register(0))
    lock = try_lock(tmp_path / "registry/adapters.lock")
    assert registry.roll_back(**now(registry)).champion == BASE
    lock.close()


def test_a_killed_holder_s_lock_is_free_at_once(tmp_path, registry, register):
    a = register(0)
    code = (
        "import sys, time; from pathlib import Path; from deployments.feedback.files import try_lock\n"
        "lock = try_lock(Path(sys.argv[1])); print(lock is not None, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "registry/aliases.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as holder:
        assert holder.stdout.readline() == "True\n"
        assert try_lock(tmp_path / "registry/aliases.lock") is None
        os.kill(holder.pid, signal.SIGKILL)
    assert registry.set_challenger(a, **now(registry)).challenger == a


def test_aliases_that_somebody_edited_or_that_are_damaged_are_not_trusted_and_not_overwritten(
    tmp_path, registry, register
):
    a = register(0)
    promote(registry, a)
    path = tmp_path / "registry" / ALIASES
    whole = path.read_text()
    other = json.dumps(json.loads(whole) | {"champion": "../../etc"})
    for text in (whole.replace(a, "b" * 64), whole[:-10], "", "null", other):
        path.write_text(text)
        for call in (registry.aliases, lambda: registry.roll_back(expected_version=2, now_us=1, by="t")):
            with pytest.raises(InternalError, match="what is served stays"):
                call()
        assert path.read_text() == text


def test_the_history_says_what_was_done_when_by_whom_and_why_and_does_not_grow_for_ever(registry, register):
    a = register(0)
    for number in range(3):
        registry.set_challenger(a, expected_version=2 * number, now_us=number, by="ann", reason="try")
        registry.clear_challenger(expected_version=2 * number + 1, now_us=number, by="bob")
    history = registry.aliases().history
    assert [change.version for change in history] == [1, 2, 3, 4, 5, 6]
    assert [(c.action, c.adapter, c.at_us, c.by, c.reason) for c in history[:2]] == [
        ("set_challenger", a, 0, "ann", "try"),
        ("clear_challenger", a, 0, "bob", ""),
    ]
    with pytest.raises(InvalidRequest, match="at most 2000"):
        registry.clear_challenger(**now(registry), reason="x" * 2001)
    assert HISTORY_CHANGES == 1000


# Crashes


def crashes(run):
    """Call ``run`` with file layers that end the process at the first step, then the second, until one gets through."""
    for step in range(STEPS):
        files = RecordingFiles(fail=crash_at(step))
        try:
            run(files, step)
        except Crash:
            yield step
        else:
            return
    raise AssertionError("it never got through")


def test_a_crash_at_any_step_of_a_registration_leaves_a_whole_adapter_or_none(tmp_path, base):
    write_adapter(tmp_path / "runs/0")
    root = tmp_path / "registry"

    def register(files):
        return Registry(root, files).register(tmp_path / "runs/0", tmp_path / "runs", make_card(base), base, MAX_RANK)

    def run(files, step):
        shutil.rmtree(root, ignore_errors=True)
        register(files)

    steps = 0
    for _ in crashes(run):
        steps += 1
        registry = Registry(root, QuickFiles())
        for adapter in registry.adapters():
            assert registry.verify(adapter)
            assert registry.card(adapter).dataset == "dataset-1"
        adapter = register(QuickFiles())
        assert registry.adapters() == (adapter,)
        assert not (root / "adapters/.incoming").exists()
    assert steps > 10


@pytest.mark.parametrize("change", ["promote", "roll_back", "record_gate"])
def test_a_crash_at_any_step_of_a_change_leaves_the_old_state_or_the_new_one(
    tmp_path, base, registry, register, change
):
    a, b = register(0), register(1)
    promote(registry, a)
    registry.set_challenger(b, **now(registry))
    passed(registry, b)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "registry", kept)

    def run(files, step=0):
        shutil.rmtree(tmp_path / "registry")
        shutil.copytree(kept, tmp_path / "registry")
        mine = Registry(tmp_path / "registry", files)
        if change == "promote":
            mine.promote(b, **now(mine))
        elif change == "roll_back":
            mine.roll_back(**now(mine))
        else:
            passed(mine, b, ok=False, at_us=9)

    def state():
        return registry.aliases(), registry.card(b)

    old = state()
    run(QuickFiles())
    new = state()
    seen = set()
    for _ in crashes(run):
        assert state() in (old, new)
        seen.add(state() == new)
        # And it goes on from there.
        registry.record_gate(b, GateRecord(a, True, 99, {}))
        if not registry.aliases().rolled_back:
            registry.roll_back(**now(registry))
    assert seen == {False, True}


def test_a_power_cut_after_a_change_returned_never_takes_it_back(tmp_path, registry, register):
    a = register(0)
    promote(registry, a)
    disk_root = tmp_path / "registry"
    files = RecordingFiles()
    disk = Disk(disk_root)
    disk.load(disk_root)
    after = Registry(disk_root, files).roll_back(**now(registry))
    for number, operation in enumerate(files.log):
        disk.apply(operation)
        for cut, left in enumerate(itertools.islice(disk.states(20), 20)):
            folder = tmp_path / f"cut-{number}-{cut}"
            write_state(folder, left)
            seen = Registry(folder, QuickFiles()).aliases()
            assert seen.champion in (a, BASE)
            if number == len(files.log) - 1:
                assert seen == after
            shutil.rmtree(folder)


def test_an_adapter_is_on_the_device_before_its_folder_gets_its_name(tmp_path, base):
    files = RecordingFiles()
    write_adapter(tmp_path / "runs/0")
    Registry(tmp_path / "registry", files).register(
        tmp_path / "runs/0", tmp_path / "runs", make_card(base), base, MAX_RANK
    )
    done = [operation[0] for operation in files.log]
    renamed = done.index("rename")
    assert done[:renamed].count("create") == done[:renamed].count("sync") == 3
    assert files.log[renamed - 1] == ("sync_dir", tmp_path / "registry/adapters/.incoming")
    assert files.log[renamed + 1] == ("sync_dir", tmp_path / "registry/adapters")


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename"])
def test_a_full_disk_is_told_and_the_registry_goes_on_as_it_was(tmp_path, base, registry, register, kind):
    a = register(0)
    promote(registry, a)
    before = registry.aliases()
    full = Registry(tmp_path / "registry", RecordingFiles(fail=failing(kind, 28)))
    with pytest.raises(OSError, match="No space left"):
        full.roll_back(**now(registry))
    write_adapter(tmp_path / "runs/1", 1)
    with pytest.raises(OSError, match="No space left"):
        full.register(tmp_path / "runs/1", tmp_path / "runs", make_card(base), base, MAX_RANK)
    assert registry.aliases() == before
    assert registry.adapters() == (a,)
    assert not (tmp_path / "registry/adapters/.incoming").exists()


# Laws


class AnyOrder(RuleBasedStateMachine):
    """Whatever is asked in whatever order: the laws of the aliases hold, and what is refused changes nothing."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.home = tempfile.TemporaryDirectory()
        folder = Path(self.home.name)
        base = make_base(folder / "models")
        self.registry = Registry(folder / "registry", QuickFiles())
        self.adapters = []
        for seed in range(3):
            write_adapter(folder / f"runs/{seed}", seed)
            made = self.registry.register(folder / f"runs/{seed}", folder / "runs", make_card(base), base, MAX_RANK)
            self.adapters.append(made)

    def teardown(self):
        self.home.cleanup()

    def attempt(self, change):
        before = self.registry.aliases()
        try:
            after = change()
        except Conflict:
            assert self.registry.aliases() == before
            return None
        assert self.registry.aliases() == after
        assert after.version == before.version + 1
        return before, after

    @rule(number=st.integers(0, 2))
    def challenge(self, number):
        self.attempt(lambda: self.registry.set_challenger(self.adapters[number], **now(self.registry)))

    @rule()
    def clear(self):
        self.attempt(lambda: self.registry.clear_challenger(**now(self.registry)))

    @rule(number=st.integers(0, 2))
    def promote(self, number):
        adapter = self.adapters[number]
        done = self.attempt(lambda: self.registry.promote(adapter, ungated=True, **now(self.registry)))
        if done:
            before, after = done
            assert (after.champion, after.previous) == (adapter, before.champion)

    @rule()
    def roll_back(self):
        done = self.attempt(lambda: self.registry.roll_back(**now(self.registry)))
        if done:
            before, after = done
            assert (after.champion, after.previous) == (before.previous, before.champion)
            assert not before.rolled_back

    @invariant()
    def nobody_plays_two_parts_that_exclude_each_other(self):
        aliases = self.registry.aliases()
        assert aliases.champion not in (aliases.challenger, aliases.previous)
        assert len(aliases.resident) <= 3


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
