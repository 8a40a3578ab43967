"""The quality policy: the file that ships, and how a wrong one is refused."""

import re
import time
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from deployments.validator.checks import CHECKS
from deployments.validator.fixes import FIXES
from deployments.validator.policy import (
    CheckPolicies,
    CheckPolicy,
    ModelSlot,
    QualityPolicy,
    load_policy,
    parse_policy,
)
from graph.errors import ConfigurationError

SHIPPED = Path(__file__).parents[3] / "configs" / "quality.yaml"
PAGE = Path(__file__).parents[3] / "docs" / "quality-policy.md"
SLOT: dict[str, Any] = {
    "path": "models/toxicity", "sha256": "0" * 64, "kind": "text", "label": "toxic", "at_most": 0.5,
}  # fmt: skip


def slots(leave_out: str = "", **changes: Any) -> dict[str, Any]:
    settings = {**SLOT, **changes}
    settings.pop(leave_out, None)
    return {"models": {"toxicity": settings}}


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
        ("near_leak", "regenerate", "block"),
        ("truncation", "fix", "regenerate"),
        ("repetition", "regenerate", "note"),
        ("empty", "regenerate", "fallback"),
        ("language", "regenerate", "note"),
        ("json_schema", "fix", "regenerate"),
        ("structure", "regenerate", "note"),
        ("nonwords", "regenerate", "note"),
        ("relevance", "regenerate", "note"),
        ("control_fit", "note", "note"),
        ("readability", "note", "note"),
        ("refusal", "note", "note"),
        ("profanity", "note", "note"),
    ],
)
def test_a_check_does_by_default_what_the_design_says(name: str, on_fail: str, otherwise: str) -> None:
    policy = QualityPolicy().of(name)
    assert (policy.enabled, policy.on_fail, policy.otherwise) == (True, on_fail, otherwise)


def test_hard_checks_fail_closed_and_the_others_open() -> None:
    policy = QualityPolicy()
    assert {name: policy.of(name).on_error for name in CHECKS} == {
        name: "closed" if check.severity == "hard" else "open" for name, check in CHECKS.items()
    }


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.severity == "hard"])
def test_a_hard_check_stays_closed_whatever_else_is_said_of_it(name: str) -> None:
    assert parse_policy({"checks": {name: {"on_fail": "note"}}}, "here").of(name).on_error == "closed"
    with pytest.raises(ConfigurationError, match=f"checks.{name}.on_error.*'open'.*enabled: false.*allowed: closed"):
        parse_policy({"checks": {name: {"on_error": "open"}}}, "here")


def test_a_slot_is_a_check_with_a_policy_of_its_own() -> None:
    slot = parse_policy({**slots(), "score_caps": {"toxicity": 0.2}}, "here").of("toxicity")
    assert (slot.enabled, slot.on_fail, slot.otherwise, slot.on_error) == (True, "note", "note", "open")


def test_what_fails_closed_and_is_not_the_guards_is_what_needs_the_pool() -> None:
    assert QualityPolicy().closed_beyond_guard == ()
    closed = {"on_error": "closed"}
    policy = parse_policy(
        {**slots(**closed), "checks": {"language": closed, "empty": {**closed, "enabled": False}}}, "x"
    )
    assert policy.closed_beyond_guard == ("language", "toxicity")


def test_the_policy_on_the_page_about_it_is_accepted() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert set(parse_policy(yaml.safe_load(example), str(PAGE)).models) == {"toxicity", "groundedness"}


def test_every_setting_of_a_slot_is_on_the_page() -> None:
    text = PAGE.read_text()
    assert [name for name in ModelSlot.model_fields if f"`{name}`" not in text] == []


def test_a_policy_cannot_be_changed() -> None:
    policy = QualityPolicy()
    with pytest.raises(ValidationError):
        policy.refusal_text = "no"  # type: ignore[misc]


def test_what_is_not_said_keeps_its_default() -> None:
    policy = parse_policy({"checks": {"language": {"enabled": False, "on_fail": "note"}}}, "here")
    assert not policy.checks.language.enabled
    assert policy.checks.secrets == QualityPolicy().checks.secrets


