"""Judging callers' texts and the live aggregates over the running graph: the real pool, Ray's messages, metrics."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.bad_validation import VALIDATE
from tests.cluster import chat, with_user_config
from tests.graph.conftest import KEYS, key_of

Redeploy = Callable[[dict[str, Any]], None]
GOOD = "The sky is blue because air scatters the short waves of the sunlight more than the long ones."
CARD = "4111 1111 1111 1111"


def test_a_text_is_judged_by_the_pool(client: httpx.Client) -> None:
    good = client.post(VALIDATE, json={"text": GOOD})
    assert good.status_code == 200, good.text
    assert good.json()["quality"]["outcome"] == "pass"
    fixed = client.post(VALIDATE, json={"text": f"Pay with the card {CARD} at the desk."}).json()
    assert fixed["quality"]["outcome"] == "fixed"
    assert fixed["fixed_text"] == "Pay with the card [redacted payment card] at the desk."


def test_a_batch_is_judged_in_its_order(client: httpx.Client) -> None:
    texts = [GOOD if n % 2 else f"Pay with the card {CARD}." for n in range(64)]
    response = client.post(VALIDATE, json={"items": [{"text": text} for text in texts]})
    assert response.status_code == 200, response.text
    outcomes = [each["quality"]["outcome"] for each in response.json()["data"]]
    assert outcomes == ["pass" if text == GOOD else "fixed" for text in texts]


def test_a_text_with_thousands_of_findings_crosses_to_the_pool_and_back(client: httpx.Client) -> None:
    # The most findings that a text of the largest size can have.
    text = ("".join(f"{n:x}@b.co " for n in range(20_000)))[:65_536]
    response = client.post(VALIDATE, json={"text": text, "prompt": "ä" * 32_768, "system": "ö" * 32_768})
    assert response.status_code == 200, response.text[:500]
    assert len(response.json()["quality"]["findings"]) > 5000
    assert "@b.co " not in response.json()["fixed_text"]


def test_a_pool_that_is_too_slow_is_a_503_with_retry_after(
    client: httpx.Client, config: Any, redeploy: Redeploy
) -> None:
    redeploy(with_user_config(config, "Ingress", judge_timeout_s=0.000001))
    refused = client.post(VALIDATE, json={"text": GOOD})
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "late_verdict"
    assert 1 <= int(refused.headers["retry-after"]) <= 5


def test_without_a_key_nothing_is_judged_or_told(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as stranger:
        assert stranger.post(VALIDATE, json={"text": GOOD}).status_code == 401
        assert stranger.get("/v1/quality").status_code == 401


def test_quality_counts_a_tenants_own_answers_and_an_admins_view_has_all(client: httpx.Client) -> None:
    def answers(tenant: str) -> int:
        body = client.get("/v1/quality", headers=key_of(tenant)).json()
        assert (body["object"], body["scope"]) == ("quality", "replica")
        assert body["answers"] == body["total"]["answers"] == sum(body["total"]["outcomes"].values())
        return int(body["answers"])

    # acme is the admin here.
    before = {tenant: answers(tenant) for tenant in KEYS}
    assert client.post("/v1/chat/completions", json=chat(n=2)).status_code == 200
    assert client.post("/v1/chat/completions", json=chat(), headers=key_of("umbra")).status_code == 200
    assert answers("umbra") == before["umbra"] + 1
    assert answers("acme") == before["acme"] + 3


def test_judgements_are_counted_by_outcome_in_the_metrics(client: httpx.Client) -> None:
    client.post(VALIDATE, json={"text": GOOD})
    until = time.monotonic() + 30
    while "rheostat_validations_total{" not in (page := client.get("/metrics").text):
        assert time.monotonic() < until, page[:2000]
        time.sleep(0.2)  # exporters publish on their own clock
    (line, *_) = [line for line in page.splitlines() if line.startswith("rheostat_validations_total{")]
    assert "outcome=" in line
