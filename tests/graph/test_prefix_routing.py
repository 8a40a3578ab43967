"""Several Generators behind the router by prefix, on a real cluster: who asks again meets its cache, and nobody hangs."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cluster import chat, deploy, shipped_config, wait_until_ready
from tests.graph.conftest import SCRIPT, key_of

CHAT = "/v1/chat/completions"
REPLICAS = 3
CONVERSATIONS = 6
LONG = "You explain physics to a curious child, and never in more than a few words. " * 8


@pytest.fixture(scope="module")
def client(url: str, config: dict[str, Any]) -> Iterator[httpx.Client]:
    """Of the shared application with several Generators, each with a cache of its own; afterwards it is as it was."""
    engine = {"first_token_s": 0.01, "token_s": 0.002, "script": SCRIPT, "cache": {"blocks": 1000}}
    several = shipped_config(
        **{**config["applications"][0]["args"], "engine": {"kind": "simulated", "simulated": engine}}
    )
    for deployment in several["applications"][0]["deployments"]:
        if deployment["name"] == "Generator":
            deployment.update(num_replicas=REPLICAS, ray_actor_options={"num_cpus": 0})
    deploy(several)
    wait_until_ready(url)
    with httpx.Client(base_url=url, timeout=30, trust_env=False, headers=key_of("acme")) as made:
        yield made
    deploy(config)


def test_all_answers_asked_for_at_once_come(client: httpx.Client) -> None:
    # Ray 2.60's routers find a waiting call by an id that all calls of one HTTP request share: but for
    # PrefixRouter._fulfill_next_pending_request the second call would never get a replica.
    answer = client.post(CHAT, json=chat(n=4))
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["choices"]) == 4
    drafts = client.post(CHAT, json={**chat(), "quality": {"best_of": 4}})
    assert drafts.status_code == 200, drafts.text
    assert len(drafts.json()["rheostat"]["best_of"]["scores"]) == 4


def test_each_conversation_meets_the_replica_that_has_its_history(client: httpx.Client) -> None:
    for number in range(CONVERSATIONS):
        messages = [
            {"role": "system", "content": f"{number}. {LONG}"},
            {"role": "user", "content": "Why is the sky blue?"},
        ]
        first = client.post(CHAT, json={**chat(), "messages": messages}).json()
        assert cached_tokens(first) == 0, "the cache knew the conversation before: the test tests nothing"
        said = first["choices"][0]["message"]["content"]
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": "And at night?"}]
        second = client.post(CHAT, json={**chat(), "messages": messages}).json()
        # The whole blocks of 16 tokens of the system prompt at least; by chance it would be one conversation in three.
        assert cached_tokens(second) >= len(LONG) // 4 // 16 * 16


def cached_tokens(answer: dict[str, Any]) -> int:
    return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
