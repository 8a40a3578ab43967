"""What one signal says to a trainer: each row of the export becomes candidates for KTO, SFT and DPO, or a reason. Pure.

| signal | candidate |
|---|---|
| thumb up, hard checks pass | KTO, desirable |
| thumb down; or any other signal on an answer that fails a hard check | KTO, undesirable |
| thumb up, a hard check fails | left out and counted: the sycophancy guard |
| correction | SFT; DPO, the correction over the answer |
| preference | DPO |
| regeneration that names its second answer | DPO, the second over the first; `selection` drops it if it was not kept |

The rows are those of `analysis.training_rows`: retracts, supersedes and repeats are resolved there, and what was erased
is not in them. Each row is looked at alone, so that Ray Data can do it in parallel; what needs all rows is in
`selection`. The hard checks are run again here: corrections were never judged, and a check may have learnt since.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from deployments.feedback.schema import FEEDBACK_KINDS
from deployments.validator.checks import CHECKS
from deployments.validator.thresholds import DEFAULTS
from graph.contracts import CheckContext
from graph.errors import InvalidRequest
from training.curation import HARD_CHECKS, CurationParameters, Method, Reason
from training.near_duplicates import shingle

_SIGNALS = frozenset(FEEDBACK_KINDS) - {"retract", "supersede"}
_ROLES = ("system", "developer", "user", "assistant", "tool")
_MENDED = ("fixed", "retried")
"""Outcomes under which what failed is not in the text that was delivered."""
_IMPLICIT_OPINION = {"copied": 1, "regenerated": -1, "abandoned": -1}

MESSAGES: pa.DataType = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))
"""Turns, as TRL's conversational format has them."""
CANDIDATE_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("row_crc", pa.uint32(), nullable=False),
        pa.field("event_ids", pa.list_(pa.string()), nullable=False),
        pa.field("method", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("left_out", pa.string()),
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("rater", pa.string()),
        pa.field("said_us", pa.int64(), nullable=False),
        pa.field("generation_id", pa.string(), nullable=False),
        pa.field("other_generation_id", pa.string()),
        pa.field("opinion", pa.int8(), nullable=False),
        pa.field("other_opinion", pa.int8(), nullable=False),
        pa.field("label", pa.bool_()),
        pa.field("side", pa.bool_()),
        pa.field("place", pa.uint64()),
        pa.field("prompt_key", pa.string()),
        pa.field("text_key", pa.string()),
        pa.field("shingles", pa.list_(pa.list_(pa.uint64()))),
        pa.field("weight", pa.float64()),
        pa.field("prompt", MESSAGES),
        pa.field("completion", MESSAGES),
        pa.field("chosen", MESSAGES),
        pa.field("rejected", MESSAGES),
        pa.field("model", pa.string()),
        pa.field("adapter", pa.string()),
        pa.field("settings", pa.string()),
        pa.field("answer_format", pa.string()),
        pa.field("language", pa.string()),
    ]
)
"""``method``: null where the signal is for none. ``left_out``: a `Reason`; then there are no texts. ``rater``: null for
what a check said. ``opinion``, ``other_opinion``: 1, 0 or -1, what the signal says of either answer. ``side``: what is
voted on among equal texts: the label, or which of the two answers is better. ``place``: where the prompt falls in the
split, of 2^64. ``text_key``: equal where prompt and answers are."""


def to_candidates(rows: pa.Table, parameters: CurationParameters) -> pa.Table:
    """Return the candidates of these rows: at least one a row, at most one a row and method.

    Args:
        rows: Of `analysis.training_rows.EXPORT_SCHEMA`.

    Returns:
        `CANDIDATE_SCHEMA`, in the order of the rows.

    Raises:
        InvalidRequest: A row is no signal, so this is no export.
    """
    found = [candidate for row in rows.to_pylist() for candidate in _Signal(row, parameters).candidates()]
    return pa.Table.from_pylist(found, schema=CANDIDATE_SCHEMA)


