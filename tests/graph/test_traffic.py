"""The benchmark of real traffic against the running graph: what it reads is what the service says."""

import httpx

from benchmarks.controls.asking import read_facts
from benchmarks.validation.corpus import load_corpus
from benchmarks.validation.traffic.asking import ask_all, make_asks
from benchmarks.validation.traffic.figures import traffic_figures
from tests.graph.conftest import KEYS


async def test_random_settings_are_answered_and_each_answer_is_told_whole(url: str) -> None:
    headers = {"authorization": f"Bearer {KEYS['acme']}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        facts = await read_facts(client)
        asks = make_asks(load_corpus().clean, facts.controls, 12, 1)
        samples = await ask_all(client, facts.model, asks, 4)
    assert [sample.failure for sample in samples] == [None] * 12
    switches = {knob["name"] for knob in facts.controls if knob["kind"] == "ls"}
    for asked, sample in zip(asks, samples, strict=True):
        moved = asked.body["controls"]["lp"] | asked.body["controls"]["ls"]
        assert moved.items() <= sample.settings.items()
        assert switches <= sample.settings.keys()
        assert sample.attempts in (1, 2)
        assert sample.tokens > 0
    figures = traffic_figures(samples, facts.controls)
    assert sum(each["hits"] for each in figures["outcomes"]["all"].values()) == 12
