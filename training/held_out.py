"""What the gate may use and training never saw: prompts to ask both arms, and votes to learn a judge from.

Prompts come from the log, rated or not, and fall into the split that their hash gives them, by the dataset's own
parameters; so a prompt that is asked here can be in no row that the dataset trains on. Votes are the rows of the
dataset's eval split, each with its rater from the log; what was erased or retracted since is in neither.

Left out are the gate's own earlier questions, near-duplicates of what was trained on, and repeats.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import duckdb

from deployments.controls.catalogue import Catalogue
from deployments.feedback.analysis.views import open_views
from deployments.feedback.contracts import BUILT_IN
from deployments.feedback.snapshot import open_snapshot
from graph.errors import InvalidRequest, NotFound
from training.curation import METHODS, CurationParameters, Method, Split, assign_split, exact
from training.dataset_store import Dataset
from training.judge_fit import Vote
from training.near_duplicates import find_near_duplicates, shingle
from training.prompts import asked_controls, read_settings
from training.rows import normalise, split_key

GATE = "gate"
"""``extra.purpose`` of the log's rows that the gate has asked for; the ingress writes it where an arm was chosen."""
_ATTEMPTS = 3
"""Compaction may remove a file of the archive while it is read."""
_BATCH_ROWS = 4096
_PROMPTS = """
SELECT generation_id, tenant, prompt, controls, settings, answer_format, language, extra
FROM main.generations WHERE served AND prompt IS NOT NULL
"""
_RATERS = "SELECT event_id, tenant, source_id FROM main.signals WHERE event_id IN (SELECT unnest(?))"
_ROLES = ("system", "developer", "user", "assistant")

Reason = Literal["other_split", "gate", "unreadable", "unknown_settings", "near_training", "repeated", "over_limit"]
LEFT_OUT: Mapping[Reason, str] = {
    "other_split": "its hash puts it into another split",
    "gate": "an earlier gate asked it",
    "unreadable": "the log holds no whole list of turns that ends with the user's",
    "unknown_settings": "the catalogue does not know the dials that it was asked under",
    "near_training": "nearly the same as a prompt that was trained on",
    "repeated": "the same, or nearly, as another one with the same controls",
    "over_limit": "enough others were chosen",
}
"""Why a prompt is not asked."""


