"""What stops `make serve` before it starts anything: each says which, and what to do."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from graph import launch
from tests.cluster import shipped_config


@pytest.fixture(autouse=True)
def _environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_metrics_report_interval_ms", "RAY_gcs_rpc_server_reconnect_timeout_s"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("signal.signal", lambda *_: None)


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], **http: object) -> str:
    config = shipped_config(data_dir=str(folder / "data"))
    config["http_options"].update(http)
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    assert launch.main(["--config", str(path)]) == 1
    return " ".join(capsys.readouterr().err.split())


def test_a_taken_port_is_named_with_its_owner_and_the_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refusal(tmp_path, capsys, port=port)
    assert f"port {port} is taken by" in said
    assert f"(pid {os.getpid()})" in said
    assert "change http_options.port in serve.yaml" in said


def test_a_faulty_configuration_is_named_by_its_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "http_options.prot: unknown key; did you mean 'port'" in refusal(tmp_path, capsys, prot=1)


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    said = refusal(tmp_path, capsys, port=1)
    assert "cannot be written" in said
    assert "set args.data_dir" in said


def test_what_a_killed_launcher_left_is_swept_and_what_a_living_one_has_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name, pid in (("dead", gone.pid), ("alive", os.getpid())):
        (tmp_path / f"rheostat-ray-{name}").mkdir()
        (tmp_path / f"rheostat-ray-{name}" / "pid").write_text(str(pid))
    launch._sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["rheostat-ray-alive"]
