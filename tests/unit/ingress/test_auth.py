"""Keys: who calls, and what start-up refuses."""

import re
from pathlib import Path

import pytest

from deployments.ingress.auth import PUBLIC_TENANT, Identity, KeyRing, main
from graph.errors import ConfigurationError, PermissionDenied, Unauthenticated


def test_a_key_made_by_the_command_opens_for_its_tenant_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["acme"]) == 0
    printed = capsys.readouterr()
    key = re.search(r"rk-\S+", printed.err)
    assert key
    assert key[0] not in printed.out
    (tmp_path / "keys").write_text(f"# our keys\n\n{printed.out}")
    ring = KeyRing.load(tmp_path / "keys")
    assert ring.tenant_of(f"Bearer {key[0]}") == "acme"
    assert ring.tenant_of(f"bearer  {key[0]} ") == "acme"
    for wrong in (None, "", key[0], f"Basic {key[0]}", f"Bearer {key[0]}x", "Bearer ", "Bearer \udcff"):
        with pytest.raises(Unauthenticated):
            ring.tenant_of(wrong)


def test_a_key_has_the_priority_that_its_line_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, keys = "", {}
    for arguments in (["acme"], ["acme", "interactive"], ["night", "batch"], ["umbra", "standard"]):
        assert main(arguments) == 0
        printed = capsys.readouterr()
        lines += printed.out
        keys[printed.err.split()[-1]] = Identity(arguments[0], (*arguments, "standard")[1])  # type: ignore[arg-type]
    (tmp_path / "keys").write_text(lines)
    ring = KeyRing.load(tmp_path / "keys")
    assert {key: ring.identify(f"Bearer {key}") for key in keys} == keys


@pytest.mark.parametrize("arguments", [[], ["a b"], ["acme", "urgent"], ["acme", "batch", "batch"]])
def test_the_command_says_how_it_is_used(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "interactive|standard|batch" in capsys.readouterr().err


def test_a_priority_that_is_not_known_stops_start_up(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"acme {'0' * 64}\numbra {'1' * 64} urgent\n")
    with pytest.raises(ConfigurationError, match=r":2: the priority is 'urgent'.*interactive, standard, batch"):
        KeyRing.load(tmp_path / "keys")


def test_without_a_key_file_everyone_is_the_public_tenant() -> None:
    assert KeyRing.load(None).identify(None) == (PUBLIC_TENANT, "standard")


@pytest.mark.parametrize(
    ("text", "says"), [("acme secret", ":1: expected"), ("", "holds no key"), ("# only words\n", "holds no key")]
)
def test_a_faulty_key_file_stops_start_up_by_file_and_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigurationError, match=says):
        KeyRing.load(tmp_path / "keys")


def test_a_missing_key_file_stops_start_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        KeyRing.load(tmp_path / "none")


def test_only_an_admin_tenant_may_what_concerns_all(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"acme {'0' * 64}\numbra {'1' * 64}\n")
    ring = KeyRing.load(tmp_path / "keys", ("acme",))
    ring.check_admin("acme", "10.0.0.1")
    for tenant in ("umbra", PUBLIC_TENANT):
        with pytest.raises(PermissionDenied, match="admin_tenants"):
            ring.check_admin(tenant, "127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_without_keys_who_is_on_this_machine_is_the_admin(host: str) -> None:
    KeyRing(None).check_admin(PUBLIC_TENANT, host)


@pytest.mark.parametrize("host", ["10.0.0.1", "::2", "::ffff:10.0.0.1", "localhost", "", None])
def test_without_keys_nobody_else_is(host: str | None) -> None:
    with pytest.raises(PermissionDenied, match=r"auth\.keys_file"):
        KeyRing(None).check_admin(PUBLIC_TENANT, host)


def test_an_admin_without_a_key_stops_start_up(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"acme {'0' * 64}\n")
    with pytest.raises(ConfigurationError, match="'umbra', which has no key"):
        KeyRing.load(tmp_path / "keys", ("acme", "umbra"))
    with pytest.raises(ConfigurationError, match=r"auth\.keys_file is not"):
        KeyRing.load(None, ("acme",))