@pytest.mark.parametrize("key", CheckPolicy.model_fields)
@pytest.mark.parametrize("name", CHECKS)
def test_a_check_of_which_one_key_is_said_keeps_all_its_others(name: str, key: str) -> None:
    default = QualityPolicy().checks.model_dump()
    values = get_args(CheckPolicy.model_fields[key].annotation) or (True, False)
    accepted = set()
    for value in values:
        try:
            policy = parse_policy({"checks": {name: {key: value}}}, "here")
        except ConfigurationError:
            continue  # no value for this check; it is refused by name elsewhere
        accepted.add(value)
        assert policy.checks.model_dump() == {**default, name: {**default[name], key: value}}
    assert default[name][key] in accepted


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_of_which_nothing_is_said_keeps_everything(name: str) -> None:
    assert parse_policy({"checks": {name: {}}}, "here") == QualityPolicy()


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.severity == "hard"])
@pytest.mark.parametrize("on_fail", ["note", "regenerate", "block"])
def test_a_hard_check_never_ends_with_a_regeneration(name: str, on_fail: str) -> None:
    told = f"checks.{name}.otherwise: got 'regenerate'.*would be delivered; allowed: note, fallback, block"
    with pytest.raises(ConfigurationError, match=told):
        parse_policy({"checks": {name: {"on_fail": on_fail, "otherwise": "regenerate"}}}, "here")


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.severity == "soft"])
def test_the_one_regeneration_is_not_asked_for_twice(name: str) -> None:
    told = f"checks.{name}.otherwise: got 'regenerate'.*the one regeneration.*allowed: note, fallback, block"
    with pytest.raises(ConfigurationError, match=told):
        parse_policy({"checks": {name: {"on_fail": "regenerate", "otherwise": "regenerate"}}}, "here")
    for otherwise in ("note", "fallback", "block"):
        parse_policy({"checks": {name: {"on_fail": "regenerate", "otherwise": otherwise}}}, "here")


def test_a_slot_does_not_ask_for_the_one_regeneration_twice() -> None:
    with pytest.raises(ConfigurationError, match=r"models\.toxicity\.otherwise.*allowed: note, fallback, block"):
        parse_policy(slots(on_fail="regenerate", otherwise="regenerate"), "here")


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
        ({"checks": {"refusal": {"on_fail": "regenerate"}}}, ["checks.refusal.on_fail", "'regenerate'", "only tells"]),
        ({"checks": {"profanity": {"otherwise": "block"}}}, ["checks.profanity.otherwise", "'block'", "only tells"]),
        ({"checks": {"language": {"on_error": "close"}}}, ["checks.language.on_error", "did you mean 'closed'"]),
        ({"checks": {"profanity": {"on_error": "closed"}}}, ["checks.profanity.on_error", "only tells", "open"]),
        (slots("path"), ["models.toxicity.path: is missing"]),
        (slots("sha256"), ["models.toxicity.sha256: is missing", "model_slots hash FOLDER"]),
        (slots(sha256="0" * 63), ["models.toxicity.sha256", "model_slots hash FOLDER"]),
        (slots(sha256="0" * 64 + "\n"), ["models.toxicity.sha256"]),
        (slots("at_most"), ["models.toxicity.at_most", "at_least"]),
        (slots(at_least=0.5), ["models.toxicity.at_most", "not both"]),
        (slots(at_most=1.0), ["models.toxicity.at_most", "1.0", "no probability is higher"]),
        (slots("at_most", at_least=0.0), ["models.toxicity.at_least", "0.0", "no probability is lower"]),
        (slots(at_most=50.0), ["models.toxicity.at_most", "50.0", "less than or equal to 1"]),
        (slots(at_most=float("nan")), ["models.toxicity.at_most", "nan"]),
        (slots(kind="texts"), ["models.toxicity.kind", "'texts'", "did you mean 'text'"]),
        (slots(on_fail="fix"), ["models.toxicity.on_fail", "'fix'", "regenerate"]),
        (slots(max_tokens=1_000_000), ["models.toxicity.max_tokens", "1000000", "8192"]),
        (slots(lable="toxic"), ["models.toxicity.lable", "no such key", "did you mean 'label'"]),
        ({"models": {"Toxicity": SLOT}}, ["models.Toxicity", "a to z and _"]),
        ({"models": {"": SLOT}}, ["1 to 32 characters"]),
        ({"models": {"a" * 33: SLOT}}, ["1 to 32 characters"]),
        ({"models": {"toxicity\n": SLOT}}, ["1 to 32 characters"]),
        ({"models": {"pii": SLOT}}, ["models.pii", "built-in check"]),
        ({"models": {"toxicity": None}}, ["models.toxicity", "None"]),
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


