"""Real traffic: what is made of all answers: figures, pictures, the section and the page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.controls.asking import Facts
from benchmarks.validation.corpus import Corpus, load_corpus
from benchmarks.validation.delays import measure_delays
from benchmarks.validation.evaluate import evaluate
from benchmarks.validation.page import compose, write_page
from benchmarks.validation.recording import make_record as make_validation_record
from benchmarks.validation.repair import measure_repair
from benchmarks.validation.served_streams import measure_served
from benchmarks.validation.streams import measure_streams
from benchmarks.validation.traffic.asking import Found, Sample
from benchmarks.validation.traffic.figures import BINS, UNTOUCHED, traffic_figures
from benchmarks.validation.traffic.plots import BY_SLIDER, BY_SWITCH, OUTCOMES, draw_all
from benchmarks.validation.traffic.recording import make_record, samples_path, save_record
from benchmarks.validation.traffic.section import traffic_section
from deployments.controls.catalogue import describe, load_catalogue
from deployments.validator.policy import QualityPolicy
from graph.settings import PROJECT_ROOT

CONTROLS: list[dict[str, Any]] = describe(load_catalogue(PROJECT_ROOT / "configs/controls.yaml"))["controls"]
FACTS = Facts("a-model", "vllm", "rheostat-0", "0" * 16, tuple(CONTROLS))
CORPUS = load_corpus()
RECORDS = CORPUS.clean + CORPUS.languages
Handler = Callable[[httpx.Request], httpx.Response]


def made(outcome: str = "pass", score: float | None = 1.0, attempts: int = 1, **more: Any) -> Sample:
    values = {
        "record": "health-07",
        "streamed": False,
        "asked": {},
        "failure": None,
        "settings": {"depth": 30, "format": "markdown"},
        "scores": {"form": 1.0},
        "finish_reason": "stop",
        **more,
    }
    return Sample(outcome=outcome, score=score, attempts=attempts, **values)


SAMPLES = [
    made(),
    made("retried", 0.8, 2, settings={"depth": 19, "format": "json"}),
    made("degraded", 0.4, streamed=True, settings={"depth": 100, "format": "json"}, findings=(
        Found("repetition", "soft", "regenerate"), Found("repetition", "soft", "note"), Found("pii", "hard", "fix"),
    )),
    made("unvalidated", None, streamed=True, settings={"format": "markdown"}, findings=(Found("repetition", "soft", "note"),)),
    Sample("money-01", True, {"lp": {"depth": 3}}, "429 busy | \n later", {}),
]  # fmt: skip
FIGURES = traffic_figures(SAMPLES, CONTROLS)


def test_outcomes_are_counted_for_streams_and_whole_answers() -> None:
    hits = {
        kind: {name: each["hits"] for name, each in FIGURES["outcomes"][kind].items()} for kind in FIGURES["outcomes"]
    }
    assert hits["all"] == {"pass": 1, "fixed": 0, "retried": 1, "degraded": 1, "blocked": 0, "unvalidated": 1}
    assert {name for name, count in hits["streamed"].items() if count} == {"degraded", "unvalidated"}
    assert {name for name, count in hits["whole"].items() if count} == {"pass", "retried"}
    assert FIGURES["outcomes"]["all"]["pass"]["of"] == 4
    assert FIGURES["outcomes"]["all"]["pass"]["value"] == 0.25


def test_an_outcome_that_the_contract_does_not_know_is_shown() -> None:
    assert traffic_figures([made("odd")], CONTROLS)["outcomes"]["all"]["odd"]["hits"] == 1


def test_what_was_not_answered_is_listed_and_counts_nowhere_else() -> None:
    assert (FIGURES["asked"], FIGURES["answered"]) == (5, 4)
    assert FIGURES["failures"] == [
        {"record": "money-01", "streamed": True, "asked": {"lp": {"depth": 3}}, "failure": "429 busy | \n later"}
    ]


def test_extra_generations_are_attempts_beyond_the_first() -> None:
    assert FIGURES["extra_generations"] == {"all": 0.25, "streamed": 0.0, "whole": 0.5}
    assert traffic_figures([], CONTROLS)["extra_generations"]["all"] is None


def test_an_answer_without_a_score_has_no_part_in_the_mean() -> None:
    assert FIGURES["mean_score"]["all"] == pytest.approx((1 + 0.8 + 0.4) / 3)
    assert FIGURES["mean_score"]["streamed"] == pytest.approx(0.4)
    assert FIGURES["mean_scores"] == {"form": 1.0}


def test_findings_are_told_by_answer_and_by_what_was_done() -> None:
    assert list(FIGURES["findings"]) == ["pii", "repetition"]
    loops = FIGURES["findings"]["repetition"]
    assert (loops["answers"]["hits"], loops["answers"]["of"]) == (2, 4)
    assert loops["by_action"] == {"note": 2, "regenerate": 1}
    assert loops["by_severity"] == {"soft": 3}


def test_a_slider_has_five_bins_and_a_place_for_those_that_nobody_moved() -> None:
    assert sorted(level for levels in BINS.values() for level in levels) == list(range(101))
    depth = FIGURES["by_setting"]["depth"]
    assert {label: group["answers"] for label, group in depth.items()} == {
        UNTOUCHED: 1, "0-19": 1, "20-39": 1, "80-100": 1,
    }  # fmt: skip
    assert (depth["0-19"]["mean_score"], depth["0-19"]["passed"]["hits"]) == (0.8, 0)
    assert depth[UNTOUCHED]["mean_score"] is None
    assert {label: group["answers"] for label, group in FIGURES["by_setting"]["formality"].items()} == {UNTOUCHED: 4}


def test_a_switch_has_its_values_in_its_own_order() -> None:
    forms = FIGURES["by_setting"]["format"]
    assert {value: group["answers"] for value, group in forms.items()} == {"markdown": 2, "json": 2}
    assert forms["markdown"]["passed"]["value"] == 0.5
    assert "preset" not in FIGURES["by_setting"]


def recorded(samples: list[Sample] = SAMPLES, engine: str = "vllm") -> dict[str, Any]:
    facts = Facts("a-model", engine, "rheostat-0", "0" * 16, tuple(CONTROLS))
    record = make_record(facts, traffic_figures(samples, CONTROLS), "c0de")
    return {**record, "configuration": {"count": 5, "seed": 1, "concurrency": 32}}


def test_pictures_are_the_same_for_the_same_record_byte_for_byte(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert draw_all(recorded(), tmp_path / folder) == [OUTCOMES, BY_SLIDER, BY_SWITCH]
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(f"{name}.{kind}" for name in (OUTCOMES, BY_SLIDER, BY_SWITCH) for kind in ("png", "svg"))
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_a_run_without_an_answer_has_no_pictures_and_still_a_section(tmp_path: Path) -> None:
    record = recorded([Sample("money-01", True, {}, "429 busy", {})])
    assert draw_all(record, tmp_path) == []
    text = traffic_section(record, [])
    assert "| money-01 | streamed | 429 busy |" in text
    assert "![" not in text


def test_the_section_tells_outcomes_extra_generations_findings_and_failures() -> None:
    text = traffic_section(recorded(), [OUTCOMES, BY_SLIDER])
    assert "| retried | 1 (25.0%) | 0 (0.0%) | 1 (50.0%) |" in text
    assert "| extra generations a request | 0.25 | 0.00 | 0.50 |" in text
    assert "at most 0.2 a request, here of whole answers: **missed**" in text
    assert "| repetition | 2 | 50.0% (15% to 85%) | 3 soft | 2 note, 1 regenerate |" in text
    assert r"| money-01 | streamed | 429 busy \| later |" in text
    assert "| depth | 0-19 | 1 | 0.80 | 0.0% | 0% to 79% |" in text
    assert "| formality |" not in text
    assert f"](pictures/{OUTCOMES}.png)" in text
    assert f"](pictures/{BY_SWITCH}.png)" not in text
    assert "simulated" not in text


def test_the_target_is_met_at_its_limit_and_a_simulated_engine_is_named() -> None:
    at_limit = [made(attempts=2), *[made()] * 4]
    text = traffic_section(recorded(at_limit, "simulated"), [])
    assert "at most 0.2 a request, here of whole answers: **met**" in text
    assert "A simulated engine answered" in text
    assert "No check found anything." in text
    assert "No request was refused or broken off." in text


def validation_record() -> dict[str, Any]:
    corpus = Corpus(CORPUS.clean[:2], (), (), (), (), CORPUS.systems[:1])
    figures = {
        "detection": evaluate(corpus, [], QualityPolicy()),
        "repair": measure_repair([], corpus.clean),
        "streams": measure_streams(corpus, 4, 1),
        "delays": measure_delays(corpus.clean, corpus.systems, str.split),
        "served": measure_served(corpus, 2, 1),
        "latency": {"texts": 1, "words": 300, "milliseconds": {"tier 0": {"p50": 1.0, "p95": 2.0, "p99": 5.0}}},
    }
    return {
        **make_validation_record("test", corpus, figures),
        "configuration": {"seed": 1, "streams": 4},
        "versions": {"rheostat": "0.1"},
        "machine": {"python": "3.11", "cores": 2},
    }


def test_the_page_has_the_sections_of_what_was_recorded_and_of_nothing_else(tmp_path: Path) -> None:
    record, traffic = tmp_path / "validation.json", tmp_path / "traffic.json"
    record.write_text(json.dumps(validation_record()))
    write_page(record, tmp_path / "without.md", traffic)
    assert "## Real" not in (tmp_path / "without.md").read_text()
    assert not (tmp_path / "pictures").exists()
    traffic.write_text(json.dumps(recorded()))
    write_page(record, tmp_path / "with.md", traffic)
    page = (tmp_path / "with.md").read_text()
    assert "## Real traffic" in page
    assert (tmp_path / "pictures" / f"{OUTCOMES}.svg").exists()


def test_the_page_has_the_section_of_labelled_outputs() -> None:
    shared = {"hits": 1, "of": 2, "value": 0.5, "low": 0.1, "high": 0.9}
    real = {
        "outputs": 2,
        "checks": {"language": {"precision": shared, "recall": shared, "f1": 0.5}},
        "joint": {"good_objected_to": shared, "bad_objected_to": shared},
        "disagreements": [],
    }
    record = validation_record()
    page = compose({**record, "figures": {**record["figures"], "real": real}}, "validation.json")
    assert "## Real outputs" in page
    assert "Where a check and the label differ" not in page


def test_a_record_is_saved_with_what_answered_and_its_samples_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "results" / "traffic.json"
    save_record(path, recorded(), {"count": 5, "seed": 1, "concurrency": 32}, SAMPLES)
    record = json.loads(path.read_text())
    assert record["service"]["code"] == "c0de"
    assert record["configuration"]["count"] == 5
    assert record["figures"]["answered"] == 4
    lines = samples_path(path).read_text().splitlines()
    assert samples_path(path).name == "traffic.samples.jsonl"
    assert [json.loads(line)["outcome"] for line in lines] == ["pass", "retried", "degraded", "unvalidated", ""]
    assert json.loads(lines[2])["findings"][2] == {"check": "pii", "severity": "hard", "action": "fix"}
