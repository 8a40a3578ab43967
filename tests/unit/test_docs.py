"""What the documents say is so."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.controls.catalogue import load_catalogue
from deployments.controls.request import ControlsRequest, resolve
from deployments.feedback.events import FeedbackEvent
from deployments.ingress.openai_schema import ChatRequest
from tests.cluster import ROOT

CATALOGUE = load_catalogue(ROOT / "configs/controls.yaml")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()
API = (ROOT / "docs/api.md").read_text()


def test_the_curls_of_the_readme_are_requests_that_are_accepted() -> None:
    chat, feedback = (json.loads(body) for body in re.findall(r"-d '(\{.*?\})'", README, re.DOTALL))
    request = ChatRequest.model_validate(chat)
    assert request.controls is not None
    resolve(CATALOGUE, request.controls)
    FeedbackEvent.model_validate(feedback)


def test_the_controls_and_feedback_of_the_api_page_are_accepted() -> None:
    controls, feedback = (json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", API, re.DOTALL))
    resolve(CATALOGUE, ControlsRequest.model_validate(controls))
    FeedbackEvent.model_validate(feedback)


def test_the_python_of_the_readme_compiles_and_its_controls_are_accepted() -> None:
    (code,) = re.findall(r"```python\n(.*?)\n```", README, re.DOTALL)
    compile(code, "README.md", "exec")
    found = re.search(r"extra_body=\{\"controls\": (\{.*\})\}", code)
    assert found
    resolve(CATALOGUE, ControlsRequest.model_validate(json.loads(found[1])))


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
