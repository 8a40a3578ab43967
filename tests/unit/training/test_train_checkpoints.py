"""Checkpoints: whole or not there, and never used when they are not what was saved."""

import json

import pytest

from training.checkpoints import KEPT, SEAL, keep, newest, read


@pytest.fixture
def root(tmp_path):
    return tmp_path / "checkpoints"


def save(root, step, run="run", seconds=1.0):
    made = root.parent / "work" / f"checkpoint-{step}"
    (made / "ref").mkdir(parents=True)
    (made / "adapter_model.safetensors").write_bytes(b"weights of %d" % step)
    (made / "optimizer.pt").write_bytes(b"state of %d" % step)
    (made / "ref" / "adapter_model.safetensors").write_bytes(b"reference")
    return keep(made, run, step, seconds, root)


def test_the_newest_is_found_with_its_step_and_time(root):
    save(root, 10, seconds=2.5)
    save(root, 20, seconds=5.5)
    found = newest(root, "run")
    assert (found.step, found.seconds) == (20, 5.5)
    assert (found.folder / "optimizer.pt").read_bytes() == b"state of 20"


def test_a_run_without_checkpoints_begins_anew(root):
    assert newest(root, "run") is None


def test_only_the_newest_and_the_one_before_stay(root):
    for step in (10, 20, 30, 40):
        save(root, step)
    assert sorted(path.name for path in root.iterdir()) == ["step-00000030", "step-00000040"]
    assert KEPT == 2


@pytest.mark.parametrize("damage", ["flipped", "missing", "added", "seal", "no seal", "link"])
def test_a_damaged_one_is_told_and_the_one_before_is_used(root, damage):
    save(root, 10)
    last = save(root, 20)
    state = last / "optimizer.pt"
    match damage:
        case "flipped":
            state.write_bytes(b"State of 20")
        case "missing":
            state.unlink()
        case "added":
            (last / "training_args.bin").write_bytes(b"a pickle of somebody's")
        case "seal":
            (last / SEAL).write_text("{")
        case "no seal":
            (last / SEAL).unlink()
        case "link":
            (last / "scheduler.pt").symlink_to(state)
    problems = []
    assert newest(root, "run", problems.append).step == 10
    assert len(problems) == 1
    assert "step-00000020 is not used" in problems[0]
    assert not last.exists()


def test_with_all_damaged_training_begins_anew(root):
    for step in (10, 20):
        (save(root, step) / "optimizer.pt").write_bytes(b"")
    assert newest(root, "run") is None


def test_one_of_another_training_is_refused(root):
    folder = save(root, 10, run="another")
    with pytest.raises(ValueError, match="another training"):
        read(folder, "run")


def test_what_a_kill_left_unfinished_does_not_count(root):
    save(root, 10)
    (root / "checkpoint-20").mkdir()
    (root / "checkpoint-20" / SEAL).write_text(json.dumps({"step": 20}))
    assert newest(root, "run").step == 10


def test_a_step_that_is_saved_again_takes_the_place_of_the_old(root):
    save(root, 10, seconds=1.0)
    save(root, 10, seconds=3.0)
    assert newest(root, "run").seconds == 3.0
