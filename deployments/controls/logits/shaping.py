"""How the levers bend a batch of logits: plain tensor functions, no engine. Called by both adapters once a step.

Shapes: ``R`` rows that use a lever, ``B`` rows of the batch, ``V`` vocabulary, ``L`` tokens of the longest answer,
``E`` ids that end an answer. Every strength is in logits before temperature.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deployments.controls.logits.text_state import LONGEST_SENTENCE
from deployments.controls.logits.tokens import (
    COLON,
    DOT,
    FENCE,
    LABEL,
    LINE,
    MARK,
    PRONOUN,
    SPACE,
    TokenTables,
)
from graph.contracts import LogitsPlan

PLAUSIBLE = 5.0
"""Only words within this distance of the likeliest token, e^-5 of its probability, are weighed by rarity, and no token
is made likelier further off: without that the lever took up words that made no sense where they stood (control trial
of the design)."""
RARITY_GAIN, RARITY_MOST, RARITY_PRIOR = 5.0, 2.0, 10.0
"""The rarity lever is a controller: its strength is 5 logits a Zipf unit for each unit that the answer's words so far
miss the mean asked for, at most 2, as if 10 words had hit it before the first. A constant strength pushed subjects that
are technical anyway too far and others not far enough (Spearman 0.79 against CEFR where it kept relevance)."""
HELD = -1e9
"""Pressure that forbids the end."""
HALF_SENTENCE = 10
"""Tokens. An end is only possible between sentences, so the pressure turns this much before the target: ends then
fall around the target, not after it."""
SOFT_SHARE, SOFTEST = 0.10, -4.0
"""Before the pressure turns, over this share of the target, the model may end by itself if it is about to."""
FIRM = 12.0
"""Pressure at the target and after it: an end at the next end of a sentence is as good as certain."""
LATE_SHARE = 1.3
"""From this share of the target on, a fresh line is as good as the end of a sentence: lists may have no stops."""
SENTENCE_AT_LEAST = 5
"""Tokens that a sentence has before the lever for shorter ones acts: it never makes fragments."""
SENTENCE_LONG = 45
"""Tokens from which a sentence is long enough: the lever for longer ones lets go."""
CONNECTING, CONNECTING_SLOPE = 8.0, 2.0
"""Where the end is held back though the model favours it, it has said what it had to say, and what it takes instead is
often a footer, a hashtag, a loop. Connectives are raised by 8 there, by 2 less for each logit that the end stands
below the likeliest token. (Depth 100 on the 135M model: half of the answers looped without.)"""
FOOTER = -5.0
"""Bias on hashtags, handles and links while a length is held: where one belongs, the model is surer than that."""
REPEATED_TOKENS, REPEATED = 8, -4.0
"""While a length is held, a token that already followed the last 8 tokens loses 4 for each time that it did: the ninth
token of a repeated sentence is made unlikely. After DRY sampling (github.com/oobabooga/text-generation-webui, pull
5677), with a fixed length in place of a growing penalty."""
FINISHING = 4.0
"""Bias on stops once the target is passed, growing with the overshoot up to twice this: it ends a rambling sentence."""
RUN_ON = 10.0
"""Bias on stops, plausible or not, once a sentence has ``LONGEST_SENTENCE`` tokens and a length is held: text that has
fallen into a string of names ends in no other way."""
BANNED = -10.0
"""From this strength down a casual token is out, wherever it stands."""


@dataclass(frozen=True, slots=True)
class Tables:
    """``TokenTables`` on the device."""

    classes_V: torch.Tensor
    rarity_V: torch.Tensor
    stop_ids: torch.Tensor
    casual_ids: torch.Tensor
    possessive_ids: torch.Tensor
    connective_ids: torch.Tensor
    footer_ids: torch.Tensor
    apostrophe_ids: torch.Tensor
    end_ids_E: torch.Tensor
    """What ends an answer, the end of turn first."""
    control_ids: torch.Tensor
    """Other control tokens: an answer that may not end must not open a new turn instead."""

    @staticmethod
    def of(tables: TokenTables, end_ids: list[int], control_ids: list[int], device: torch.device) -> "Tables":
        def ids(flags_V: torch.Tensor) -> torch.Tensor:
            return flags_V.nonzero()[:, 0].to(device)

        def long(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        return Tables(
            torch.from_numpy(tables.classes_V).to(device),
            torch.from_numpy(tables.rarity_V).to(device),
            ids(torch.from_numpy(tables.stops_V)),
            ids(torch.from_numpy(tables.casual_V)),
            ids(torch.from_numpy(tables.possessive_V)),
            ids(torch.from_numpy(tables.connective_V)),
            ids(torch.from_numpy(tables.footer_V)),
            ids(torch.from_numpy(tables.apostrophe_V)),
            long(end_ids),
            long([token for token in control_ids if token not in end_ids]),
        )


@dataclass(frozen=True, slots=True)
class Levers:
    """What ``LogitsPlan`` asks, one entry a row. float32; ``target_R`` is 0 where no length is asked for, and
    ``rarity_R`` NaN where no rarity is.

    The flags say on the host whether any row asks at all, so that nothing is computed for none and no device is
    waited for.
    """

    target_R: torch.Tensor
    connect_R: torch.Tensor
    rarity_R: torch.Tensor
    anchor_R: torch.Tensor
    stops_R: torch.Tensor
    casual_R: torch.Tensor
    has_target: bool
    has_rarity: bool
    has_stops: bool
    has_casual: bool

    @staticmethod
    def of(plans: Sequence[LogitsPlan], device: torch.device) -> "Levers":
        def floats(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        return Levers(
            floats([float(plan.target_tokens or 0) for plan in plans]),
            floats([float(plan.connect) for plan in plans]),
            floats([math.nan if plan.rarity is None else plan.rarity for plan in plans]),
            floats([plan.anchor for plan in plans]),
            floats([plan.stops for plan in plans]),
            floats([plan.casual for plan in plans]),
            any(plan.target_tokens for plan in plans),
            any(plan.rarity is not None for plan in plans),
            any(plan.stops for plan in plans),
            any(plan.casual for plan in plans),
        )


@dataclass(frozen=True, slots=True)
class States:
    """``TextState``, one entry a row: integers and booleans."""

    position_R: torch.Tensor
    ended_R: torch.Tensor
    fresh_line_R: torch.Tensor
    in_code_R: torch.Tensor
    after_pronoun_R: torch.Tensor
    after_word_R: torch.Tensor
    since_stop_R: torch.Tensor
    words_R: torch.Tensor
    """Words of four letters and more so far."""
    rarity_R: torch.Tensor
    """Sum of their rarities, Zipf units."""


def end_pressure(target_R: torch.Tensor, states: States) -> torch.Tensor:
    """How far above the likeliest token the end should stand: below 0 rarely taken, above 0 preferred, HELD forbidden.

    Held until shortly before the target, and wherever no sentence has ended; then rising from ``SOFTEST`` over 0 to
    ``FIRM`` at the target.
    """
    position_R = states.position_R.float()
    turn_R = torch.maximum(target_R - HALF_SENTENCE, 0.6 * target_R)
    soft_R = (SOFT_SHARE * target_R).clamp(min=1.0)
    firm_R = (target_R - turn_R).clamp(min=1.0)
    before_R = SOFTEST * (turn_R - position_R) / soft_R
    after_R = FIRM * ((position_R - turn_R) / firm_R).clamp(max=1.0)
    pressure_R = torch.where(position_R < turn_R, before_R, after_R)
    may_end_R = states.ended_R | (states.fresh_line_R & (position_R >= LATE_SHARE * target_R))
    return torch.where(may_end_R & (position_R >= turn_R - soft_R), pressure_R, HELD)


def rarity_strength(levers: Levers, states: States) -> torch.Tensor:
    """Logits a Zipf unit, by how far the words so far are from the mean asked for; 0 where none is. ``[R]``"""
    missed_R = levers.rarity_R - (states.rarity_R + RARITY_PRIOR * levers.rarity_R) / (states.words_R + RARITY_PRIOR)
    return (RARITY_GAIN * missed_R).clamp(-RARITY_MOST, RARITY_MOST).nan_to_num(0.0)


def stop_bias(levers: Levers, states: States) -> torch.Tensor:
    """Bias on tokens that end a sentence, by the length of the sentence so far and by the answer's target. ``[R]``"""
    since_R = states.since_stop_R
    shorter_R = levers.stops_R.clamp(min=0.0) * (since_R.float() / 20.0).clamp(max=1.0) * (since_R >= SENTENCE_AT_LEAST)
    longer_R = levers.stops_R.clamp(max=0.0) * (since_R < SENTENCE_LONG)
    over_R = (states.position_R.float() / levers.target_R.clamp(min=1.0) - 1.0).clamp(min=0.0, max=1.0)
    finishing_R = torch.where(levers.target_R > 0, FINISHING * (2.0 * over_R), 0.0) * (since_R >= SENTENCE_AT_LEAST)
    return (shorter_R + longer_R + finishing_R) * ~states.in_code_R