def normalise(text: str) -> str:
    """Return the text as it is compared: Unicode's NFKC, case folded, each run of white space one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def split_key(tenant: str, messages: Sequence[Mapping[str, str]], split_by: str) -> int:
    """Return where a prompt falls, in [0, 2^64): the first 8 bytes of a sha256, the same in every dataset for ever."""
    if split_by == "conversation":
        told = normalise(next(message["content"] for message in messages if message["role"] == "user"))
    else:
        told = _normalise_messages(messages)
    return int.from_bytes(bytes.fromhex(_hash("split", tenant, told))[:8])


class _Signal:
    """One row of the export, on its way to candidates."""

    def __init__(self, row: Mapping[str, Any], parameters: CurationParameters) -> None:
        if row["kind"] not in _SIGNALS:
            raise InvalidRequest(
                f"The row {row['event_id']!r} is of kind {row['kind']!r}, which is no signal; allowed: "
                f"{', '.join(sorted(_SIGNALS))}. Write the rows with python -m deployments.feedback.analysis export.",
                param="rows",
            )
        self._row = row
        self._parameters = parameters
        self._messages: list[dict[str, str]] = []
        self._is_by_a_person = (row["source_type"] or "human") == "human"

    def candidates(self) -> Iterator[dict[str, Any]]:
        row = self._row
        if not row["served"]:
            yield self._left_out(None, "undelivered")
            return
        if row["prompt"] is None:
            yield self._left_out(None, "no_text")
            return
        messages = _read_messages(row["prompt"])
        if messages is None:
            yield self._left_out(None, "unreadable_prompt")
            return
        self._messages = messages
        found = list(self._by_kind())
        # What a like says of a failing answer is left out, and does not turn into its opposite.
        if self._fails and not self._likes and not any(each["method"] == "kto" for each in found):
            checked = self._answer(row["answer"], label=False, source="check")
            found = [each for each in found if each["method"] is not None] + [checked]
        yield from found

    def _by_kind(self) -> Iterator[dict[str, Any]]:
        row = self._row
        match row["kind"]:
            case "thumb" | "correction" | "preference" if not self._is_by_a_person:
                yield self._left_out(None, "not_by_a_person")
            case "thumb" if row["name"] not in self._parameters.thumb_metrics:
                yield self._left_out(None, "other_metric")
            case "thumb" if row["value_bool"] is not None:
                yield self._thumb()
            case "correction":
                yield from self._correction()
            case "preference" if row["value_str"] in ("this", "other"):
                yield self._preference()
            case "implicit" if row["name"] == "regenerated" and row["other_generation_id"] is not None:
                yield self._pair(row["other_answer"], row["answer"], "regeneration")
            case _:
                yield self._left_out(None, "other_signal")

    @property
    def _likes(self) -> bool:
        return self._opinions()[0] > 0

    @cached_property
    def _fails(self) -> bool:
        """Whether the delivered text fails a hard check; of a blocked answer that is not known, for it is cut."""
        return self._answer_fault() is None and self._fails_check(self._row["answer"], is_answer=True)

    def _thumb(self) -> dict[str, Any]:
        if self._likes and (self._fails or (self._row["outcome"] == "blocked" and self._recorded_failures())):
            return self._left_out("kto", "liked_but_failed_check")
        fault = self._answer_fault()
        return self._left_out("kto", fault) if fault else self._answer(self._row["answer"], self._likes, "thumb")

    def _correction(self) -> Iterator[dict[str, Any]]:
        text = self._row["text"]
        fault: Reason | None = None
        if text is None or not text.strip():
            fault = "no_text"
        elif self._fails_check(text):
            fault = "correction_failed_check"
        if fault:
            yield self._left_out("sft", fault)
            yield self._left_out("dpo", fault)
            return
        completion = _answer_turn(text)
        yield self._candidate("sft", "correction", (text,), label=True, completion=completion)
        yield self._pair(text, self._row["answer"], "correction")

    def _preference(self) -> dict[str, Any]:
        this, other = self._row["answer"], self._row["other_answer"]
        return self._pair(*((this, other) if self._row["value_str"] == "this" else (other, this)), "preference")

    def _pair(self, chosen: str | None, rejected: str | None, source: str) -> dict[str, Any]:
        fault = self._pair_fault(chosen, rejected, source)
        if fault or chosen is None or rejected is None:
            return self._left_out("dpo", fault or "no_text", source)
        weight = self._parameters.regeneration_weight if source == "regeneration" else 1.0
        turns = {"chosen": _answer_turn(chosen), "rejected": _answer_turn(rejected)}
        return self._candidate("dpo", source, (chosen, rejected), weight=weight, **turns)

    def _pair_fault(self, chosen: str | None, rejected: str | None, source: str) -> Reason | None:
        if source != "correction" and self._row["other_answer"] is None:
            return "other_answer_missing"
        is_this_chosen = source == "preference" and self._row["value_str"] == "this"
        if source != "correction" and chosen is not None and self._fails_check(chosen, is_answer=is_this_chosen):
            return "liked_but_failed_check"
        if fault := self._answer_fault():
            return fault
        if chosen is None or rejected is None or not chosen.strip() or not rejected.strip():
            return "no_text"
        if {chosen, rejected} & set(self._parameters.service_texts):
            return "service_text"
        return "no_difference" if normalise(chosen) == normalise(rejected) else None

    def _answer_fault(self) -> Reason | None:
        """Why the answer's text is none of the model's."""
        if self._row["outcome"] == "blocked":
            return "blocked"
        if self._row["answer"] is None or not self._row["answer"].strip():
            return "no_text"
        return "service_text" if self._row["answer"] in self._parameters.service_texts else None

    def _recorded_failures(self) -> set[str]:
        try:
            names = json.loads(self._row["failed_checks"] or "[]")
        except ValueError:
            return set()
        return set(self._parameters.guard_checks).intersection(names if isinstance(names, list) else ())

    def _fails_check(self, text: str, is_answer: bool = False) -> bool:
        """Whether a hard check finds something in it, or found something that stayed in the answer."""
        if is_answer and self._row["outcome"] not in _MENDED and self._recorded_failures():
            return True
        turns = self._messages
        context = CheckContext(
            prompt=next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), ""),
            system="\n".join(turn["content"] for turn in turns if turn["role"] in ("system", "developer")),
            known_text="\n".join(turn["content"] for turn in turns if turn["role"] not in ("system", "developer")),
        )
        return any(_finds(name, text, context) for name in self._parameters.guard_checks if name in HARD_CHECKS)

    def _opinions(self) -> tuple[int, int]:
        """What the signal says of its answer and of the other one: 1 good, -1 bad, 0 nothing."""
        row = self._row
        match row["kind"]:
            case "implicit":
                return _IMPLICIT_OPINION.get(row["name"], 0), 0
            case "thumb" | "correction" | "preference" if not self._is_by_a_person:
                return 0, 0
            case "thumb" if row["name"] in self._parameters.thumb_metrics and row["value_bool"] is not None:
                is_good = row["value_bool"] is not (row["name"] in self._parameters.lower_is_better)
                return (1 if is_good else -1), 0
            case "correction":
                return -1, 0
            case "preference" if row["value_str"] in ("this", "other"):
                return (1, -1) if row["value_str"] == "this" else (-1, 1)
        return 0, 0

    def _answer(self, answer: str, label: bool, source: str) -> dict[str, Any]:
        return self._candidate("kto", source, (answer,), label=label, completion=_answer_turn(answer))

    def _candidate(self, method: Method, source: str, answers: tuple[str, ...], **texts: Any) -> dict[str, Any]:
        row, parameters = self._row, self._parameters
        told = _normalise_messages(self._messages)
        folded = [normalise(answer) for answer in answers]
        side = texts.get("label", folded == sorted(folded))
        parts = [told, *folded]
        return {
            **self._facts(method, source),
            "left_out": None,
            "side": side,
            "place": split_key(row["tenant"], self._messages, parameters.split_by),
            "prompt_key": _hash("prompt", told),
            "text_key": _hash("texts", told, *sorted(folded)),
            "shingles": [sorted(shingle(part, str(number))) for number, part in enumerate(parts)],
            "weight": 1.0,
            "prompt": self._messages,
            **texts,
        }

    def _left_out(self, method: Method | None, reason: Reason, source: str | None = None) -> dict[str, Any]:
        return {**self._facts(method, source or self._row["kind"]), "left_out": reason}

    def _facts(self, method: Method | None, source: str) -> dict[str, Any]:
        row = self._row
        ids = (row["event_id"], row["value_event_id"], row["text_event_id"], row["generation_id"])
        # The other answer is part of a pair; elsewhere it is only named.
        other = row["other_generation_id"] if method == "dpo" and source != "correction" else None
        opinion, other_opinion = self._opinions()
        return {
            "event_id": row["event_id"],
            "row_crc": row["row_crc"],
            "event_ids": sorted({*ids, other} - {None}),
            "method": method,
            "source": source,
            "tenant": row["tenant"],
            # All who do not say who they are are one rater of their tenant, as for the log.
            "rater": None if source == "check" else json.dumps([row["tenant"], row["source_id"]]),
            "said_us": row["ts_server_us"],
            "generation_id": row["generation_id"],
            "other_generation_id": row["other_generation_id"],
            "opinion": opinion,
            "other_opinion": other_opinion,
            **{name: row[name] for name in ("model", "adapter", "settings", "answer_format", "language")},
        }


def _finds(name: str, text: str, context: CheckContext) -> bool:
    try:
        return bool(CHECKS[name].run(text, context, DEFAULTS))
    except Exception:  # noqa: BLE001 - hard checks fail closed, whatever they raise
        return True


def _read_messages(text: str) -> list[dict[str, str]] | None:
    """The turns of a prompt; None: it is no list of turns of which the last is the user's or a tool's."""
    try:
        turns = json.loads(text)
    except ValueError:
        return None
    if not isinstance(turns, list) or not all(map(_is_turn, turns)):
        return None
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    if not any(turn["role"] == "user" for turn in messages) or messages[-1]["role"] not in ("user", "tool"):
        return None
    return messages


def _is_turn(turn: object) -> bool:
    return isinstance(turn, dict) and turn.get("role") in _ROLES and isinstance(turn.get("content"), str)


def _answer_turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _normalise_messages(messages: Sequence[Mapping[str, str]]) -> str:
    return "\n".join(f"{message['role']}: {normalise(message['content'])}" for message in messages)


def _hash(*parts: str) -> str:
    """sha256 in hex; no two lists of parts share one."""
    told = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
