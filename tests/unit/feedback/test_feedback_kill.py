import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
KILLS = 20


@pytest.mark.exhaustive
def test_kill_9_at_any_moment_loses_doubles_and_changes_no_acknowledged_row(tmp_path):
    # In a process of its own: it forks, and pytest may have threads.
    record = tmp_path / "record.json"
    command = [sys.executable, "-m", "benchmarks.durability", "kill", "--kills", str(KILLS), "--json", str(record)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    outcome = json.loads(record.read_text())["figures"]["kill"]
    assert outcome["broken"] == []
    (figures,) = outcome["rows"]
    assert {name: figures[name] for name in ("lost", "doubled", "wrong", "made up")} == {
        "lost": 0,
        "doubled": 0,
        "wrong": 0,
        "made up": 0,
    }
    assert figures["kills"] >= KILLS
    assert min(figures["acked"], figures["sent again"], figures["kills at start"]) > 0
