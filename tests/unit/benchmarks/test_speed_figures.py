"""What the comparing benchmarks make of answers: windows, rounds, ratios and aims."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.contestants.vllm_server import options_of
from benchmarks.graph.__main__ import aims_of as graph_aims
from benchmarks.graph.loads import Window, figures_of_streams, figures_of_whole
from benchmarks.graph.sides import without_checks
from benchmarks.load_prompts import bodies, questions
from benchmarks.overhead import __main__ as overhead
from benchmarks.overhead.__main__ import aims_of as overhead_aims
from benchmarks.overhead.cells import Cell, figures_of
from benchmarks.rounds import Aim, Spread, difference, figure, ratio
from benchmarks.streams import Answer
from deployments.ingress.openai_schema import ChatRequest
from deployments.validator.policy import parse_policy


def streamed(began: float, first_s: float, gaps_s: float, deltas: int, tokens: int, close_s: float = 0.0) -> Answer:
    arrivals = tuple(began + first_s + gaps_s * number for number in range(deltas))
    return Answer(began, arrivals[-1] + close_s, tokens, arrivals, deltas)


def test_tokens_count_when_they_arrive_and_first_ones_when_their_request_began_inside() -> None:
    window = Window(10.0, 20.0, server_cpu_s=2.0, client_cpu_s=0.5)
    across = streamed(began=5.0, first_s=1.0, gaps_s=1.0, deltas=10, tokens=20)  # arrives from 6 to 15, 6 of 10 inside
    inside = streamed(began=11.0, first_s=0.5, gaps_s=0.5, deltas=4, tokens=4, close_s=0.2)
    before = streamed(began=0.0, first_s=2.0, gaps_s=4.0, deltas=2, tokens=2)
    figures = figures_of_streams([across, inside, before], window)
    assert figures["tokens_per_s"] == pytest.approx((20 * 0.6 + 4) / 10)
    assert figures["ttft_p50_ms"] == 500.0
    assert figures["gap_p99_ms"] == 1000.0
    assert figures["close_p50_ms"] == 200.0
    assert figures["cpu_ms_per_1000_tokens"] == pytest.approx(2.0 / 16 * 1e6)
    assert figures["client_cpu_ms_per_1000_tokens"] == pytest.approx(0.5 / 16 * 1e6, abs=0.1)


def test_a_failed_answer_is_counted_as_failed_and_as_nothing_else() -> None:
    window = Window(0.0, 10.0, 1.0, 1.0)
    good = streamed(1.0, 1.0, 1.0, 3, 3)
    broken = Answer(1.0, 2.0, 0, failure="broke off")
    figures = figures_of_streams([good, broken], window)
    assert (figures["tokens_per_s"], figures["failed"], figures["first_failure"]) == (0.3, 1, "broke off")


def test_whole_answers_count_when_they_are_there() -> None:
    window = Window(10.0, 20.0, 1.0, 1.0)
    answers = [Answer(began, began + 2.0, 64) for began in (7.0, 8.5, 17.0, 18.5)]
    assert figures_of_whole(answers, window)["requests_per_s"] == 0.2


def test_a_cells_rate_is_all_its_tokens_over_its_whole_time() -> None:
    answers = [streamed(0.0, 1.0, 1.0, 4, 4), streamed(4.0, 2.0, 1.0, 4, 4)]
    figures = figures_of(answers, cpu_s=1.0)
    assert figures["tokens_per_s"] == pytest.approx(8 / 9, abs=0.01)
    assert figures["ttft_p50_ms"] == 2000.0


def test_every_cell_has_at_least_two_answers_a_user() -> None:
    assert [Cell(users, True).answers for users in (1, 16, 32)] == [6, 32, 64]


ROWS = [
    {"round": 0, "cell": "a", "contestant": "rheostat", "rate": 10.0},
    {"round": 0, "cell": "a", "contestant": "vllm", "rate": 20.0},
    {"round": 1, "cell": "a", "contestant": "rheostat", "rate": 40.0},
    {"round": 1, "cell": "a", "contestant": "vllm", "rate": 40.0},
    {"round": 2, "cell": "a", "contestant": "rheostat", "rate": 90.0},
    {"round": 3, "cell": "b", "contestant": "vllm", "rate": 1.0},
]


def test_two_sides_are_compared_within_a_round() -> None:
    assert ratio(ROWS, "a", "rheostat", "vllm", "rate") == Spread(0.75, 0.5, 1.0)
    assert difference(ROWS, "a", "rheostat", "vllm", "rate") == Spread(-5.0, -10.0, 0.0)
    assert figure(ROWS, "a", "rheostat", "rate") == Spread(40.0, 10.0, 90.0)


def test_what_was_not_measured_is_no_figure_and_neither_met_nor_missed() -> None:
    assert figure(ROWS, "c", "rheostat", "rate") is None
    assert ratio(ROWS, "b", "rheostat", "vllm", "rate") is None
    assert Aim("rate", None, 1.0).is_met is None


def test_an_aim_is_met_at_its_bound() -> None:
    assert Aim("rate", 1.0, 1.0).is_met is True
    assert Aim("rate", 0.99, 1.0).is_met is False
    assert Aim("time", 1.0, 1.0, at_least=False).is_met is True
    assert Aim("time", 1.01, 1.0, at_least=False).is_met is False


def test_the_graphs_aims_are_the_issues() -> None:
    rows = [
        {"round": 0, "cell": "whole", "contestant": "rheostat", "requests_per_s": 300.0},
        {"round": 0, "cell": "whole", "contestant": "ray-default", "requests_per_s": 101.0},
    ]
    met = {aim.what: aim.is_met for aim in graph_aims(rows)}
    assert met["whole: requests/s"] is True
    assert met["whole: requests/s over ray.serve.llm's default"] is False
    assert met["64 streams: tokens/s"] is None
    assert len(met) == 10


def test_overheads_aims_are_the_issues() -> None:
    cells = [Cell(users, streamed) for users in (1, 16, 32) for streamed in (True, False)]
    assert [aim.bound for aim in overhead_aims([], "one", cells[:2])] == [0.97, 1.25, 10.0, 0.97, 1.25]
    assert [aim.bound for aim in overhead_aims([], "as it comes", cells)] == [1.0, 10.0, 1.0, 1.15, 1.15, 1.35, 1.35]


def test_questions_are_each_different_and_the_seed_says_which() -> None:
    some = list(itertools.islice(questions(1), 3200))
    assert len(set(some)) == 3200
    assert some == list(itertools.islice(questions(1), 3200))
    assert some[:50] != list(itertools.islice(questions(2), 50))


@pytest.mark.parametrize("is_streamed", [True, False])
def test_rheostat_takes_every_field_of_the_requests(is_streamed: bool) -> None:
    body = next(bodies("m", 1, streamed=is_streamed, tokens=64))
    request = ChatRequest.model_validate(body)
    assert (request.token_limit, request.ignore_eos, request.temperature) == (64, True, 0.0)


def test_engine_arguments_become_the_servers_options() -> None:
    asked = {"max_num_seqs": 32, "enforce_eager": True, "enable_chunked_prefill": False}
    assert options_of(asked) == ["--max-num-seqs", "32", "--enforce-eager", "--no-enable-chunked-prefill"]
    assert options_of({"compilation_config": {"mode": 0}}) == ["--compilation-config", '{"mode": 0}']


def test_a_comparison_that_is_cut_short_keeps_what_it_has_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> Iterator[dict[str, object]]:
        yield {"round": 0, "cell": "one, 1 whole", "contestant": "rheostat", "tokens_per_s": 60.0, "failed": 0}
        raise KeyboardInterrupt

    monkeypatch.setattr(overhead, "measure_all", cut)
    with pytest.raises(KeyboardInterrupt):
        overhead.main(["--bind", "one", "--json", str(tmp_path / "record.json")])
    assert json.loads((tmp_path / "record.json").read_text())["figures"][0]["tokens_per_s"] == 60.0


def test_without_checks_every_check_is_off_and_the_policy_is_still_one() -> None:
    policy = without_checks()
    assert policy["checks"]
    assert not any(check["enabled"] for check in policy["checks"].values())
    parse_policy(policy, "without checks")
