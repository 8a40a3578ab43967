import subprocess
import sys
from pathlib import Path

from deployments.feedback.directory import read_log, recover
from deployments.feedback.files import LocalFiles
from deployments.feedback.schema import is_intact

ROOT = Path(__file__).resolve().parents[3]
# Submits as fast as it can, and prints each event_id once its row is acknowledged.
CHILD = """
import os
import sys
import threading
from pathlib import Path
from deployments.feedback.segment_writer import RotationLimits
from deployments.feedback.writer import LogWriter

writer = LogWriter(Path(sys.argv[1]), queue_limit=64, limits=RotationLimits(max_rows=40))
slots = threading.Semaphore(32)

def acknowledged(future):
    if future.exception():
        os._exit(1)
    sys.stdout.write(future.result().event_id + "\\n")
    sys.stdout.flush()
    slots.release()

for number in range(10**9):
    slots.acquire()
    row = {"event_id": f"{sys.argv[2]}-{number}", "kind": "comment", "tenant": "t", "ts_server_us": number}
    writer.submit(row).add_done_callback(acknowledged)
"""


def test_kill_9_loses_no_acknowledged_row(tmp_path):
    log = tmp_path / "log"
    acked = set()
    for round_name, lines in (("a", 30), ("b", 150), ("c", 400)):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(log), round_name], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            for _ in range(lines):
                line = child.stdout.readline()
                assert line, "the child ended by itself"
                acked.add(line.strip())
        finally:
            child.kill()
            # What it had told before it died counts too; a last line cut short does not.
            acked |= {line.strip() for line in child.stdout if line.endswith("\n")}
            child.wait()
            child.stdout.close()
        rows = list(read_log(log))
        assert acked <= {row["event_id"] for row in rows}
        assert all(is_intact(row) for row in rows)
    assert len(acked) >= 580
    recover(log, LocalFiles())
    assert acked <= {row["event_id"] for row in read_log(log)}