BILLION = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % (name - 1)] * 9)) for name in b"bcdefghi"
)
NO_POLICY: dict[str, tuple[bytes, str]] = {
    "open list": (b"checks: [", r"broken\.yaml:1: is not valid YAML"),
    "two values": (b"a: b: c", r"broken\.yaml:1: is not valid YAML"),
    "not UTF-8": (b"\xff\xfe\x00", r"broken\.yaml: cannot be read as UTF-8"),
    "control character": (b"a: \x00", r"broken\.yaml: is not valid YAML"),
    "key given twice": (
        b"checks:\n  pii: {on_fail: fix}\n  pii: {enabled: false}\n",
        r":3: checks\.pii: was already given",
    ),
    "lists in lists by aliases": (BILLION + b"refusal_text: *i\n", "is an alias"),
    "word that YAML 1.1 takes for a boolean": (b"checks: {pii: {enabled: no}}", r"checks\.pii\.enabled: got 'no'"),
    "deep nest": (b"checks: " + b"[" * 5_000, "nested too deep"),
    "no date": (b"refusal_text: 2001-99-99", "in quotes: month must be"),
    "number of 6,000 digits": (b"thresholds: {duplicate_share: " + b"9" * 6_000 + b"}", "in quotes: Exceeds the limit"),
    "number of 6,000 digits in hexadecimal": (
        b"thresholds: {duplicate_share: 0x" + b"f" * 6_000 + b"}",
        "got a number of thousands of digits",
    ),
    "wrong tag": (b"refusal_text: !!timestamp x", "in quotes"),
    "object of Python": (b"refusal_text: !!python/object:os.system x", "is not valid YAML"),
    "value of 100,000 characters": (b"checks: {pii: {on_fail: " + b"x" * 100_000 + b"}}", "not one of the allowed"),
    "key of 100,000 characters": (b"checks: {? " + b"x" * 100_000 + b" : 1}", "no such key"),
}


@pytest.mark.parametrize("name", NO_POLICY)
def test_a_file_that_is_no_policy_is_refused_in_a_few_words(tmp_path: Path, name: str) -> None:
    content, told = NO_POLICY[name]
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    began = time.process_time()
    with pytest.raises(ConfigurationError, match=told) as caught:
        load_policy(path)
    assert time.process_time() - began < 3
    assert len(caught.value.message) < 1_000


def test_a_list_of_a_billion_in_user_config_is_shown_in_a_few_words() -> None:
    value: Any = "x"
    for _ in range(9):
        value = [value] * 10
    for mapping in ({"refusal_text": value}, {"checks": {"pii": {"on_fail": value}}}, value):
        with pytest.raises(ConfigurationError) as caught:
            parse_policy(mapping, "here")
        assert len(caught.value.message) < 1_000


def test_an_empty_file_is_the_default_policy(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n", encoding="utf-8")
    assert load_policy(path) == QualityPolicy()


def test_a_cap_that_is_not_said_keeps_its_default() -> None:
    caps = parse_policy({"score_caps": {"pii": 0.5}}, "here").score_caps
    assert caps == {**QualityPolicy().score_caps, "pii": 0.5}
