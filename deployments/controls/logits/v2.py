"""The levers for vLLM's Model Runner V2 (``vllm/v1/worker/gpu/sample/logits_processor/interface.py``, vLLM 0.32).

Named to the engine by ``logits_processors=["deployments.controls.logits.v2:Levers"]``. The front end imports this
module too, to check parameters: what needs torch is imported where the runner builds the processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsContext, LogitsProcessor, LogitsProcRequestState

from deployments.controls.logits.plan_args import from_extra_args

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams

MAX_SPARED_PER_SLOT = 256
"""Spared words of one prompt: a device buffer of this width a slot."""
_NO_PLAN = (0.0, 0.0, np.nan, 0.0, 0.0, 0.0)
_TARGET, _CONNECT, _RARITY, _ANCHOR, _STOPS, _CASUAL = range(6)


class Levers(LogitsProcessor):
    """Keeps each slot's plan on the host and on the device; a step in which no slot has one returns at once.

    Slots are recycled, so ``add_request`` writes all of a slot. Nothing waits for the device. Under speculative
    decoding a row sees the committed tokens only, not the drafts before it.
    """

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        import torch
        from vllm.tokenizers import cached_tokenizer_from_config

        from deployments.controls.logits.engine_tables import load_tables

        self._requests = req_states
        device = req_states.device
        self._tables = load_tables(vllm_config, cached_tokenizer_from_config(vllm_config.model_config), device)
        slots = req_states.max_num_reqs
        # Where no word is spared, the end of turn is: no vocabulary lever touches it, so restoring it changes nothing.
        self._no_id = int(self._tables.end_ids_E[0])
        self._plans_SK = np.tile(np.array(_NO_PLAN, np.float32), (slots, 1))
        self._spared_SP = np.full((slots, MAX_SPARED_PER_SLOT), self._no_id, np.int64)
        self._device_plans_SK = torch.from_numpy(self._plans_SK).to(device, copy=True)
        self._device_spared_SP = torch.full((slots, MAX_SPARED_PER_SLOT), self._no_id, dtype=torch.long, device=device)
        self._written: set[int] = set()

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        from_extra_args(sampling_params.extra_args)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        planned = from_extra_args(sampling_params.extra_args)
        self._plans_SK[req_idx] = _NO_PLAN
        self._spared_SP[req_idx] = self._no_id
        self._written.add(req_idx)
        if planned is None:
            return False
        plan, spared_ids = planned
        kept = spared_ids[:MAX_SPARED_PER_SLOT]
        anchor = plan.anchor if kept else 0.0
        self._plans_SK[req_idx] = (
            plan.target_tokens or 0,
            plan.connect,
            np.nan if plan.rarity is None else plan.rarity,
            anchor,
            plan.stops,
            plan.casual,
        )
        if kept:
            # The rest of the width repeats the first: to set a logit twice to one value changes nothing.
            self._spared_SP[req_idx] = kept[0]
            self._spared_SP[req_idx, : len(kept)] = kept
        return True

    def apply_staged_writes(self) -> None:
        if not self._written:
            return
        import torch

        slots = sorted(self._written)
        self._written.clear()
        at = torch.tensor(slots, device=self._requests.device)
        plans = torch.from_numpy(self._plans_SK[slots])
        spared = torch.from_numpy(self._spared_SP[slots])
        self._device_plans_SK[at] = plans.to(self._requests.device, non_blocking=True)
        self._device_spared_SP[at] = spared.to(self._requests.device, non_blocking=True)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        plans_RK = self._plans_SK[ctx.idx_mapping_np]
        used_K = plans_RK.any(0)
        used_K[_RARITY] = not np.isnan(plans_RK[:, _RARITY]).all()
        if not used_K.any():
            return logits
        import torch

        from deployments.controls.logits import shaping

        slot_R = ctx.expanded_idx_mapping.long()
        plans_RK = self._device_plans_SK[slot_R]
        levers = shaping.Levers(
            target_R=plans_RK[:, _TARGET],
            connect_R=plans_RK[:, _CONNECT],
            rarity_R=plans_RK[:, _RARITY],
            anchor_R=plans_RK[:, _ANCHOR],
            stops_R=plans_RK[:, _STOPS],
            casual_R=plans_RK[:, _CASUAL],
            has_target=bool(used_K[_TARGET]),
            has_rarity=bool(used_K[_RARITY]),
            has_stops=bool(used_K[_STOPS]),
            has_casual=bool(used_K[_CASUAL]),
        )
        spared_RP = self._device_spared_SP[slot_R]
        rows_RP = torch.arange(len(slot_R), device=logits.device)[:, None].expand_as(spared_RP)
        spared = (rows_RP.reshape(-1), spared_RP.reshape(-1))
        # Every row: those without a plan have zeros, and a selection would have to be known on the host.
        token_RL, length_R = self._read_answers(slot_R, ctx)
        states = shaping.read_states(self._tables.classes_V[token_RL], self._tables.rarity_V[token_RL], length_R)
        repeats = shaping.read_repeats(token_RL, length_R)
        shaping.bend(logits, slice(None), levers, states, self._tables, spared, repeats)
        return logits

    def _read_answers(self, slot_R: torch.Tensor, ctx: LogitsContext) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row's answer so far, token ids and length; what stands after it is whatever the slot holds."""
        import torch

        requests = self._requests
        prompt_R = requests.prompt_len.gpu[slot_R].long()
        seen_R = torch.minimum(ctx.pos.long() + 1, requests.total_len.gpu[slot_R].long())
        prompt_np = requests.prompt_len.np[ctx.idx_mapping_np]
        longest = max(1, int((ctx.seq_lens_upper_bound_np - prompt_np).max()))
        at_L = torch.arange(longest, device=slot_R.device)
        tokens = requests.all_token_ids.gpu
        column_RL = (prompt_R[:, None] + at_L).clamp(max=tokens.shape[1] - 1)
        token_RL = tokens[slot_R[:, None], column_RL].long().clamp(min=0, max=len(self._tables.classes_V) - 1)
        return token_RL, (seen_R - prompt_R).clamp(min=0)
