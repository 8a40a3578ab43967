"""The levers for vLLM's V1 runner (``vllm/v1/sample/logits_processor/interface.py``, vLLM 0.32).

Named to the engine by ``logits_processors=["deployments.controls.logits.v1:Levers"]``, never by an entry point, which
every engine of the environment would load.
"""

from dataclasses import dataclass, field

import torch
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.tokenizers import cached_tokenizer_from_config
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.sample.logits_processor.interface import BatchUpdate, LogitsProcessor

from deployments.controls.logits import shaping
from deployments.controls.logits.engine_tables import load_tables
from deployments.controls.logits.plan_args import from_extra_args
from deployments.controls.logits.repeats import Repeats
from deployments.controls.logits.text_state import TextState
from graph.contracts import LogitsPlan


@dataclass(slots=True)
class _Row:
    """One request that uses a lever. ``output_ids`` aliases the runner's own list, which grows."""

    plan: LogitsPlan
    spared_ids: tuple[int, ...]
    output_ids: list[int]
    state: TextState = field(default_factory=TextState)
    repeats: Repeats = field(default_factory=lambda: Repeats(shaping.REPEATED_TOKENS))


class Levers(LogitsProcessor):
    """Rows without a plan are not touched; a batch without any costs one comparison."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._tables = load_tables(vllm_config, cached_tokenizer_from_config(vllm_config.model_config), device)
        # On the host: the states are kept there, token by token.
        self._classes: list[int] = self._tables.classes_V.tolist()
        self._rarities: list[float] = self._tables.rarity_V.tolist()
        self._rows: dict[int, _Row] = {}
        self._order: list[_Row] = []

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        from_extra_args(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if process_dict_updates(self._rows, batch_update, _new_row):
            indices = sorted(self._rows)
            self._order = [self._rows[index] for index in indices]
            self._index_R = torch.tensor(indices, dtype=torch.long, device=self._device)
            self._levers = shaping.Levers.of([row.plan for row in self._order], self._device)
            pairs = [(at, token) for at, row in enumerate(self._order) for token in row.spared_ids]
            self._spared = (
                torch.tensor([at for at, _ in pairs], dtype=torch.long, device=self._device),
                torch.tensor([token for _, token in pairs], dtype=torch.long, device=self._device),
            )

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if self._rows:
            rows_R = slice(None) if len(self._rows) == len(logits) else self._index_R
            states = self._read_states()
            repeats = self._read_repeats()
            shaping.bend(logits, rows_R, self._levers, states, self._tables, self._spared, repeats)
        return logits

    def _read_states(self) -> shaping.States:
        for row in self._order:
            for token in row.output_ids[row.state.position :]:
                if token < 0:
                    break  # a place that asynchronous scheduling has not filled yet
                row.state.feed(self._classes[token], self._rarities[token])
                row.repeats.feed(token)
        states = [row.state for row in self._order]

        def booleans(values: list[bool]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.bool, device=self._device)

        def integers(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.long, device=self._device)

        return shaping.States(
            position_R=integers([state.position for state in states]),
            ended_R=booleans([state.ended for state in states]),
            fresh_line_R=booleans([state.fresh_line for state in states]),
            in_code_R=booleans([state.in_code for state in states]),
            after_pronoun_R=booleans([state.after_pronoun for state in states]),
            after_word_R=booleans([state.after_word for state in states]),
            since_stop_R=integers([state.since_stop for state in states]),
            words_R=integers([state.words for state in states]),
            rarity_R=torch.tensor([state.rarity for state in states], dtype=torch.float32, device=self._device),
        )

    def _read_repeats(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = [(at, *each) for at, row in enumerate(self._order) for each in row.repeats.following().items()]
        rows, tokens, times = zip(*found, strict=True) if found else ((), (), ())
        return (
            torch.tensor(rows, dtype=torch.long, device=self._device),
            torch.tensor(tokens, dtype=torch.long, device=self._device),
            torch.tensor(times, dtype=torch.float32, device=self._device),
        )


def _new_row(params: SamplingParams, prompt_ids: list[int] | None, output_ids: list[int]) -> _Row | None:
    planned = from_extra_args(params.extra_args)
    return None if planned is None else _Row(*planned, output_ids)
