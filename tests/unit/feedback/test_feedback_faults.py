import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.durability.injected_faults import INJECTED_FAULTS
from deployments.feedback.files import try_lock

ROOT = Path(__file__).resolve().parents[3]
REAL = ("directory not writable, real", "file size limit, real", "two writers at once")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("fault", "least"),
    [
        ("EIO on the n-th fdatasync", 15),
        ("EIO on directory sync, from the n-th", 15),
        ("ENOSPC, from the n-th change", 25),
        ("disk full after n bytes", 35),
        ("ENOSPC in compaction, from the n-th change", 15),
        ("the writer's clock goes back", 4),
        ("the wall clock goes back", 4),
    ],
)
def test_a_fault_at_any_place_gives_no_false_ack_and_the_next_writer_recovers(tmp_path, fault, least):
    cases = list(INJECTED_FAULTS[fault](tmp_path))
    assert len(cases) >= least
    for case in cases:
        assert (case.false_acks, case.trial.hung, case.trial.wrong, case.problem) == (0, 0, [], None), case.place
    if "clock" not in fault:
        # Some hit the start, others the work.
        assert any(case.trial.acked for case in cases)
        assert any(case.trial.failed for case in cases)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", REAL)
def test_real_faults_give_no_false_ack_and_the_next_writer_recovers(fault):
    # In a process of its own: it forks, and pytest may have threads.
    script = f"""
import tempfile
from pathlib import Path
from benchmarks.durability.real_faults import REAL_FAULTS
from benchmarks.durability.faults import broken_promise

with tempfile.TemporaryDirectory() as directory:
    Path(directory).chmod(0o755)  # it gives up root's rights
    found = [broken_promise({fault!r}, case) for case in REAL_FAULTS[{fault!r}](Path(directory))]
assert len(found) >= 5
assert not any(found), found
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("made_again", [False, True])
def test_a_lock_on_a_file_that_was_removed_since_it_was_opened_is_no_lock(tmp_path, monkeypatch, made_again):
    path = tmp_path / "writer.lock"
    real_flock = fcntl.flock

    def remove_first(fd, operation):
        path.unlink()
        if made_again:
            path.touch()
        real_flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    assert try_lock(path) is None
    monkeypatch.undo()
    lock = try_lock(path)
    assert lock is not None
    assert try_lock(path) is None
    lock.close()