def bend(
    logits_BV: torch.Tensor,
    rows_R: torch.Tensor | slice,
    levers: Levers,
    states: States,
    tables: Tables,
    spared: tuple[torch.Tensor, torch.Tensor],
    repeats: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    """Bend the rows in place. A token that is -inf, forbidden by a grammar, stays so.

    Args:
        logits_BV: float32.
        rows_R: Which rows of it, each at most once; ``slice(None)`` is all of them, without a copy.
        spared: Pairs (row of ``R``, token) that the vocabulary levers leave alone.
        repeats: Triples (row of ``R``, token, how often it followed the last ``REPEATED_TOKENS`` tokens before).
    """
    work_RV = logits_BV[rows_R]
    top_R = work_RV.amax(1)
    floor_R1 = (top_R - PLAUSIBLE)[:, None]
    is_prose_R = ~states.in_code_R
    kept_P = work_RV[spared]
    if levers.has_rarity:
        # The guard rises from 0 to 1 over one logit, and without a comparison, which costs five times the rest here.
        gate_RV = (work_RV - floor_R1).clamp_(0.0, 1.0).mul_(tables.rarity_V)
        work_RV.addcmul_((rarity_strength(levers, states) * is_prose_R)[:, None], gate_RV)
    casual_R = levers.casual_R * is_prose_R
    if levers.has_casual:
        _bend_columns(work_RV, tables.casual_ids, casual_R, floor_R1)
        _bend_columns(work_RV, tables.possessive_ids, casual_R * states.after_pronoun_R, floor_R1)
        banned_R = torch.where(casual_R <= BANNED, casual_R, 0.0)
        _bend_columns(work_RV, tables.apostrophe_ids, banned_R * states.after_word_R, floor_R1)
    # The user's own words: as they were, or raised where they are plausible; a ban holds for them too.
    gate_P = (kept_P - floor_R1[spared[0], 0]).clamp(0.0, 1.0)
    anchored_P = kept_P + gate_P * (levers.anchor_R * is_prose_R)[spared[0]]
    work_RV[spared] = torch.where(work_RV[spared] <= kept_P + BANNED, work_RV[spared], anchored_P)
    if levers.has_stops or levers.has_target:
        stops_R = stop_bias(levers, states)
        _bend_columns(work_RV, tables.stop_ids, stops_R, floor_R1)
        is_run_on_R = (states.since_stop_R >= LONGEST_SENTENCE) & (levers.target_R > 0) & is_prose_R
        work_RV[:, tables.stop_ids] += (RUN_ON * is_run_on_R)[:, None]
    if levers.has_target:
        _shape_end(work_RV, top_R, levers, states, tables)
        rows_P, tokens_P, times_P = repeats
        times_P = times_P * (levers.target_R > 0)[rows_P] * is_prose_R[rows_P]
        work_RV.index_put_((rows_P, tokens_P), REPEATED * times_P, accumulate=True)
    logits_BV[rows_R] = work_RV


def _bend_columns(work_RV: torch.Tensor, ids_K: torch.Tensor, strength_R: torch.Tensor, floor_R1: torch.Tensor) -> None:
    columns_RK = work_RV[:, ids_K]
    bias_RK = strength_R[:, None].expand_as(columns_RK)
    work_RV[:, ids_K] = columns_RK + torch.where((bias_RK > 0) & (columns_RK < floor_R1), 0.0, bias_RK)


def _shape_end(work_RV: torch.Tensor, top_R: torch.Tensor, levers: Levers, states: States, tables: Tables) -> None:
    is_shaped_R1 = (levers.target_R > 0)[:, None]
    pressure_R1 = end_pressure(levers.target_R, states)[:, None]
    wanted_R1 = top_R[:, None] + pressure_R1
    ends_RE = work_RV[:, tables.end_ids_E]
    is_held_R = (pressure_R1 <= HELD)[:, 0] & states.ended_R
    wish_R = (CONNECTING - CONNECTING_SLOPE * (top_R - ends_RE.amax(1))).clamp(min=0.0)
    work_RV[:, tables.connective_ids] += (wish_R * levers.connect_R * is_held_R)[:, None]
    is_prose_R = (levers.target_R > 0) & ~states.in_code_R
    work_RV[:, tables.footer_ids] += (FOOTER * is_prose_R)[:, None]
    first_E = torch.zeros_like(tables.end_ids_E, dtype=torch.bool)
    first_E[0] = True
    held_RE = torch.minimum(ends_RE, wanted_R1)
    raised_RE = torch.where(first_E[None, :] & torch.isfinite(ends_RE), torch.maximum(ends_RE, wanted_R1), ends_RE)
    shaped_RE = torch.where(pressure_R1 <= HELD, held_RE, raised_RE)
    work_RV[:, tables.end_ids_E] = torch.where(is_shaped_R1, shaped_RE, ends_RE)
    controls_RC = work_RV[:, tables.control_ids]
    work_RV[:, tables.control_ids] = torch.where(is_shaped_R1, torch.clamp(controls_RC, max=HELD), controls_RC)


def read_states(classes_RL: torch.Tensor, rarity_RL: torch.Tensor, length_R: torch.Tensor) -> States:
    """``TextState`` of whole answers at once, without a synchronisation with the host.

    Args:
        classes_RL: Class of each token of each answer; what stands at or after ``length_R`` is ignored.
        rarity_RL: Rarity of each token, likewise.
        length_R: Tokens of each answer so far.
    """
    at_L = torch.arange(classes_RL.shape[1], device=classes_RL.device)
    is_valid_RL = at_L < length_R[:, None]
    classes_RL = torch.where(is_valid_RL, classes_RL.long(), SPACE)
    rarity_RL = torch.where(is_valid_RL, rarity_RL, 0.0)
    is_fence_RL = classes_RL == FENCE
    is_code_RL = is_fence_RL.cumsum(1) % 2 == 1
    is_blank_RL = (classes_RL == SPACE) | (classes_RL == LINE)

    def last(mask_RL: torch.Tensor) -> torch.Tensor:
        return torch.where(mask_RL, at_L, -1).amax(1)

    def class_at(position_R: torch.Tensor) -> torch.Tensor:
        found_R = classes_RL.gather(1, position_R.clamp(min=0)[:, None])[:, 0]
        return torch.where(position_R < 0, SPACE, found_R)

    # The class before each token, with nothing but SPACE between.
    seen_RL = torch.where(classes_RL == SPACE, -1, at_L).cummax(1).values
    before_RL = torch.cat([torch.full_like(seen_RL[:, :1], -1), seen_RL[:, :-1]], 1)
    prior_RL = torch.where(before_RL < 0, SPACE, classes_RL.gather(1, before_RL.clamp(min=0)))
    is_end_RL = ~is_code_RL & ((classes_RL == MARK) | is_fence_RL | ((classes_RL == DOT) & (prior_RL != LABEL)))
    last_solid_R = last(~is_blank_RL)
    final_R = class_at(length_R - 1)
    is_code_R = is_fence_RL.sum(1) % 2 == 1
    is_open_R = class_at(last_solid_R) == COLON
    since_RL = ~is_blank_RL & (at_L > last(is_end_RL | (classes_RL == LINE))[:, None])
    is_tail_R = torch.ones_like(is_code_R)
    for kind in (SPACE, LINE, MARK, DOT, FENCE, COLON):
        is_tail_R = is_tail_R & (final_R != kind)
    return States(
        position_R=length_R,
        ended_R=(last_solid_R >= 0) & (last(is_end_RL) == last_solid_R),
        fresh_line_R=(final_R == LINE) & ~is_open_R & ~is_code_R,
        in_code_R=is_code_R,
        after_pronoun_R=final_R == PRONOUN,
        after_word_R=is_tail_R,
        since_stop_R=since_RL.sum(1).clamp(max=LONGEST_SENTENCE),
        words_R=(rarity_RL != 0).sum(1),
        rarity_R=rarity_RL.sum(1),
    )


def read_repeats(tokens_RL: torch.Tensor, length_R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The ``repeats`` of ``bend`` from whole answers: one triple a place, most of them zero times.

    Args:
        tokens_RL: Token ids of each answer; what stands at or after ``length_R`` is ignored.
    """
    rows, longest = tokens_RL.shape
    if longest <= REPEATED_TOKENS:
        none = torch.zeros(0, dtype=torch.long, device=tokens_RL.device)
        return none, none, none.float()
    at_L = torch.arange(longest, device=tokens_RL.device)
    tail_RN = length_R[:, None] - REPEATED_TOKENS + at_L[:REPEATED_TOKENS]
    tail_RN = tokens_RL.gather(1, tail_RN.clamp(min=0))
    next_RP = tokens_RL[:, REPEATED_TOKENS:]
    is_same_RP = at_L[REPEATED_TOKENS:] < length_R[:, None]
    for offset in range(REPEATED_TOKENS):
        is_same_RP = is_same_RP & (
            tokens_RL[:, offset : longest - REPEATED_TOKENS + offset] == tail_RN[:, offset, None]
        )
    rows_RP = torch.arange(rows, device=tokens_RL.device)[:, None].expand_as(next_RP)
    return rows_RP.reshape(-1), next_RP.reshape(-1), is_same_RP.reshape(-1).float()
