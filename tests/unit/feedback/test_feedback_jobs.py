import asyncio
import os
import signal
import subprocess
import sys

import psutil
import pytest

from deployments.feedback import jobs
from graph.errors import InternalError, Unavailable
from graph.settings import PROJECT_ROOT

MODULE = "benchmarks_job_for_a_test"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Makes a module of this source that `run_job` can run."""

    def make(source):
        (tmp_path / f"{MODULE}.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return MODULE

    return make


async def test_a_jobs_answer_is_the_object_that_it_prints(job):
    module = job("import json, sys; print(json.dumps({'arguments': sys.argv[1:]}))")
    assert await jobs.run_job(module, "--x", "1", timeout_s=60) == {"arguments": ["--x", "1"]}


async def test_a_job_that_fails_is_an_internal_error_whose_reason_is_logged(job, caplog):
    module = job("raise SystemExit('the disk is on fire')")
    with pytest.raises(InternalError):
        await jobs.run_job(module, timeout_s=60)
    assert "the disk is on fire" in caplog.text


async def test_a_job_that_finds_another_at_work_is_unavailable(job):
    with pytest.raises(Unavailable, match="at work"):
        await jobs.run_job(job(f"raise SystemExit({jobs.BUSY_EXIT})"), timeout_s=60)


async def test_a_job_that_takes_too_long_is_ended(job, tmp_path):
    pid_file = tmp_path / "pid"
    module = job(f"import os, signal; open({str(pid_file)!r}, 'w').write(str(os.getpid())); signal.pause()")
    with pytest.raises(Unavailable, match="within"):
        await jobs.run_job(module, timeout_s=2)
    assert not pid_file.exists() or not psutil.pid_exists(int(pid_file.read_text()))


def test_a_job_dies_with_the_process_that_asked_for_it(job, tmp_path):
    job("import os, signal; print(os.getpid(), flush=True); os.write(2, b'up'); signal.pause()")
    asker = "import asyncio, sys; from deployments.feedback.jobs import run_job; "
    asker += "import deployments.feedback.jobs as j; j.asyncio.subprocess.PIPE = None; "
    asker += f"asyncio.run(run_job({MODULE!r}, timeout_s=600))"
    process = subprocess.Popen([sys.executable, "-c", asker], stdout=subprocess.PIPE, cwd=PROJECT_ROOT, text=True)
    try:
        child = psutil.Process(int(process.stdout.readline()))
        os.kill(process.pid, signal.SIGKILL)
        child.wait(timeout=30)
        assert not child.is_running()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_chore_that_fails_is_logged_and_done_again(monkeypatch, caplog):
    monkeypatch.setattr(jobs, "AFTER_FAILURE_S", 0)
    errors = [OSError(12, "no memory for a process"), Unavailable("busy"), None]
    done = asyncio.Event()

    async def chore():
        error = errors.pop(0)
        if error is not None:
            raise error
        done.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(jobs.do_for_ever(chore, 0))
    await asyncio.wait_for(done.wait(), 30)
    task.cancel()
    assert "no memory" in caplog.text
    assert "busy" in caplog.text
