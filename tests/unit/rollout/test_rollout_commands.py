import json
import socket
import subprocess
import sys
import threading
import time

import pytest
from rollout_support import Rig

from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import ALIASES
from deployments.rollout.operations import Operations, complete_name
from deployments.rollout.replicas import ReplicaState, write_state
from graph.errors import Conflict, InternalError, InvalidRequest, NotFound
from tests.cluster import ROOT
from training.__main__ import main


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


@pytest.fixture
def command(rig, capsys):
    def command(name, *arguments):
        """(exit status, JSON or None, what people read)."""
        status = main([name, *arguments, "--registry", str(rig.root)])
        out, err = capsys.readouterr()
        return status, json.loads(out) if out else None, err

    return command


def beat(rig, version, loaded=(), id="generator-1", role="generator"):
    write_state(rig.root, ReplicaState(id, role, version, time.time_ns() // 1000, loaded))


def test_status_of_a_registry_that_is_new_is_the_base_model(command):
    status, told, shown = command("status")
    assert (status, told["champion"], told["version"], told["replicas"]) == (0, BASE, 0, [])
    assert "base" in shown


def test_a_challenger_gets_traffic_is_promoted_and_is_taken_back(rig, command):
    adapter = rig.register()
    status, told, _ = command("canary", adapter[:10], "--share", "0.2", "--reason", "try it")
    assert (status, told["challenger"], told["share"], told["agreed"]) == (0, adapter, 0.2, True)
    assert [change.action for change in rig.aliases.history] == ["set_challenger", "set_share"]
    rig.passed(adapter)
    status, told, shown = command("promote")
    assert (status, told["champion"], told["previous"]) == (0, adapter, BASE)
    assert "no service is running" in shown
    status, told, _ = command("rollback", "--reason", "it was worse")
    assert (status, told["champion"], told["previous"]) == (0, BASE, adapter)
    assert rig.aliases.history[-1].reason == "it was worse"
    assert command("status")[1]["rolled_back"]


def test_a_challenger_is_taken_away_by_clear(rig, command):
    rig.canary()
    assert command("canary", "--clear")[:2][1]["challenger"] is None
    status, told, shown = command("canary", "--clear")
    assert (status, told) == (1, None)
    assert "no challenger to clear" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rollback"], "Nothing was promoted yet"),
        (["promote"], "There is no challenger now"),
        (["promote", "../../etc/passwd"], "names no adapter"),
        (["canary", "0" * 64], "names no adapter"),
        (["canary", "--share", "0.1"], "There is no challenger now"),
        (["rollback", "--timeout", "-1"], "--timeout is -1"),
        (["rollback", "--expected-version", "7"], "another one came first"),
        (["status", "--url", "ftp://somewhere"], "must begin with http"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_next_step_and_changes_nothing(rig, command, arguments, message):
    rig.register()
    status, told, shown = command(*arguments)
    assert (status in (1, 2), told) == (True, None)
    assert message in " ".join(shown.split())
    assert rig.aliases.version == 0


def test_a_folder_that_is_no_registry_is_not_made_into_one(rig, capsys):
    assert main(["rollback", "--registry", str(rig.folder / "typo")]) == 2
    assert "no registry" in " ".join(capsys.readouterr().err.split())
    assert not (rig.folder / "typo").exists()


def test_a_share_that_is_none_changes_nothing(rig, command):
    adapter = rig.register()
    assert command("canary", adapter, "--share", "1.5")[0] == 2
    assert rig.aliases.version == 0


def test_promotion_past_the_gate_needs_a_reason(rig, command):
    adapter = rig.canary(gated=False)
    assert "The gate has not compared" in " ".join(command("promote")[2].split())
    assert command("promote", "--ungated")[0] == 2
    status, told, _ = command("promote", "--ungated", "--reason", "a demo")
    assert (status, told["champion"]) == (0, adapter)


def test_a_change_is_done_when_every_live_replica_serves_it(rig):
    adapter = rig.canary()
    beat(rig, rig.aliases.version)
    late = threading.Timer(0.2, lambda: beat(rig, rig.aliases.version, (adapter,)))
    late.start()
    done = Operations(rig.root, "tester", 10).promote(adapter)
    late.join()
    assert (done.agreement.agreed, done.agreement.replicas) == (True, 1)
    assert 0.1 < done.agreement.seconds < 5


def test_a_replica_that_does_not_follow_is_named(rig, command):
    rig.promoted()
    beat(rig, 1, id="ingress-7", role="ingress")
    status, told, shown = command("rollback", "--timeout", "0")
    assert (status, told["agreed"], told["champion"]) == (1, False, BASE)
    assert told["waiting"] == ["ingress ingress-7: still at version 1"]
    assert "They follow by themselves" in " ".join(shown.split())


def test_names_may_be_cut_short_as_long_as_they_are_clear(rig):
    adapter = rig.register()
    assert complete_name(rig.registry, adapter[:6]) == adapter
    for given in (adapter[:5], "", "zzzzzz", f"{adapter}0"):
        with pytest.raises(InvalidRequest, match="names no adapter"):
            complete_name(rig.registry, given)


def test_damaged_aliases_are_told_and_left_as_they_are(rig, command):
    rig.promoted()
    (rig.root / ALIASES).write_text("{}")
    for name in ("status", "rollback"):
        status, told, shown = command(name)
        assert (status, told) == (1, None)
        assert "cannot be trusted" in " ".join(shown.split())
    assert (rig.root / ALIASES).read_text() == "{}"


def test_an_unknown_or_damaged_adapter_is_never_served(rig):
    adapter = rig.register()
    do = Operations(rig.root, "tester", 0)
    with pytest.raises(NotFound):
        do.canary("0" * 64, 0.1)
    with pytest.raises(InvalidRequest, match="no adapter's name"):
        do.canary("../adapters", 0.1)
    (rig.registry.path(adapter) / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(InternalError, match="damaged"):
        do.canary(adapter, 0.1)
    assert rig.aliases.version == 0
    with pytest.raises(Conflict):
        do.clear()


def test_a_rollback_waits_for_no_import_of_ray_torch_or_arrow(rig):
    adapter = rig.promoted()
    code = (
        "import sys; from training.__main__ import main\n"
        f"status = main(['rollback', '--registry', {str(rig.root)!r}])\n"
        "heavy = ('ray', 'torch', 'vllm', 'transformers', 'pyarrow', 'duckdb', 'pydantic', 'fastapi')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["previous"] == adapter
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_service_that_is_not_there_is_told(rig, command):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    status, told, shown = command("status", "--url", f"http://127.0.0.1:{port}")
    assert (status, told) == (1, None)
    assert "is the service running?" in " ".join(shown.split())
