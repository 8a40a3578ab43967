"""``quality.best_of`` over the running graph: the OpenAI client, real handles, and what a closed draft leaves behind."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from deployments.feedback.directory import read_log
from tests.cluster import chat
from tests.graph.conftest import KEYS
from tests.graph.test_http import wait_until_idle


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    http = httpx.Client(trust_env=False, timeout=60)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEYS["acme"], max_retries=0, http_client=http) as made:
        yield made


def test_the_openai_client_gets_the_best_of_three_drafts(client: openai.OpenAI, data_dir: Path) -> None:
    answer = client.chat.completions.create(**chat(seed=3), extra_body={"quality": {"best_of": 3}})
    vendor = (answer.model_extra or {})["rheostat"]
    told = vendor["best_of"]
    assert (told["asked"], len(told["scores"])) == (3, 3)
    assert None not in told["scores"], "a draft was not judged by the pool"
    if vendor["attempts"] == 1:
        assert vendor["quality"]["score"] == told["scores"][told["chosen"]]
    assert vendor["discarded_tokens"] > 0
    rows = {row["generation_id"]: row for row in read_log(data_dir / "log")}
    row = rows[vendor["generation_id"]]
    assert row["answer"] == answer.choices[0].message.content
    assert json.loads(row["extra"])["best_of"] == told
    wait_until_idle()


def test_drafts_that_never_end_are_all_closed_in_the_engine(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as late:
        client.chat.completions.create(
            **chat("count slowly"),
            extra_body={"quality": {"best_of": 3}},
            extra_headers={"x-request-timeout-seconds": "1.5"},
        )
    assert late.value.status_code == 504
    wait_until_idle()
