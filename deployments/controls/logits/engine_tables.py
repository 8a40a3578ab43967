"""The token tables of the model that an engine serves, made when its process starts (0.5 s for 49,152 tokens).

Reads vLLM's configuration by attribute and imports no vLLM: both adapters, of either interface, build by it.
"""

from collections.abc import Iterable
from typing import Any

import torch
import wordfreq

from deployments.controls.logits.shaping import Tables
from deployments.controls.logits.tokens import build_tables

CONFIG_KEY = "rheostat"
"""In vLLM's ``additional_config``: ``{"casual_words": [...]}``."""


def load_tables(vllm_config: Any, tokenizer: Any, device: torch.device) -> Tables:
    """Tables for the model of ``vllm_config`` on ``device``."""
    model = vllm_config.model_config
    size = model.get_vocab_size()
    ends = model.try_get_generation_config().get("eos_token_id", tokenizer.eos_token_id)
    end_ids = [ends] if isinstance(ends, int) else list(ends)
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in end_ids:
        end_ids.append(tokenizer.eos_token_id)
    settings = (vllm_config.additional_config or {}).get(CONFIG_KEY, {})
    specials = set(tokenizer.all_special_ids)
    tables = build_tables(
        list(token_texts(tokenizer, specials)),
        lambda word: wordfreq.zipf_frequency(word, "en"),
        settings.get("casual_words", ()),
        size,
    )
    return Tables.of(tables, [token for token in end_ids if token < size], sorted(specials), device)


def token_texts(tokenizer: Any, specials: set[int]) -> Iterable[str]:
    """The text of each token by id with its leading space; empty for control tokens."""
    for token_id, token in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
        if token is None or token_id in specials:
            yield ""
        elif token.startswith("\u2581"):  # sentencepiece's space, which decoding a lone token drops
            yield " " + tokenizer.convert_tokens_to_string([token]).lstrip(" ")
        else:
            yield tokenizer.convert_tokens_to_string([token])
