"""The quality policy: the file that ships, and how a wrong one is refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.validator.checks import CHECKS
from deployments.validator.fixes import FIXES
from deployments.validator.policy import CheckPolicies, QualityPolicy, load_policy, parse_policy
from graph.errors import ConfigurationError

SHIPPED = Path(__file__).parents[3] / "configs" / "quality.yaml"


def test_the_shipped_file_holds_every_default() -> None:
    assert load_policy(SHIPPED) == QualityPolicy()


def test_every_check_has_a_policy_and_every_policy_a_check() -> None:
    assert set(CheckPolicies.model_fields) == set(CHECKS)


@pytest.mark.parametrize(
    ("name", "on_fail", "otherwise"),
    [
        ("secrets", "block", "block"),
        ("pii", "fix", "block"),
        ("prompt_leak", "block", "block"),
        ("truncation", "fix", "note"),
        ("repetition", "regenerate", "note"),
        ("empty", "regenerate", "fallback"),
        ("language", "regenerate", "note"),
        ("json_schema", "fix", "regenerate"),
        ("structure", "regenerate", "note"),
    ],
)
def test_a_check_does_by_default_what_the_design_says(name: str, on_fail: str, otherwise: str) -> None:
    policy = QualityPolicy().of(name)
    assert (policy.enabled, policy.on_fail, policy.otherwise) == (True, on_fail, otherwise)


def test_a_policy_cannot_be_changed() -> None:
    policy = QualityPolicy()
    with pytest.raises(ValidationError):
        policy.refusal_text = "no"  # type: ignore[misc]


def test_what_is_not_said_keeps_its_default() -> None:
    policy = parse_policy({"checks": {"language": {"enabled": False, "on_fail": "note"}}}, "here")
    assert not policy.checks.language.enabled
    assert policy.checks.secrets == QualityPolicy().checks.secrets


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({"chekcs": {}}, ["here", "chekcs", "no such key", "did you mean 'checks'"]),
        ({"checks": {"secret": {}}}, ["checks.secret", "prompt_leak", "did you mean 'secrets'"]),
        ({"checks": {"pii": {"on_fial": "fix"}}}, ["checks.pii.on_fial", "did you mean 'on_fail'"]),
        ({"checks": {"pii": {"on_fail": "blok"}}}, ["checks.pii.on_fail", "'blok'", "note", "did you mean 'block'"]),
        ({"checks": {"pii": {"on_fail": False}}}, ["checks.pii.on_fail", "False", "regenerate"]),
        ({"checks": {"pii": {"otherwise": "fix"}}}, ["checks.pii.otherwise", "'fix'", "block"]),
        ({"checks": {"pii": {"enabled": "yes"}}}, ["checks.pii.enabled", "'yes'"]),
        ({"checks": {"pii": None}}, ["checks.pii", "None"]),
        ({"thresholds": {"duplicate_share": 2}}, ["thresholds.duplicate_share", "2", "less than or equal to 1"]),
        ({"thresholds": {"duplicate_shar": 0.2}}, ["thresholds.duplicate_shar", "did you mean 'duplicate_share'"]),
        ({"score_caps": {"pii": -1.0}}, ["score_caps.pii", "-1.0"]),
        ({"score_caps": {"toxicity": 0.5}}, ["score_caps.toxicity", "no such check", "secrets"]),
        ({"fallback_text": ""}, ["fallback_text", "''"]),
        (["checks"], ["here", "expected a mapping"]),
    ],
)
def test_a_wrong_setting_is_refused_by_name(mapping: Any, told: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_policy(mapping, "here")
    for part in told:
        assert part in caught.value.message


@pytest.mark.parametrize("name", sorted(set(CHECKS) - set(FIXES)))
def test_a_fix_that_a_check_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"checks.{name}.on_fail.*'fix'.*no local fix.*regenerate"):
        parse_policy({"checks": {name: {"on_fail": "fix"}}}, "here")


@pytest.mark.parametrize("name", sorted(FIXES))
def test_a_fix_that_a_check_has_is_accepted(name: str) -> None:
    assert parse_policy({"checks": {name: {"on_fail": "fix"}}}, "here").of(name).on_fail == "fix"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.yaml.*cannot be read"):
        load_policy(tmp_path / "missing.yaml")


@pytest.mark.parametrize("content", [b"checks: [", b"\xff\xfe\x00", b"a: b: c"])
def test_a_file_that_is_no_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"broken\.yaml: not valid YAML"):
        load_policy(path)


def test_an_empty_file_is_the_default_policy(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n", encoding="utf-8")
    assert load_policy(path) == QualityPolicy()
