"""The validator pool over the running graph: a process that dies, a policy that is refused, a model in a slot."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deployments.validator.model_slots import hash_folder
from tests.bad_validation import VALIDATE
from tests.cluster import chat, with_user_config
from tests.graph.conftest import KEYS
from tests.tiny_classifier import MAX_POSITIONS, save_classifier

Redeploy = Callable[[dict[str, Any]], None]
CHAT = "/v1/chat/completions"
GOOD = "The sky is blue because air scatters the short waves of the sunlight more than the long ones."


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    headers = {"authorization": f"Bearer {KEYS['acme']}"}
    with httpx.Client(base_url=url, timeout=60, trust_env=False, headers=headers) as made:
        yield made


def replicas() -> set[int]:
    return {p.pid for p in psutil.process_iter(["name"]) if "ServeReplica:rheostat:Validator" in p.info["name"]}


def test_a_validator_killed_under_load_costs_no_answer_and_is_replaced(client: httpx.Client) -> None:
    killed = replicas()
    assert killed

    def ask(number: int) -> httpx.Response:
        if number == 8:
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        return client.post(CHAT, json=chat())

    with ThreadPoolExecutor(4) as clients:
        responses = list(clients.map(ask, range(40)))
    assert [response.status_code for response in responses] == [200] * 40
    answers = [response.json() for response in responses]
    assert {answer["rheostat"]["quality"]["outcome"] for answer in answers} <= {"pass", "unvalidated"}
    assert all(answer["choices"][0]["message"]["content"] for answer in answers)
    until = time.monotonic() + 60
    while client.post(CHAT, json=chat()).json()["rheostat"]["quality"]["outcome"] != "pass":
        assert time.monotonic() < until, "the validator was not replaced"
        time.sleep(0.2)  # Serve restarts it on its own clock
    assert replicas()
    assert not replicas() & killed


def test_a_policy_that_is_refused_leaves_the_pool_as_it_was(
    client: httpx.Client, config: Any, redeploy: Redeploy
) -> None:
    before = replicas()
    missing = {"path": "none", "sha256": "0" * 64, "kind": "text", "label": "toxic", "at_most": 0.5}
    bad = {"models": {"toxicity": missing}}
    redeploy(with_user_config(with_user_config(config, "Validator", quality=bad), "Ingress", quality={"chekcs": {}}))
    assert client.post(CHAT, json=chat()).json()["rheostat"]["quality"]["outcome"] == "pass"
    assert replicas() == before
    redeploy(with_user_config(config, "Validator"))


def test_a_model_in_a_slot_judges_texts(client: httpx.Client, config: Any, redeploy: Redeploy, tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "toxicity")
    slot = {
        "path": str(folder), "sha256": hash_folder(folder), "kind": "text", "label": "toxic", "at_most": 0.0,
        "on_fail": "block", "max_tokens": MAX_POSITIONS,
    }  # fmt: skip
    redeploy(with_user_config(config, "Validator", quality={"models": {"toxicity": slot}}))
    quality = client.post(VALIDATE, json={"text": GOOD}).json()["quality"]
    # Serve keeps the last user_config where a later one has none: without this, every later test had the slot.
    redeploy(with_user_config(config, "Validator"))
    assert (quality["outcome"], quality["findings"][0]["check"]) == ("blocked", "toxicity")
    assert client.post(VALIDATE, json={"text": GOOD}).json()["quality"]["outcome"] == "pass"
