"""What a calibration and a conversation add to the answers: promises, targets, and the receipt of each dial."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import MODEL, running

from deployments.controls.calibration import Calibration
from deployments.controls.catalogue import load_catalogue
from deployments.feedback.directory import read_log
from graph.settings import PROJECT_ROOT
from tests.cluster import chat

CHAT = "/v1/chat/completions"
CATALOGUE = load_catalogue(PROJECT_ROOT / "configs/controls.yaml")
CASUAL = "Hey, it's gonna be awesome, and you'll see that we don't wait long for it!"
FORMAL = "The weather will be fine, and you will see that we do not wait long for it."


def calibrated(rho: float = 0.9) -> Calibration:
    """Depth from 30 to 800 words and formality with correlation ``rho``, which falls from 8 casual marks to 0."""

    def points(rows: list[tuple[int, float, float, float]]) -> list[dict[str, float]]:
        return [{"level": level, "mean": fit, "fitted": fit, "p10": p10, "p90": p90} for level, fit, p10, p90 in rows]

    return Calibration.model_validate(
        {
            "format": 1,
            "model": MODEL,
            "catalogue": CATALOGUE.hash,
            "versions": {},
            "prompts": 40,
            "seeds": 3,
            "tokens_per_word": 1.33,
            "knobs": {
                "depth": {
                    "yardstick": "words",
                    "unit": "words",
                    "rho": 0.98,
                    "points": points([(0, 30, 20, 40), (50, 180, 150, 220), (100, 800, 600, 950)]),
                },
                "formality": {
                    "yardstick": "casual",
                    "unit": "per 100 words",
                    "rho": rho,
                    "points": points([(0, 8, 5, 12), (100, 0, 0, 1)]),
                },
            },
        }
    )


def measured_in_levels() -> Calibration:
    """Technicality alone, from a mean CEFR level of 1.4 to 2.6."""
    points = [
        {"level": level, "mean": fit, "fitted": fit, "p10": p10, "p90": p90}
        for level, fit, p10, p90 in ((0, 1.4, 1.3, 1.6), (100, 2.6, 2.2, 2.9))
    ]
    knob = {"yardstick": "cefr", "unit": "CEFR level", "rho": 0.9, "points": points}
    return Calibration.model_validate({**calibrated().model_dump(), "knobs": {"technicality": knob}})


def script(text: str) -> dict[str, Any]:
    return {"first_token_s": 0, "token_s": 0, "max_model_len": 4096, "script": {"weather": text}}


async def receipt_of(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(CHAT, json=body)
    assert response.status_code == 200, response.text
    receipt: dict[str, Any] = response.json()["rheostat"]["controls"]
    return receipt


async def test_the_catalogue_tells_what_each_level_was_measured_to_give(tmp_path: Path) -> None:
    async with running(tmp_path, calibration=calibrated(rho=0.4)) as (client, _):
        body = (await client.get("/v1/controls")).json()
    by_name = {knob["name"]: knob for knob in body["controls"]}
    assert by_name["depth"]["calibration"]["levels"][1] == {"level": 50, "low": 150, "high": 220, "expected": 180}
    assert by_name["technicality"]["calibration"] is None
    assert by_name["formality"]["available"] is False
    assert "0.40" in by_name["formality"]["reason"]


async def test_the_catalogue_tells_which_other_sliders_a_slider_moves_and_why(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        controls = (await client.get("/v1/controls")).json()["controls"]
    told = {knob["name"]: knob["moves_with"] for knob in controls if knob["kind"] == "lp"}
    assert told == {name: slider.moves_with for name, slider in CATALOGUE.lp.items()}
    assert any(told.values())
    assert not any("moves_with" in knob for knob in controls if knob["kind"] == "ls")


async def test_a_preview_promises_a_length_once_the_model_is_calibrated(tmp_path: Path) -> None:
    asked = {"controls": {"lp": {"depth": 50}}}
    async with running(tmp_path / "with", calibration=calibrated()) as (client, _):
        with_calibration = (await client.post("/v1/controls/preview", json=asked)).json()
    async with running(tmp_path / "without") as (client, _):
        without = (await client.post("/v1/controls/preview", json=asked)).json()
    assert with_calibration["expected_words"] == {"low": 150, "high": 220}
    assert with_calibration["lp"]["depth"]["expected"]["high"] == 220
    assert without["expected_words"] is None
    assert without["lp"]["depth"]["expected"] is None


HARD = (
    "Precipitation originates from evaporation over the ocean. Solar radiation drives moisture into the atmosphere, where "
    "decreasing temperature produces condensation. Accumulating droplets eventually exceed the capacity of ascending "
    "currents, and gravity subsequently initiates precipitation across elevated terrain, particularly along exposed "
    "coastal mountains."
)


async def test_an_answer_is_held_to_the_reading_level_of_its_dial_and_so_is_a_text_that_is_sent(tmp_path: Path) -> None:
    easy = {"controls": {"lp": {"technicality": 0}}}
    async with running(tmp_path, calibration=measured_in_levels(), simulated=script(HARD)) as (client, service):
        answer = (await client.post(CHAT, json=chat("weather", **easy))).json()
        sent = (await client.post("/v1/validate", json={"text": HARD, "prompt": "weather", **easy})).json()
        promised = [job.context.reading_level for job in service.judged]
    assert promised == [(1.3, 1.6), (1.3, 1.6)]
    for body in (answer["rheostat"], sent):
        assert [finding["check"] for finding in body["quality"]["findings"]] == ["readability"]
        assert body["quality"]["outcome"] == "pass"
        assert body["quality"]["scores"]["control_fit"] == 0.0


@pytest.mark.parametrize(
    "controls",
    [
        {},
        {"lp": {"depth": 50}},
        {"lp": {"technicality": 0}, "ls": {"format": "steps"}},
        {"lp": {"technicality": 0}, "ls": {"language": "de"}},
    ],
    ids=["no controls", "another dial", "another form", "another language"],
)
async def test_where_a_preview_promises_no_level_the_checks_are_told_none(
    controls: dict[str, Any], tmp_path: Path
) -> None:
    async with running(tmp_path, calibration=measured_in_levels()) as (client, service):
        preview = (await client.post("/v1/controls/preview", json={"controls": controls})).json()
        await client.post(CHAT, json=chat("weather", controls=controls))
        assert preview["lp"]["technicality"]["expected"] is None
        assert {job.context.reading_level for job in service.judged} == {None}


async def test_without_a_calibration_no_level_is_promised(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, service):
        await client.post(CHAT, json=chat("weather", controls={"lp": {"technicality": 0}}))
        assert {job.context.reading_level for job in service.judged} == {None}


async def test_a_target_finds_its_level_and_both_are_in_the_receipt_and_in_the_log(tmp_path: Path) -> None:
    async with running(tmp_path, calibration=calibrated()) as (client, _):
        receipt = await receipt_of(client, chat("weather", controls={"targets": {"depth": 490}}))
        (row,) = read_log(tmp_path)
    depth = receipt["lp"]["depth"]
    assert (depth["value"], depth["source"], depth["target"]) == (75, "explicit", 490)
    assert json.loads(row["controls"])["lp"]["depth"]["target"] == 490


async def test_a_length_may_be_asked_for_without_a_calibration(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        receipt = await receipt_of(client, chat("weather", controls={"targets": {"depth": 150}}))
    assert (receipt["lp"]["depth"]["value"], receipt["target_words"]) == (50, 150)


@pytest.mark.parametrize(
    ("controls", "param", "says"),
    [
        ({"lp": {"formality": 80}}, "controls.lp.formality", "0.40"),
        ({"targets": {"formality": 4}}, "controls.targets.formality", "0.40"),
        ({"targets": {"depth": 801}}, "controls.targets.depth", "30 to 800"),
        ({"targets": {"technicality": 2}}, "controls.targets.technicality", "not measured"),
    ],
)
async def test_what_the_model_was_measured_not_to_do_is_refused(
    controls: dict[str, Any], param: str, says: str, tmp_path: Path
) -> None:
    async with running(tmp_path, calibration=calibrated(rho=0.4)) as (client, _):
        for path in (CHAT, "/v1/controls/preview"):
            response = await client.post(path, json=chat("weather", controls=controls))
            error = response.json()["error"]
            assert (response.status_code, error["param"]) == (400, param)
            assert says in error["message"]


async def test_a_preset_does_not_fail_on_a_dial_that_does_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, calibration=calibrated(rho=0.4)) as (client, _):
        receipt = await receipt_of(client, chat("weather", controls={"ls": {"preset": "teach"}}))
    assert receipt["lp"]["formality"]["source"] == "default"
    assert receipt["lp"]["technicality"]["source"] == "preset"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_receipt_tells_how_far_a_dial_moved_the_answer(stream: bool, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": "An older answer, which is not the one before."},
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": CASUAL},
        {"role": "user", "content": "weather"},
    ]
    asked = {**chat("weather", controls={"lp": {"formality": 100}}), "messages": turns, "stream": stream}
    async with running(tmp_path, simulated=script(FORMAL), calibration=calibrated()) as (client, _):
        response = await client.post(CHAT, json=asked)
    whole = response.text.removesuffix("\n\ndata: [DONE]\n\n").rsplit("data: ")[-1] if stream else response.text
    receipt = json.loads(whole)["rheostat"]["controls"]
    formality = receipt["lp"]["formality"]
    assert formality["measured"] == {"yardstick": "casual", "value": 0}
    assert formality["fit"] == 1
    assert formality["change"] == -46.67
    assert receipt["lp"]["depth"]["change"] == 2
    assert receipt["lp"]["depth"]["fit"] is None
    assert receipt["measured"] == {"words": 17, "sentences": 1}


async def test_the_first_answer_of_a_conversation_has_no_change(tmp_path: Path) -> None:
    async with running(tmp_path, simulated=script(FORMAL)) as (client, _):
        first = await receipt_of(client, chat("weather", controls={"lp": {"formality": 100}}))
        # A turn that the caller began for the assistant is part of this answer, not the one before.
        begun = chat("weather", controls={"lp": {"formality": 100}})
        begun["messages"] = [*begun["messages"], {"role": "assistant", "content": CASUAL}]
        continued = await receipt_of(client, begun)
    assert first["lp"]["formality"]["measured"] is not None
    assert first["lp"]["formality"]["change"] is None
    assert continued["lp"]["formality"]["change"] is None
