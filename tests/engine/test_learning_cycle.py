"""The whole loop by its commands on the real engine and model: log, dataset, adapter, gate, promotion, rollback.

One seed, where ``benchmarks/learning`` has ten, and a preference that a few steps teach: how an answer begins.
"""

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from benchmarks.learning.people import Said
from benchmarks.learning.questions import all_questions
from benchmarks.learning.traffic import Answer, ask_all, tell_all
from deployments.feedback.directory import read_log
from tests.engine.service import Launched, launched
from training.__main__ import main

QUESTIONS = 190
RATED = 120
RATERS = 40
# Few rows a step at a high rate: what begins an answer is learned from a hundred tokens.
FAST = ("--steps", "14", "--batch-size", "4", "--learning-rate", "6e-3")
LIKED = "Good question!"
SHORT = {"lp": {"depth": 0}}
PROBE = {
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "controls": {"lp": {"depth": 0, "creativity": 0}},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("loop")) as running:
        yield running
        assert running.interrupt() == 0
        assert running.left_over() == []


def training(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit status of a command, and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            status = main([str(each) for each in arguments])
        except SystemExit as ended:
            status = int(str(ended.code))
    lines = said.getvalue().splitlines()
    return status, json.loads(lines[-1]) if lines else {}


def answer(url: str) -> tuple[str, str | None]:
    """The text at temperature 0, and whose it is."""
    body = {"model": "smollm2-135m-instruct", **PROBE}
    told = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120, trust_env=False).json()
    return told["choices"][0]["message"]["content"], told["rheostat"]["adapter"]


def corrected(answers: Sequence[Answer]) -> Iterator[Said]:
    """Everybody would have liked another beginning."""
    for number, each in enumerate(answers):
        body = {"kind": "correction", "text": f"{LIKED} {each.text}", "rater": f"ci-{number % RATERS}"}
        yield Said(each, body)


def rows_of(data: Path, kind: str) -> list[dict[str, Any]]:
    return [row for row in read_log(data / "log") if row["kind"] == kind]


@pytest.mark.timeout(900)
def test_feedback_becomes_an_adapter_that_wins_is_promoted_and_is_taken_back(service: Launched) -> None:
    rng = Random(4)
    before = answer(service.url)
    assert before[1] is None
    answers = ask_all(service.url, all_questions(4)[:QUESTIONS], seed=4, controls=SHORT)
    assert tell_all(service.url, corrected(answers[:RATED]), rng) == RATED

    status, told = training(
        *("cycle", "--data", service.data_dir, "--url", service.url),
        *(*FAST, "--limit", "60", "--seed", "4"),
    )
    gate = told["steps"]["gate"]
    assert gate["judge"]["accepted"], gate["judge"]["reason"]
    assert gate["win_rate"]["low"] > 0.5
    adapter = gate["adapter"]
    if status != 0:
        # With 60 prompts a guard may miss its margin by one answer; then a person decides.
        assert all(reason.startswith("pass_rate") for reason in gate["reasons"]), gate["reasons"]
        registry = ("--registry", service.data_dir / "registry")
        assert training("canary", adapter, "--share", 0, *registry)[0] == 0
        status, _ = training("promote", adapter, "--ungated", "--reason", "one answer of sixty", *registry)
        assert status == 0
    promoted = answer(service.url)
    assert promoted[1] == adapter
    assert promoted[0].startswith(LIKED)

    status, told = training("rollback", "--registry", service.data_dir / "registry")
    assert (status, told["agreed"], told["champion"]) == (0, True, "base")
    assert answer(service.url) == before


def test_every_change_of_that_cycle_is_a_decision_in_the_log(service: Launched) -> None:
    status, told = training("status", "--registry", service.data_dir / "registry")
    assert status == 0
    decisions: list[str] = []
    with httpx.Client(base_url=service.url, trust_env=False) as client:
        # A change is not even pending before the Rollout deployment has looked at the aliases again.
        while "roll_back" not in decisions or client.get("/v1/rollout").json()["watch"]["decisions_pending"]:
            decisions = [row["name"] for row in rows_of(service.data_dir, "decision")]
    assert decisions.count("roll_back") == 1
    assert decisions.count("promote") == 1
    assert len(decisions) >= told["version"]
