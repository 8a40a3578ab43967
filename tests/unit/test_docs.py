"""What the documents say is so."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from deployments.controls.catalogue import load_catalogue
from deployments.controls.request import ControlsRequest, resolve
from deployments.feedback.events import FeedbackEvent
from deployments.generator.placement import PlacementSettings
from deployments.ingress.admission import Admission
from deployments.ingress.auth import PUBLIC_TENANT
from deployments.ingress.openai_schema import ChatRequest
from deployments.ingress.planning import Caller, ServiceFacts
from deployments.ingress.quality_tally import QualityTally
from deployments.ingress.service import WallClock
from deployments.ingress.telemetry import AdmissionFacts, RequestFacts
from deployments.ingress.validation import ValidationService
from deployments.ingress.validation_schema import MAX_ITEMS, ValidationItem, parse_validation
from deployments.validator.policy import QualityPolicy, judge, load_policy
from deployments.validator.scores import DEFAULT_CAPS, SLOT_SUB_SCORES, SUB_SCORES, WEIGHTS
from graph.contracts import Outcome, ValidationJob, Verdict
from graph.settings import IngressTunables
from tests.cluster import ROOT

CATALOGUE = load_catalogue(ROOT / "configs/controls.yaml")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()
API = (ROOT / "docs/api.md").read_text()
POLICY = (ROOT / "docs/quality-policy.md").read_text()
API_JSON = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", API, re.DOTALL)]


class Counted:
    """Telemetry that keeps the outcomes."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def observe(self, facts: RequestFacts) -> None:
        raise AssertionError("nothing was answered")

    def decided(self, facts: AdmissionFacts) -> None:
        assert facts.outcome == "admitted"

    def waiting(self, choices: int) -> None:
        raise AssertionError("nothing waited")

    def validated(self, outcome: str) -> None:
        self.outcomes.append(outcome)


def test_the_curls_of_the_readme_are_requests_that_are_accepted() -> None:
    chat, feedback = (json.loads(body) for body in re.findall(r"-d '(\{.*?\})'", README, re.DOTALL))
    request = ChatRequest.model_validate(chat)
    assert request.controls is not None
    resolve(CATALOGUE, request.controls)
    FeedbackEvent.model_validate(feedback)


def test_the_controls_and_feedback_of_the_api_page_are_accepted() -> None:
    controls, *_, feedback = API_JSON
    resolve(CATALOGUE, ControlsRequest.model_validate(controls))
    FeedbackEvent.model_validate(feedback)


async def test_the_judgement_of_the_api_page_is_the_one_that_its_text_gets() -> None:
    _, asked, told, *_ = API_JSON
    policy = load_policy(ROOT / "configs/quality.yaml")
    facts = ServiceFacts(CATALOGUE, policy, IngressTunables(), frozenset(), None)

    async def judge_here(job: ValidationJob) -> Verdict:
        return judge(job.text, job.context, policy)

    counts = Counted()
    clock = WallClock()
    admission = Admission(lambda: facts.tunables, clock, counts)
    service = ValidationService(judge_here, lambda: facts, counts, admission, clock)
    assert await service.answer(parse_validation(asked), Caller(PUBLIC_TENANT, "r"), None) == told
    assert counts.outcomes == [told["quality"]["outcome"]]


def test_every_field_of_a_text_to_judge_is_on_the_api_page() -> None:
    section = API.partition("## Judging a text")[2].partition("\n## ")[0]
    missing = [
        name for name, field in ValidationItem.model_fields.items() if f"| `{field.alias or name}` |" not in section
    ]
    assert missing == []
    assert f"1 to {MAX_ITEMS} of these" in section


def test_the_quality_of_the_api_page_has_the_keys_that_it_is_answered_with() -> None:
    *_, told, _ = API_JSON
    empty = QualityTally().report(None)
    assert list(told) == list(empty)
    for part in ("recent", "total"):
        assert list(told[part]) == list(empty[part])
        assert list(told[part]["outcomes"]) == list(empty[part]["outcomes"])
        assert list(told[part]["scores"]) == list(WEIGHTS)


def test_the_python_of_the_readme_compiles_and_its_controls_are_accepted() -> None:
    (code,) = re.findall(r"```python\n(.*?)\n```", README, re.DOTALL)
    compile(code, "README.md", "exec")
    found = re.search(r"extra_body=\{\"controls\": (\{.*\})\}", code)
    assert found
    resolve(CATALOGUE, ControlsRequest.model_validate(json.loads(found[1])))


def test_the_readme_names_every_outcome() -> None:
    (line,) = [line for line in README.splitlines() if '["outcome"]' in line]
    assert set(re.findall(r"\w+", line.partition("#")[2])) - {"or"} == set(get_args(Outcome))


def test_the_policy_page_weighs_sub_scores_and_sorts_checks_as_the_code_does() -> None:
    section = POLICY.partition("## The score\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([0-9.]+) \| (.*) \|$", section, re.MULTILINE)
    assert {name: float(weight) for name, weight, _ in rows} == dict(WEIGHTS)
    of_checks = {check: name for name, _, checks in rows for check in re.findall(r"(?<!kind )`(\w+)`", checks)}
    of_slots = {kind: name for name, _, checks in rows for kind in re.findall(r"kind `(\w+)`", checks)}
    assert (of_checks, of_slots) == (dict(SUB_SCORES), dict(SLOT_SUB_SCORES))


def test_the_policy_page_tells_the_caps() -> None:
    (told,) = re.findall(r"`score_caps` holds.*?while the check fails: (.*?), and none for", POLICY, re.DOTALL)
    parts = re.findall(r"([0-9.]+) for ((?:`\w+`(?:, | and |,\s|\s)?(?:and )?)+)", told.replace("\n", " "))
    caps = {check: float(cap) for cap, checks in parts for check in re.findall(r"`(\w+)`", checks)}
    assert caps == dict(DEFAULT_CAPS)


def test_every_setting_of_the_policy_is_on_its_page() -> None:
    assert [
        name for name in QualityPolicy.model_fields if f"`{name}`" not in POLICY and f"\n{name}:" not in POLICY
    ] == []


def test_the_scaling_page_and_the_shipped_configuration_have_the_placements_defaults() -> None:
    defaults = PlacementSettings().model_dump()
    told = dict(re.findall(r"^\| `(\w+)` \| ([0-9.]+) \|", (ROOT / "docs/scaling.md").read_text(), re.MULTILINE))
    assert {name: float(told[name]) for name in defaults} == defaults
    (application,) = yaml.safe_load((ROOT / "serve_config.yaml").read_text())["applications"]
    (generator,) = (each for each in application["deployments"] if each["name"] == "Generator")
    assert generator["request_router_config"]["request_router_kwargs"] == defaults


def test_every_request_field_is_on_the_api_page() -> None:
    missing = [name for name in ChatRequest.model_fields if f"`{name}`" not in API and name != "model"]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_make_targets_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_direct_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs/dependencies.md").read_text()
    for name in ("base.in", "cpu.in", "dev.in"):
        for line in (ROOT / "requirements" / name).read_text().splitlines():
            package = re.match(r"^([A-Za-z][A-Za-z0-9_-]*(\[serve\])?)", line)
            if package and not line.startswith("types-"):
                assert f"`{package[1]}`" in reasons, package[1]


def test_the_benchmark_named_in_the_readme_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.smoke", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "--requests" in done.stdout
