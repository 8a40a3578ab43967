"""The levers inside vLLM: both of its interfaces, against each other, and on the real model."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch

from deployments.controls.catalogue import load_catalogue
from deployments.controls.logits import v1, v2
from deployments.controls.logits.plan_args import to_extra_args
from deployments.generator.model_store import resolve_model
from deployments.generator.vllm_engine import VllmEngine
from graph.contracts import GenerationJob, LogitsPlan, Message, Sampling, TokenDelta
from tests.cluster import ROOT, shipped_config

PLANS = (
    LogitsPlan(target_tokens=6),
    None,
    LogitsPlan(rarity=1.5, anchor=0.7, stops=2.0),
    LogitsPlan(casual=-20.0),
    LogitsPlan(target_tokens=3, rarity=-1.0, stops=-2.0, casual=4.0),
)
ANSWERS = (" It is so. Yes it is.", " Hello there", " A dog's tail wags and it", " We do", "\n1. One\n2.")
PROMPT_TOKENS = 5
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Tokenizer:
    """One token a character: enough for the adapters, whose tables the unit tests cover."""

    eos_token_id = 0
    all_special_ids = (0, 1)

    def __len__(self) -> int:
        return 256

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [chr(each) for each in ids]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


@pytest.fixture
def vllm_config(monkeypatch: pytest.MonkeyPatch) -> Any:
    import vllm.tokenizers

    monkeypatch.setattr(vllm.tokenizers, "cached_tokenizer_from_config", lambda _: Tokenizer())
    monkeypatch.setattr(v1, "cached_tokenizer_from_config", lambda _: Tokenizer())
    model = SimpleNamespace(get_vocab_size=lambda: 300, try_get_generation_config=lambda: {"eos_token_id": [0]})
    return SimpleNamespace(model_config=model, additional_config={"rheostat": {"casual_words": ["wow"]}})


def params(plan: LogitsPlan | None) -> Any:
    spared = [ord("t"), ord("w")] if plan and plan.rarity else []
    return SimpleNamespace(extra_args=None if plan is None else to_extra_args(plan, spared))


def make_v1(config: Any) -> v1.Levers:
    from vllm.v1.sample.logits_processor.interface import BatchUpdate

    levers = v1.Levers(config, torch.device("cpu"), False)
    added = [
        (at, params(plan), [7] * PROMPT_TOKENS, list(map(ord, text)))
        for at, (plan, text) in enumerate(zip(PLANS, ANSWERS, strict=True))
    ]
    levers.update_state(BatchUpdate(len(added), removed=(), added=added, moved=()))
    return levers


def make_v2(config: Any, slots: list[int]) -> tuple[v2.Levers, Any]:
    """The same requests in slots of their own, and the context of a step in which they stand in reverse order."""
    size = max(slots) + 1
    tokens = torch.full((size, 64), 9, dtype=torch.int32)
    prompt_len, total_len = np.zeros(size, np.int32), torch.zeros(size, dtype=torch.int32)
    state = SimpleNamespace(
        device=torch.device("cpu"),
        max_num_reqs=size,
        vocab_size=300,
        all_token_ids=SimpleNamespace(gpu=tokens),
        prompt_len=SimpleNamespace(np=prompt_len, gpu=torch.from_numpy(prompt_len)),
        total_len=SimpleNamespace(gpu=total_len),
    )
    levers = v2.Levers(config, state)
    for slot, plan, text in zip(slots, PLANS, ANSWERS, strict=True):
        # A slot is recycled: what stood there before must be gone.
        levers.add_request(slot, params(LogitsPlan(target_tokens=1, casual=9.0)))
        assert levers.add_request(slot, params(plan)) is (plan is not None)
        ids = torch.tensor(list(map(ord, text)), dtype=torch.int32)
        prompt_len[slot] = PROMPT_TOKENS
        tokens[slot, PROMPT_TOKENS : PROMPT_TOKENS + len(ids)] = ids
        total_len[slot] = PROMPT_TOKENS + len(ids)
    levers.apply_staged_writes()
    batch = torch.tensor(slots[::-1])
    context = SimpleNamespace(
        expanded_idx_mapping=batch,
        idx_mapping_np=batch.numpy(),
        pos=total_len[batch] - 1,
        seq_lens_upper_bound_np=total_len[batch].numpy(),
    )
    return levers, context


async def test_both_interfaces_bend_the_same_batch_alike(vllm_config: Any) -> None:
    logits = torch.randn(len(PLANS), 300, generator=torch.Generator().manual_seed(3)) * 3
    by_v1 = make_v1(vllm_config).apply(logits.clone())
    levers, context = make_v2(vllm_config, [4, 0, 6, 2, 7])
    by_v2 = levers.apply(logits.flip(0).clone(), context).flip(0)
    assert torch.allclose(by_v1, by_v2)
    assert torch.equal(by_v1[1], logits[1]), "a request without a plan is not touched"
    assert not torch.equal(by_v1[0], logits[0])


async def test_v1_follows_requests_that_leave_and_move(vllm_config: Any) -> None:
    from vllm.v1.sample.logits_processor.interface import BatchUpdate, MoveDirectionality

    levers = make_v1(vllm_config)
    logits = torch.zeros(len(PLANS), 300)
    before = levers.apply(logits.clone())
    levers.update_state(BatchUpdate(4, removed=(0,), added=(), moved=((4, 0, MoveDirectionality.UNIDIRECTIONAL),)))
    after = levers.apply(logits[:4].clone())
    assert torch.equal(after[0], before[4])
    assert torch.equal(after[2], before[2])


async def test_v1_reads_on_as_the_answer_grows_and_waits_for_places_not_filled_yet(vllm_config: Any) -> None:
    from vllm.v1.sample.logits_processor.interface import BatchUpdate

    levers = v1.Levers(vllm_config, torch.device("cpu"), False)
    output: list[int] = list(map(ord, " It is so"))
    levers.update_state(
        BatchUpdate(1, removed=(), added=[(0, params(LogitsPlan(target_tokens=6)), [7], output)], moved=())
    )
    assert levers.apply(torch.zeros(1, 300))[0, 0] < -1e6
    output += [ord("!"), -1]
    assert levers.apply(torch.zeros(1, 300))[0, 0] > 5, "the sentence has ended, past the target"


async def test_a_step_without_plans_returns_the_same_tensor(vllm_config: Any) -> None:
    levers, _ = make_v2(vllm_config, [0, 1, 2, 3, 4])
    alone = SimpleNamespace(idx_mapping_np=np.array([1]))
    logits = torch.zeros(1, 300)
    assert levers.apply(logits, alone) is logits  # type: ignore[arg-type]
    assert v1.Levers(vllm_config, torch.device("cpu"), False).apply(logits) is logits


async def test_a_plan_that_is_none_is_refused_at_admission() -> None:
    for extra in (
        {"rheostat": 3},
        {"rheostat": {"target_tokens": 0}},
        {"rheostat": {"rarity": float("nan")}},
        {"rheostat": {"speed": 1}},
    ):
        with pytest.raises(ValueError, match="rheostat"):
            v1.Levers.validate_params(SimpleNamespace(extra_args=extra))  # type: ignore[arg-type]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[VllmEngine]:
    settings = shipped_config()["applications"][0]["args"]["engine"]["vllm"]
    words = load_catalogue(ROOT / "configs/controls.yaml").casual_words
    made = VllmEngine(
        resolve_model(None), "smollm2", settings["engine_args"], settings["environment"], casual_words=words
    )
    await made.start()
    yield made
    made.shutdown()


async def answer(
    engine: VllmEngine, name: str, plan: LogitsPlan | None, question: str, **sampling: Any
) -> list[TokenDelta]:
    values = {"temperature": 0.6, "repetition_penalty": 1.1, "seed": 5, "max_tokens": 400, **sampling}
    job = GenerationJob(name, 0, (Message("user", question),), Sampling(**values), logits=plan)
    return [delta async for delta in engine.generate(job)]


async def test_an_answer_ends_by_itself_at_the_end_of_a_sentence_near_its_target(engine: VllmEngine) -> None:
    targets = (30, 60, 120, 240)
    answers = await asyncio.gather(
        *(answer(engine, f"length-{target}", LogitsPlan(target), "Why is the sky blue?") for target in targets)
    )
    for target, deltas in zip(targets, answers, strict=True):
        text = "".join(delta.text for delta in deltas).rstrip()
        assert deltas[-1].finish_reason == "stop", text
        assert text[-1] in ".!?\"')*`", text
        assert abs(sum(delta.token_count for delta in deltas) - target) < 30 + 0.2 * target


async def test_a_ban_leaves_no_contraction_and_no_exclamation(engine: VllmEngine) -> None:
    question = "Chat with me like a friend! Don't you think it's a great day? What's up?"
    casual, formal = await asyncio.gather(
        answer(engine, "casual", LogitsPlan(casual=5.0), question, max_tokens=120),
        answer(engine, "formal", LogitsPlan(casual=-25.0), question, max_tokens=120),
    )
    marks = ("'t", "'re", "'ve", "'ll", "'m", "’t", "’re", "!")
    assert not [mark for mark in marks if mark in "".join(delta.text for delta in formal)]
    assert [mark for mark in marks if mark in "".join(delta.text for delta in casual)]


async def test_seeded_requests_over_the_token_budget_do_not_kill_the_engine(engine: VllmEngine) -> None:
    """vLLM 0.32 on CPUs dies when a seeded request's prompt is read in two steps; such prompts must not be split."""
    job = GenerationJob("x", 0, (Message("user", "word " * 900),), Sampling(max_tokens=2, seed=1, ignore_eos=True))
    jobs = [replace(job, generation_id=f"budget-{at}") for at in range(6)]

    async def run(each: GenerationJob) -> int:
        return sum([delta.token_count async for delta in engine.generate(each)])

    assert await asyncio.gather(*map(run, jobs)) == [2] * len(jobs)
    await engine.check_health()
