"""A run of the dials' benchmark: what it asks, what it keeps, and what it makes of it. No service, no network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.controls.__main__ import main
from benchmarks.controls.ablations import ARMS, write_stripped
from benchmarks.controls.asking import MAX_FAILURES, Answer, Asker, Facts, Store, TooManyFailures
from benchmarks.controls.calibration_file import make_calibration, save_calibration
from benchmarks.controls.code_version import code_version
from benchmarks.controls.embeddings import Embedder
from benchmarks.controls.immediacy import MOVES, Held, immediacy_figures, make_pairs, moved_right
from benchmarks.controls.page import compose
from benchmarks.controls.plan import LEVELS, SLIDERS, Plan, quick_plan, sweep, usual_asks
from benchmarks.controls.plots import draw_all
from benchmarks.controls.prefix import ARMS as PREFIX_ARMS
from benchmarks.controls.prefix import prefix_figures
from benchmarks.controls.prompts import HELD_OUT, PROMPT_SETS, TUNING, all_prompts, choose_prompts
from benchmarks.controls.recording import earlier_figures, make_record
from benchmarks.controls.repeatable import SIDES, alone_asks, engine_args, repeatable_figures, repeated_asks
from benchmarks.controls.sliders import curve
from benchmarks.controls.targets import judge
from deployments.controls.calibration import load_calibration
from deployments.controls.catalogue import load_catalogue
from graph.settings import PROJECT_ROOT
from graph.strict_yaml import read_yaml

FACTS = Facts("a-model", "vllm", "rheostat-0", "0" * 16, ())
CATALOGUE = PROJECT_ROOT / "configs/controls.yaml"


def completion(text: str = "Yes.", **usage: int) -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}} | usage,
        "rheostat": {
            "attempts": 1,
            "quality": {"outcome": "pass", "findings": [{"check": "truncation"}, {"check": "truncation"}]},
            "controls": {"target_words": 25, "directive": None},
        },
    }


def make_asker(
    path: Path, answer: Callable[[httpx.Request], httpx.Response], code: str = "c", waits: list[float] | None = None
) -> Asker:
    async def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    client = httpx.AsyncClient(base_url="http://test", transport=httpx.MockTransport(answer))
    return Asker(client, FACTS, Store(path, code), 4, sleep=sleep)


async def test_an_answer_is_asked_for_once_and_then_remembered(tmp_path: Path) -> None:
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(200, json=completion())

    path = tmp_path / "answers.jsonl"
    first = await make_asker(path, answer).ask({"seed": 1})
    again = await make_asker(path, answer).ask({"seed": 1})
    assert first == again
    assert first is not None
    assert first.findings == ("truncation",)
    assert seen == [{"model": "a-model", "seed": 1}]


async def test_answers_of_other_code_are_asked_again_but_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    asker = make_asker(path, lambda _: httpx.Response(200, json=completion()))
    await asker.ask({"seed": 1})
    key = asker.key({"seed": 1})
    assert key in Store(path, "c")
    assert key not in Store(path, "d")
    assert key in Store(path, "d", any_code=True)


async def test_a_line_that_was_cut_is_no_answer_and_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    asker = make_asker(path, lambda _: httpx.Response(200, json=completion()))
    await asker.ask_all([{"seed": 1}, {"seed": 2}])
    path.write_text(path.read_text()[:-20])
    cut = Store(path, "c")
    assert sum(asker.key({"seed": seed}) in cut for seed in (1, 2)) == 1
    cut.put("new", 1)
    assert Store(path, "c").get("new") == 1


async def test_a_busy_service_is_asked_again_when_it_says(tmp_path: Path) -> None:
    replies = iter([httpx.Response(503, headers={"retry-after": "30"}), httpx.Response(200, json=completion())])
    waits: list[float] = []
    asker = make_asker(tmp_path / "a.jsonl", lambda _: next(replies), waits=waits)
    assert await asker.ask({"seed": 1}) is not None
    assert waits == [30]
    assert asker.failures == []


async def test_a_refusal_is_counted_and_not_repeated(tmp_path: Path) -> None:
    seen = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(400, text="no such dial")

    asker = make_asker(tmp_path / "a.jsonl", refuse)
    assert await asker.ask({"seed": 1}) is None
    assert len(seen) == 1
    assert "no such dial" in asker.failures[0]


async def test_a_service_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    asker = make_asker(tmp_path / "a.jsonl", lambda _: httpx.Response(400))
    with pytest.raises(ExceptionGroup) as caught:
        await asker.ask_all([{"seed": seed} for seed in range(2 * MAX_FAILURES)])
    assert caught.group_contains(TooManyFailures)


async def test_answers_come_in_the_order_of_the_questions(tmp_path: Path) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=completion(str(json.loads(request.content)["seed"])))

    answers = await make_asker(tmp_path / "a.jsonl", echo).ask_all([{"seed": seed} for seed in range(20)])
    assert [answer.text for answer in answers if answer] == [str(seed) for seed in range(20)]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("lever.py", ('"""Old."""\nX = 1\n', '"""New."""\n# why\nX = 1\n"""Of it."""\n', "X = 2\n")),
        ("cpu.yaml", ("a: 1 # old\n", "# why\na: 1\n", "a: 2\n")),
    ],
)
def test_a_comment_is_no_change_of_what_answers_and_a_number_is(
    tmp_path: Path, name: str, texts: tuple[str, ...]
) -> None:
    hashes = []
    for text in texts:
        (tmp_path / name).write_text(text)
        hashes.append(code_version(tmp_path, ["*"]))
    assert hashes[0] == hashes[1] != hashes[2]
    assert code_version(tmp_path, ["*"], [name]) == code_version(tmp_path, ["*.none"])


@pytest.mark.parametrize("prompt_set", PROMPT_SETS)
def test_a_set_has_forty_prompts_of_eight_kinds_in_turn(prompt_set: str) -> None:
    prompts = all_prompts(prompt_set)
    assert len(prompts) == len({prompt.question for prompt in prompts}) == 40
    assert len({prompt.kind for prompt in choose_prompts(8, prompt_set)}) == 8
    assert [prompt.index for prompt in prompts] == list(range(40))


def test_no_question_that_is_tuned_on_is_held_out() -> None:
    tuned, held_out = (
        {text for prompt in all_prompts(each) for text in (prompt.question, prompt.follow_up)}
        for each in (TUNING, HELD_OUT)
    )
    assert len(tuned) == len(held_out) == 80
    assert not tuned & held_out


def test_more_prompts_than_a_set_has_are_refused() -> None:
    with pytest.raises(ValueError, match="41 prompts"):
        choose_prompts(41)


def test_a_sweep_moves_one_dial_and_sends_all_four() -> None:
    plan = Plan(choose_prompts(40), 3, 1)
    for knob in SLIDERS:
        asks = sweep(knob, plan)
        assert len(asks) == 40 * len(LEVELS) * (5 if knob == "creativity" else 3)
        settings = [ask.body["controls"]["lp"] for ask in asks]
        assert all(tuple(sorted(lp)) == tuple(sorted(SLIDERS)) for lp in settings)
        assert {name for lp in settings for name in SLIDERS if lp[name] != settings[0][name]} == {knob}


def test_seeds_are_paired_over_levels_and_differ_otherwise() -> None:
    asks = sweep("depth", Plan(choose_prompts(3), 3, 1))
    by_cell: dict[tuple[int, int], set[int]] = {}
    for ask in asks:
        by_cell.setdefault((ask.prompt.index, ask.seed_index), set()).add(ask.body["seed"])
    assert all(len(seeds) == 1 for seeds in by_cell.values())
    assert len({next(iter(seeds)) for seeds in by_cell.values()}) == 9
    assert sweep("depth", Plan(choose_prompts(3), 3, 2))[0].body["seed"] != asks[0].body["seed"]


def test_the_moves_of_immediacy_are_of_forty_and_spread_over_the_pairs() -> None:
    assert {abs(high - low) for low, high in MOVES} == {40}
    pairs = make_pairs("depth", Plan(choose_prompts(40), 3, 1))
    counts = [sum(pair.move == move for pair in pairs) for move in MOVES]
    assert max(counts) - min(counts) <= 3


@pytest.mark.parametrize(
    ("knob", "move", "before", "after", "right"),
    [
        ("depth", (10, 50), 30, 100, True),
        ("depth", (50, 10), 30, 100, False),
        ("formality", (10, 50), 4, 1, True),
        ("formality", (50, 10), 4, 1, False),
        ("technicality", (50, 90), 2, 2, False),
    ],
)
def test_a_pair_moved_right_when_the_yardstick_went_where_the_dial_did(
    knob: str, move: tuple[int, int], before: float, after: float, right: bool
) -> None:
    assert moved_right(knob, move, before, after) is right


def test_immediacy_counts_ties_as_not_moved_and_leaves_out_what_was_not_answered() -> None:
    pairs = make_pairs("depth", Plan(choose_prompts(3), 1, 1))
    assert [pair.move for pair in pairs] == [(10, 50), (50, 10), (30, 70)]
    right = Held(pairs[0], ["one"], ["one two"], ["one two three"])
    tied = Held(pairs[1], ["one"], ["one"], ["one two"])
    unanswered = Held(pairs[2], ["one"])
    found = immediacy_figures("depth", [right, tied, unanswered], Embedder())
    assert (found["yardstick"], found["conversations"], found["pairs"], found["tied"]) == ("words", 3, 2, 1)
    assert found["moved_right"]["value"] == 0.5
    assert found["against_unmoved"]["value"] == 0.5  # the other one of the two


def test_immediacy_tells_every_yardstick_of_a_slider() -> None:
    texts = [f"Word {'really ' * number}stands here now." for number in range(8)]
    held = [Held(pair, texts[:1], texts[-1:], texts[:1]) for pair in make_pairs("technicality", quick_plan(1))]
    found = immediacy_figures("technicality", held, Embedder())
    assert (found["yardstick"], list(found["beside"])) == ("cefr", ["fkgl"])


def answer(text: str) -> Answer:
    return Answer(text, "stop", 9, 10, 0, 1, "pass", (), None, None)


def test_a_prompt_is_repeatable_when_all_its_answers_are_one_text() -> None:
    asks = repeated_asks(Plan(choose_prompts(3), 1, 1, creativity_seeds=2))
    assert [(ask.prompt.index, ask.level) for ask in asks] == [(0, 0), (0, 0), (1, 0), (1, 0), (2, 0), (2, 0)]
    answers = [answer("A."), answer("A."), answer("B."), answer("C."), answer("D."), None]
    alone = {0: answer("A."), 1: answer("B."), 2: None}
    found = repeatable_figures(asks, answers, alone, 2.0)
    # The last prompt has one answer, which is like itself: that says nothing.
    assert (found["prompts"], found["identical"]) == (2, 1)
    # Alone, the second is like one of its two texts: not the same as in the crowd.
    assert (found["alone"], found["alone_identical"]) == (2, 1)
    assert (found["answers"], found["tokens_per_s"]) == (5, 25.0)


def test_one_prompt_of_each_kind_is_asked_alone() -> None:
    plan = Plan(choose_prompts(40), 3, 1)
    assert len({ask.prompt.kind for ask in alone_asks(plan)}) == len(alone_asks(plan)) == 8


def test_the_first_side_is_the_one_that_is_served() -> None:
    application = read_yaml(PROJECT_ROOT / "configs/serve/cpu.yaml").data["applications"][0]
    served = next(iter(SIDES.values()))
    assert application["args"]["engine"]["vllm"]["batch_invariant"] is served
    assert [engine_args(side)["engine"]["vllm"] for side in (True, False)] == [
        {"batch_invariant": True},
        {"batch_invariant": False},
    ]


@pytest.mark.parametrize("more", [["--only", "repeatable"], ["--only", "depth,ablations"], ["--ablations"]])
def test_parts_that_start_their_own_services_are_refused_for_a_service_elsewhere(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--url", "http://127.0.0.1:1", *more])
    assert "leave --url out" in capsys.readouterr().err


def test_an_unmoved_dial_is_compared_with_the_moved_one_that_kept_most() -> None:
    def arm(kind: str, share: float) -> dict[str, Any]:
        return {"kind": kind, "at_last_turn": share}

    arms = {"none": arm("unmoved", 0.87), "depth moved": arm("moved", 0.86), "formality moved": arm("moved", 0.9)}
    met = {target["what"]: target["met"] for target in judge({"prefix": {"turns": 10, "arms": arms}})}
    assert met["not moving a dial is no worse"] is False
    assert met["depth moved, turn 10"] is True


def test_every_yardstick_of_a_slider_is_judged() -> None:
    def share(value: float) -> dict[str, Any]:
        return {"pairs": 40, "moved_right": {"value": value, "low": value, "high": value}}

    knob = {"yardstick": "variety", **share(0.5), "beside": {"distinct_2": share(0.95)}}
    judged = judge({"immediacy": {"sliders": {"creativity": knob}}})
    assert [target["met"] for target in judged] == [False, True]


def test_the_reference_of_creativity_has_as_many_answers_as_a_level() -> None:
    plan = Plan(choose_prompts(4), 3, 1)
    assert len(usual_asks(plan)) == len([ask for ask in sweep("creativity", plan) if ask.level == 0])


def test_every_arm_of_the_ablations_is_a_catalogue_and_the_last_is_the_whole_one(tmp_path: Path) -> None:
    stripped = [load_catalogue(write_stripped(CATALOGUE, arm, tmp_path)) for arm in ARMS]
    phrases, *_, whole = stripped
    assert whole.hash == load_catalogue(CATALOGUE).hash
    assert len({catalogue.hash for catalogue in stripped}) == len(ARMS)
    assert not any(slider.logits.given for slider in phrases.lp.values())
    assert not any(slider.length.shaped for slider in phrases.lp.values() if slider.length)
    assert all(len({value for _, value in curve}) == 1 for curve in phrases.lp["creativity"].sampling.given.values())
    assert [phrases.lp[name].bands for name in SLIDERS] == [whole.lp[name].bands for name in SLIDERS]


def test_a_share_of_the_cache_is_of_the_earlier_turns_without_the_template() -> None:
    first = {"prompt": 60, "cached": 0, "answer": 40, "attempts": 1, "alone": 60, "empty": 20}
    # 100 tokens of earlier turns, of which 90 + 20 of the template are cached.
    second = {"prompt": 150, "cached": 110, "answer": 40, "attempts": 1, "alone": 50, "empty": 20}
    found = prefix_figures({PREFIX_ARMS[0].name: [[first, second]]})
    arm = found["arms"][PREFIX_ARMS[0].name]
    assert (arm["at_last_turn"], arm["over_turns"]) == pytest.approx((0.9, 0.9))
    assert arm["seen_at_last_turn"] == pytest.approx(1.1)
    assert found["turns"] == 2


def test_a_turn_that_was_tried_twice_says_nothing_of_the_cache() -> None:
    first = {"prompt": 60, "cached": 0, "answer": 40, "attempts": 1, "alone": 60, "empty": 20}
    second = {"prompt": 150, "cached": 110, "answer": 40, "attempts": 2, "alone": 50, "empty": 20}
    arm = prefix_figures({PREFIX_ARMS[0].name: [[first, second]]})["arms"][PREFIX_ARMS[0].name]
    assert arm["at_last_turn"] is None
    assert arm["second_tries"] == 1


def made_record() -> dict[str, Any]:
    """A record with two sliders, whose numbers are made up."""
    groups = {prompt: [(level, 10.0 * (level + 1 + prompt)) for level in LEVELS] for prompt in range(3)}
    falling = {prompt: [(level, 5 - level / 25 + prompt / 10) for level in LEVELS] for prompt in range(3)}
    kinds = dict.fromkeys(range(3), "why")
    common = {
        "asked": 15,
        "answers": 15,
        "second_tries": 0,
        "graceful": {"all": {"hits": 15, "of": 15, "value": 1.0}, "levels": {k: {"hits": 3, "of": 3} for k in LEVELS}},
        "findings": {},
        "unknown_words": dict.fromkeys(LEVELS, 0.0),
        "relevance": {"reference": 50, "means": dict.fromkeys(LEVELS, 0.5), "loss": dict.fromkeys(LEVELS, 0.0)},
    }
    depth = {
        **common,
        "words": curve(groups, kinds, 1),
        "range": 20.0,
        "targets": dict.fromkeys(LEVELS, 100),
        "length_error": {"median": 0.1, "levels": dict.fromkeys(LEVELS, 0.1)},
        "tokens_per_word": 1.3,
    }
    contractions = {level: {"found": 1, "answers_with": 1, "answers": 3} for level in (*LEVELS, 80)}
    formality = {
        **common,
        "casual": curve(falling, kinds, 1, sign=-1),
        "contractions": contractions,
        "contractions_where_none_may_be": 2,
    }
    service = {"model": "a-model", "engine": "vllm", "system_fingerprint": "x", "catalogue": "0" * 16, "code": "c"}
    plan = {
        "prompt_set": HELD_OUT,
        "prompts": 3,
        "kinds": ["why"],
        "levels": list(LEVELS),
        "seeds": 1,
        "creativity_seeds": 5,
        "creativity_turn_answers": 10,
        "seed": 1,
        "fixed": {},
        "creativity_depth": 30,
    }
    return make_record(service, plan, {"formality": formality, "depth": depth}, ["depth", "formality"])


def whole_record() -> dict[str, Any]:
    more = {"machine": {"cores": 2, "python": "3"}, "versions": {"rheostat": "0"}, "configuration": {"concurrency": 1}}
    record: dict[str, Any] = json.loads(json.dumps({**made_record(), **more}))
    return record


def test_targets_are_judged_from_the_record() -> None:
    judged = {(target["knob"], target["what"]): target["met"] for target in made_record()["targets"]}
    assert judged["depth", "graceful ends"] is True
    assert judged["formality", "contractions at ≥ 80"] is False
    assert list(dict.fromkeys(knob for knob, _ in judged)) == ["depth", "formality"]


def test_a_calibration_that_is_written_is_one_that_the_service_reads(tmp_path: Path) -> None:
    catalogue = load_catalogue(CATALOGUE)
    record = made_record()
    record["service"]["catalogue"] = catalogue.hash
    path = tmp_path / "calibration.json"
    save_calibration(path, make_calibration(record))
    calibration = load_calibration(path, model="a-model", catalogue=catalogue)
    assert list(calibration.knobs) == ["depth", "formality"]
    assert calibration.tokens_per_word == 1.3
    assert calibration.knobs["formality"].rho > 0.9  # the yardstick falls, as it should
    assert calibration.invert("depth", calibration.fitted("depth", 75)) == 75


def test_figures_of_another_service_or_plan_are_not_mixed_in(tmp_path: Path) -> None:
    record = made_record()
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    service, plan = record["service"], record["plan"]
    assert earlier_figures(path, service, plan)[0].keys() == {"depth", "formality"}
    assert earlier_figures(path, {**service, "catalogue": "1" * 16}, plan) == ({}, ["catalogue"])
    assert earlier_figures(path, service, {**plan, "seeds": 3}) == ({}, ["plan"])
    other_code = {**service, "code": "d"}
    assert earlier_figures(path, other_code, plan) == ({}, ["code"])
    assert earlier_figures(path, other_code, plan, any_code=True)[0].keys() == {"depth", "formality"}
    assert earlier_figures(tmp_path / "none.json", service, plan) == ({}, [])


def test_the_page_has_every_target_and_links_only_pictures_that_were_drawn() -> None:
    record = whole_record()
    page = compose(record, ["controls-depth"], "record.json", "## What was tried\n\nThis.")
    for target in record["targets"]:
        assert target["figure"] in page
    assert "pictures/controls-depth.png" in page
    assert "controls-formality.png" not in page
    assert "nobody tuned on these" in page
    tuned = compose({**record, "plan": {**record["plan"], "prompt_set": TUNING}}, [], "record.json")
    assert "which flatters them" in tuned
    assert page.index("## What must be reached") < page.index("## What was tried") < page.index("## Depth")


def test_the_same_record_gives_the_same_pictures(tmp_path: Path) -> None:
    record = whole_record()
    names = draw_all(record, tmp_path / "one")
    assert names == ["controls-depth", "controls-formality"]
    draw_all(record, tmp_path / "two")
    for name in names:
        for ending in ("svg", "png"):
            first = (tmp_path / "one" / f"{name}.{ending}").read_bytes()
            assert first == (tmp_path / "two" / f"{name}.{ending}").read_bytes()
            assert len(first) < 100_000


def test_a_quick_plan_asks_little_of_every_kind() -> None:
    plan = quick_plan(1)
    assert len({prompt.kind for prompt in plan.prompts}) == 8
    assert sum(len(sweep(knob, plan)) for knob in SLIDERS) == 8 * 3 * (3 + 3)
