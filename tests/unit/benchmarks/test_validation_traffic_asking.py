"""Real traffic: what is asked, how answers are read, what a run writes and says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.controls.asking import Facts
from benchmarks.validation.corpus import load_corpus
from benchmarks.validation.traffic import __main__ as command
from benchmarks.validation.traffic.asking import Ask, Found, Sample, ask_all, make_asks
from deployments.controls.catalogue import describe, load_catalogue
from deployments.ingress.bodies import parse
from deployments.ingress.openai_schema import ChatRequest
from graph.settings import PROJECT_ROOT

CONTROLS: list[dict[str, Any]] = describe(load_catalogue(PROJECT_ROOT / "configs/controls.yaml"))["controls"]
FACTS = Facts("a-model", "vllm", "rheostat-0", "0" * 16, tuple(CONTROLS))
CORPUS = load_corpus()
RECORDS = CORPUS.clean + CORPUS.languages
Handler = Callable[[httpx.Request], httpx.Response]


def vendor(outcome: str = "pass", score: float | None = 0.9, attempts: int = 1) -> dict[str, Any]:
    return {
        "engine": "vllm",
        "attempts": attempts,
        "quality": {
            "outcome": outcome,
            "score": score,
            "scores": {"form": 1.0, "language": 0.4},
            "findings": [{"check": "language", "severity": "soft", "action": "regenerate", "message": "m", "span": None}],
        },
        "controls": {
            "lp": {"depth": {"value": 30, "source": "explicit"}, "formality": {"value": 50, "source": "default"}},
            "ls": {"format": {"value": "json", "source": "preset"}, "language": {"value": "auto", "source": "default"}},
        },
    }  # fmt: skip


def whole(finish_reason: str = "stop", **more: Any) -> httpx.Response:
    choice = {"message": {"content": "Yes."}, "finish_reason": finish_reason}
    answer = {"choices": [choice], "usage": {"completion_tokens": 7}, "rheostat": vendor(**more)}
    return httpx.Response(200, json={**answer, "system_fingerprint": "rheostat-0"})


def stream(*chunks: dict[str, Any], done: bool = True) -> httpx.Response:
    lines = [*(f"data: {json.dumps(chunk)}" for chunk in chunks), *(["data: [DONE]"] if done else [])]
    return httpx.Response(200, content="\n\n".join(lines) + "\n\n")


def text_chunk() -> dict[str, Any]:
    return {"choices": [{"delta": {"content": "Yes."}, "finish_reason": None}], "usage": None}


def finish_chunk() -> dict[str, Any]:
    return {"choices": [{"delta": {}, "finish_reason": "length"}], "usage": None, "rheostat": vendor("degraded", 0.4)}


def usage_chunk() -> dict[str, Any]:
    return {"choices": [], "usage": {"completion_tokens": 5}}


def client_of(answer: Handler) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url="http://test", transport=httpx.MockTransport(answer))


def ask(is_streamed: bool = False) -> Ask:
    body = {"messages": [], "controls": {"lp": {"depth": 30}, "ls": {}}, "seed": 1}
    return Ask("health-07", {**body, **({"stream": True} if is_streamed else {})})


async def sample_of(response: httpx.Response, is_streamed: bool = False) -> Sample:
    (sample,) = await ask_all(client_of(lambda _: response), "a-model", [ask(is_streamed)], 1)
    return sample


def test_every_second_request_is_streamed_and_each_asks_another_question() -> None:
    asks = make_asks(RECORDS, CONTROLS, 60, 1)
    assert [each.is_streamed for each in asks] == [False, True] * 30
    assert len({each.record_id for each in asks}) == 60
    assert {each.record_id for each in asks} <= {record.id for record in RECORDS}


def test_the_same_seed_asks_the_same_and_another_one_something_else() -> None:
    assert make_asks(RECORDS, CONTROLS, 20, 1) == make_asks(RECORDS, CONTROLS, 20, 1)
    assert make_asks(RECORDS, CONTROLS, 20, 1) != make_asks(RECORDS, CONTROLS, 20, 2)


def test_every_request_is_one_that_the_service_takes_and_any_depth_may_come() -> None:
    asks = make_asks(RECORDS, CONTROLS, 300, 1)
    for each in asks:
        parse(ChatRequest, {"model": "a-model", **each.body})
        assert "max_tokens" not in each.body
    depths = [each.body["controls"]["lp"]["depth"] for each in asks if "depth" in each.body["controls"]["lp"]]
    assert min(depths) < 10
    assert max(depths) > 90
    assert {each.body["controls"]["ls"].get("format") for each in asks} >= {"json", "steps", None}


async def test_of_a_whole_answer_everything_but_its_text_is_kept() -> None:
    sample = await sample_of(whole(outcome="retried", attempts=2))
    assert sample == Sample(
        record="health-07",
        streamed=False,
        asked={"lp": {"depth": 30}, "ls": {}},
        failure=None,
        settings={"depth": 30, "format": "json", "language": "auto"},
        outcome="retried",
        score=0.9,
        scores={"form": 1.0, "language": 0.4},
        findings=(Found("language", "soft", "regenerate"),),
        attempts=2,
        finish_reason="stop",
        tokens=7,
    )


async def test_of_a_stream_the_same_is_kept() -> None:
    sample = await sample_of(stream(text_chunk(), finish_chunk(), usage_chunk()), is_streamed=True)
    assert (sample.failure, sample.streamed, sample.outcome, sample.score) == (None, True, "degraded", 0.4)
    assert (sample.finish_reason, sample.tokens) == ("length", 5)


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (httpx.Response(429, text="busy"), "429 busy"),
        (stream(text_chunk(), {"error": {"message": "died"}}), 'in the stream: {"message": "died"}'),
        (stream(text_chunk(), usage_chunk()), "the stream ended without its verdict"),
        (stream(text_chunk(), finish_chunk(), done=False), "the stream ended early"),
        (stream({"choices": [{}], "rheostat": {}}), "KeyError: 'finish_reason'"),
    ],
)
async def test_a_stream_that_is_refused_or_breaks_is_a_failure_and_tells_why(
    response: httpx.Response, failure: str
) -> None:
    sample = await sample_of(response, is_streamed=True)
    assert (sample.failure, sample.outcome, sample.asked) == (failure, "", {"lp": {"depth": 30}, "ls": {}})


async def test_a_refusal_and_a_lost_connection_are_failures_and_nothing_is_asked_again() -> None:
    seen: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 2:
            raise httpx.ConnectError("gone")
        return httpx.Response(400, text="no " * 1000)

    told: list[int] = []
    samples = await ask_all(client_of(refuse), "a-model", [ask()] * 3, 1, told.append)
    assert [str(sample.failure)[:6] for sample in samples] == ["400 no", "Connec", "400 no"]
    assert max(len(str(sample.failure)) for sample in samples) == 300
    assert told == [0, 0, 0]
    assert len(seen) == 3


async def test_samples_come_in_the_order_of_the_requests() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return whole() if json.loads(request.content)["seed"] % 2 else httpx.Response(503)

    asks = [Ask(f"health-{seed:02}", {"controls": {}, "seed": seed}) for seed in range(9)]
    samples = await ask_all(client_of(answer), "a-model", asks, 4)
    assert [sample.record for sample in samples] == [each.record_id for each in asks]
    assert [sample.failure is None for sample in samples] == [False, True] * 4 + [False]


def service(request: httpx.Request) -> httpx.Response:
    match request.url.path:
        case "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "a-model"}]})
        case "/v1/controls":
            return httpx.Response(200, json={"catalogue": "0" * 16, "controls": CONTROLS})
    body = json.loads(request.content)
    if not body.get("stream"):
        return whole()
    return stream(text_chunk(), finish_chunk(), usage_chunk())


def test_a_run_writes_its_record_and_prints_its_table_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "connect", lambda url, concurrency: client_of(service))
    out = tmp_path / "traffic.json"
    assert command.main(["--url", "http://test", "--count", "6", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["figures"]["answered"] == 6
    printed = capsys.readouterr().out
    assert "a-model, 6 asked, 6 answered" in printed
    assert "found by language" in printed


def test_a_run_in_which_something_was_refused_says_so_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse_streams(request: httpx.Request) -> httpx.Response:
        is_chat = request.url.path == "/v1/chat/completions"
        return httpx.Response(400, text="no") if is_chat and b'"stream":true' in request.content else service(request)

    monkeypatch.setattr(command, "connect", lambda url, concurrency: client_of(refuse_streams))
    assert command.main(["--url", "http://test", "--count", "4", "--json", str(tmp_path / "t.json")]) == 1
    assert "not answered: 400 no" in capsys.readouterr().err


def test_a_service_that_is_not_there_is_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("gone")

    monkeypatch.setattr(command, "connect", lambda url, concurrency: client_of(gone))
    assert command.main(["--url", "http://test", "--json", str(tmp_path / "t.json")]) == 1
    assert "http://test does not answer (ConnectError)" in capsys.readouterr().err
    assert not (tmp_path / "t.json").exists()


def test_more_requests_than_there_are_questions_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--url", "http://test", "--count", "100000"]) == 1
    assert f"the corpus has {len(RECORDS)} questions" in capsys.readouterr().err