@dataclass(frozen=True, slots=True)
class HeldOutPrompt:
    """One question for both arms."""

    prompt_id: str
    """Of messages and controls, 32 hex digits: equal questions have equal ids."""
    messages: tuple[Mapping[str, str], ...]
    """``role`` and ``content``; the last is the user's."""
    controls: Mapping[str, Mapping[str, Any]]
    """``{"lp": {...}, "ls": {...}}``: what was set, without defaults."""

    @property
    def question(self) -> str:
        """The last user turn."""
        return self.messages[-1]["content"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a source held."""

    prompts: tuple[HeldOutPrompt, ...]
    left_out: Mapping[Reason, int]


@dataclass(frozen=True, slots=True)
class HeldOutVotes:
    """What people said of held-out prompts."""

    votes: tuple[Vote, ...]
    gone: int
    """Rows of the dataset whose signal is no longer in the log: erased, retracted, replaced, or never there."""


def parameters_of(dataset: Dataset) -> CurationParameters:
    """Return the parameters that the dataset was made with."""
    told = dataset.manifest["parameters"]
    known = {field.name for field in fields(CurationParameters)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in told.items() if name in known
    }
    return CurationParameters(**values)


def read_votes(dataset: Dataset, log: Path) -> HeldOutVotes:
    """Return the votes of people in the dataset's eval split. Blocks; reads the log.

    Raises:
        NotFound: There is no log.
        InternalError: The dataset or the log is damaged.
    """
    methods: tuple[Method, ...] = ("dpo", "kto")
    rows = [
        (method, row)
        for method in methods
        if dataset.manifest["methods"][method]["usable"]
        for row in dataset.read(method, "eval").to_pylist()
        # What a check said is no person's vote; the guards know it.
        if row["source"] != "check"
    ]
    raters = _read_raters(log, [row["event_id"] for _, row in rows])
    kept = [(method, row) for method, row in rows if row["event_id"] in raters]
    split_by = parameters_of(dataset).split_by
    votes = tuple(_vote(method, row, raters[row["event_id"]], split_by) for method, row in kept)
    return HeldOutVotes(votes, len(rows) - len(kept))


def read_log_prompts(
    log: Path,
    parameters: CurationParameters,
    catalogue: Catalogue,
    split: Split = "eval",
    tenant: str | None = None,
) -> Found:
    """Return the distinct prompts of the log that fall into the split, in a fixed order. Blocks; reads the log.

    Args:
        log: Its root.
        parameters: Of the dataset, whose split it is.
        catalogue: Tells dials from switches where a row has no receipt of its controls.
        split: Never train.
        tenant: Prompts of this tenant only; None: all.

    Raises:
        InvalidRequest: The split is train.
        NotFound: There is no log.
        InternalError: It is damaged.
    """
    if split == "train":
        raise InvalidRequest("The split 'train' is not held out; ask prompts of eval, or of vault.", param="split")
    left_out: Counter[Reason] = Counter()
    found: dict[str, HeldOutPrompt] = {}
    for row in _query(log, _PROMPTS + ("AND tenant = ?" if tenant else ""), [tenant] if tenant else []):
        prompt = _log_prompt(row, parameters, catalogue, split)
        if isinstance(prompt, str):
            left_out[prompt] += 1
        elif found.setdefault(prompt.prompt_id, prompt) is not prompt:
            left_out["repeated"] += 1
    return Found(tuple(found[prompt_id] for prompt_id in sorted(found)), left_out)


def read_prompt_file(path: Path) -> Found:
    """Return the prompts of a file with one JSON object a line, ``{"messages": [...], "controls": {...}}``.

    Raises:
        NotFound: There is no such file.
        InvalidRequest: A line is something else; the message has its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise NotFound(f"There is no file {path} with prompts.", param="prompts") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8: {error}.", param="prompts") from None
    told = [_file_prompt(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    found = {prompt.prompt_id: prompt for prompt in told}
    return Found(tuple(found.values()), {"repeated": len(told) - len(found)})


def choose_prompts(
    found: Found, trained: Iterable[Sequence[Mapping[str, str]]], threshold: float, limit: int, seed: int
) -> Found:
    """Return at most so many prompts, ordered by a hash of seed and id: none like what was trained on, no two alike.

    Args:
        found: From the log or a file.
        trained: The prompts (turns) of all rows that training may have seen.
        threshold: Jaccard similarity of word shingles from which two are alike; see `near_duplicates`.
        limit: The most that are asked.
        seed: Which ones.

    Raises:
        InvalidRequest: The limit is not positive.
    """
    if limit < 1:
        raise InvalidRequest(f"The limit is {limit}; it must be at least 1.", param="limit")
    order = sorted(found.prompts, key=lambda each: hashlib.sha256(f"{seed} {each.prompt_id}".encode()).digest())
    left_out: Counter[Reason] = Counter(found.left_out)
    seen = sorted({_told(messages) for messages in trained})
    near = exact(threshold)
    rows = [_shingles(*told) for told in (*seen, *(_told(prompt.messages) for prompt in order))]
    # Rows that are only like each other stay here: they may have other controls.
    repeats = find_near_duplicates(rows, near)
    trained_on = {place - len(seen) for place, other in repeats.items() if place >= len(seen) > other}
    order = [prompt for place, prompt in enumerate(order) if place not in trained_on]
    alike = find_near_duplicates([[*_shingles(*_told(each.messages)), _hash_controls(each)] for each in order], near)
    order = [prompt for place, prompt in enumerate(order) if place not in alike]
    left_out["near_training"] += len(trained_on)
    left_out["repeated"] += len(alike)
    left_out["over_limit"] += max(0, len(order) - limit)
    return Found(tuple(order[:limit]), {reason: count for reason, count in left_out.items() if count})


def trained_prompts(dataset: Dataset) -> Iterator[list[dict[str, str]]]:
    """Yield the prompt of each row that any method may have trained on."""
    for method in METHODS:
        if dataset.manifest["methods"][method]["usable"]:
            yield from dataset.read(method, "train").column("prompt").to_pylist()


def require_enough(chosen: Found, least: int) -> None:
    """Refuse to ask fewer prompts than a decision takes.

    Raises:
        InvalidRequest: With what was left out, and how to get more.
    """
    if len(chosen.prompts) >= least:
        return
    why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(chosen.left_out.items()))
    raise InvalidRequest(
        f"There are {len(chosen.prompts)} held-out prompts, and the gate needs at least {least}"
        f"{f' (left out: {why})' if why else ''}. Serve more different prompts, curate with a larger --eval-share, or "
        'give prompts of your own: --prompts FILE.jsonl, with {"messages": [...]} a line.',
        param="prompts",
        code="too_few_prompts",
    )


def is_of_gate(extra: str | None) -> bool:
    """Whether a log row with this ``extra`` is an answer to the gate, and so nobody's traffic."""
    told = _json(extra)
    return isinstance(told, dict) and told.get("purpose") == GATE


def _query(log: Path, sql: str, parameters: Sequence[Any]) -> Iterator[dict[str, Any]]:
    if not log.is_dir():
        raise NotFound(f"There is no log at {log}. Name its folder: --log data/log.", param="log")
    for attempt in range(_ATTEMPTS):
        snapshot = open_snapshot(log)
        try:
            with open_views(snapshot, BUILT_IN) as con:
                # All at once: a file may go while it is read, and then nothing may have been yielded.
                batches = list(con.sql(sql, params=list(parameters)).to_arrow_reader(_BATCH_ROWS))
            break
        except duckdb.Error:
            if attempt + 1 == _ATTEMPTS or all(path.exists() for path in snapshot.parquet):
                raise
    for batch in batches:
        yield from batch.to_pylist()


def _read_raters(log: Path, event_ids: Sequence[str]) -> dict[str, str]:
    # As in curation: all who do not say who they are are one rater of their tenant.
    found = _query(log, _RATERS, [list(event_ids)])
    return {row["event_id"]: json.dumps([row["tenant"], row["source_id"]]) for row in found}


def _vote(method: Method, row: Mapping[str, Any], rater: str, split_by: str) -> Vote:
    messages = row["prompt"]
    users = [turn["content"] for turn in messages if turn["role"] == "user"]
    together = normalise(users[0]) if split_by == "conversation" else json.dumps(messages)
    group, question = f"{row['tenant']}\n{together}", users[-1]
    if method == "dpo":
        return Vote(row["event_id"], rater, group, question, _text(row["chosen"]), _text(row["rejected"]))
    return Vote(row["event_id"], rater, group, question, _text(row["completion"]), liked=row["label"])


def _text(turns: Sequence[Mapping[str, str]]) -> str:
    return turns[-1]["content"]


def _log_prompt(
    row: Mapping[str, Any], parameters: CurationParameters, catalogue: Catalogue, split: Split
) -> HeldOutPrompt | Reason:
    if is_of_gate(row["extra"]):
        return "gate"
    messages = _read_turns(_json(row["prompt"]))
    if messages is None:
        return "unreadable"
    if assign_split(split_key(row["tenant"], messages, parameters.split_by), parameters) != split:
        return "other_split"
    controls = _receipt_controls(row["controls"])
    if controls is None:
        try:
            asked = asked_controls(read_settings(row), catalogue)
        except InvalidRequest:
            return "unknown_settings"
        controls = {"lp": dict(asked.lp), "ls": dict(asked.ls)}
    return _make_prompt(messages, controls)


def _receipt_controls(text: str | None) -> dict[str, dict[str, Any]] | None:
    """What the caller set by hand, by the receipt; None: there is none to read."""
    receipt = _json(text)
    if not isinstance(receipt, dict):
        return None
    try:
        return {
            kind: {name: knob["value"] for name, knob in receipt[kind].items() if knob["source"] == "explicit"}
            for kind in ("lp", "ls")
        }
    except (KeyError, TypeError, AttributeError):
        return None


def _file_prompt(line: str, where: str) -> HeldOutPrompt:
    told = _json(line)
    if not isinstance(told, dict) or "messages" not in told or not told.keys() <= {"messages", "controls"}:
        raise InvalidRequest(
            f"{where}: must be one JSON object with messages and, if wanted, controls, and nothing else.", "prompts"
        )
    messages = _read_turns(told["messages"])
    if messages is None:
        raise InvalidRequest(
            f"{where}: messages must be a list of turns, each a role ({', '.join(_ROLES)}) and a content that is a "
            "text; the last one is the user's.",
            param="prompts",
        )
    controls = told.get("controls") or {}
    if not isinstance(controls, dict) or not all(
        kind in ("lp", "ls") and isinstance(knobs, dict) for kind, knobs in controls.items()
    ):
        raise InvalidRequest(
            f"{where}: controls must be an object with lp and ls, each an object of values by name.", "prompts"
        )
    return _make_prompt(messages, controls)


def _make_prompt(messages: Sequence[Mapping[str, str]], controls: Mapping[str, Mapping[str, Any]]) -> HeldOutPrompt:
    controls = {kind: dict(controls[kind]) for kind in ("lp", "ls") if controls.get(kind)}
    told = json.dumps([[dict(turn) for turn in messages], controls], sort_keys=True)
    return HeldOutPrompt(hashlib.sha256(told.encode()).hexdigest()[:32], tuple(messages), controls)


def _read_turns(turns: Any) -> list[dict[str, str]] | None:
    if not isinstance(turns, list) or not turns or not all(map(_is_turn, turns)) or turns[-1]["role"] != "user":
        return None
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def _is_turn(turn: object) -> bool:
    return isinstance(turn, dict) and turn.get("role") in _ROLES and isinstance(turn.get("content"), str)


def _told(messages: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """(all turns but the last, the last), as they are compared."""
    turns = [f"{turn['role']}: {normalise(turn['content'])}" for turn in messages]
    return "\n".join(turns[:-1]), turns[-1]


def _shingles(before: str, last: str) -> list[frozenset[int]]:
    # Two parts, each of which must be alike: a long system turn that all prompts share makes no two questions equal.
    return [shingle(before, "before"), shingle(last, "last")]


def _hash_controls(prompt: HeldOutPrompt) -> frozenset[int]:
    """One hash: other controls make another question, however little they differ."""
    told = json.dumps(prompt.controls, sort_keys=True)
    return frozenset({int.from_bytes(hashlib.sha256(told.encode()).digest()[:8])})


def _json(text: Any) -> Any:
    """The value of a JSON text; None for anything else."""
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
