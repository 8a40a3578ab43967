"""The models of the slots: a real classifier, tiny and made here, is verified, loaded and asked."""

import json
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.validator.model_slots import MAX_CHARS, SlotModel, hash_folder, load_slot, score_all
from deployments.validator.policy import ModelSlot
from graph.errors import ConfigurationError
from tests.tiny_classifier import MAX_POSITIONS, save_classifier

WORDS = "word " * 50
VILE = "vile " * 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("toxicity"))


def make_slot(folder: Path, **changes: Any) -> ModelSlot:
    values = {"kind": "text", "label": "toxic", "at_most": 0.5, "max_tokens": MAX_POSITIONS, **changes}
    return ModelSlot(path=str(folder), sha256=hash_folder(folder), **values)


def load(folder: Path, **changes: Any) -> SlotModel:
    return load_slot("toxicity", make_slot(folder, **changes), "here")


def score(model: SlotModel, text: str, premise: str = "") -> float:
    (found,) = model.scores([(premise, text)], lambda: None)
    assert not isinstance(found, Exception), found
    return found


def which_rises(folder: Path) -> str:
    """The label that the random weights give vile words rather than others."""
    model = load(folder)
    return "toxic" if score(model, VILE) > score(model, WORDS) else "fine"


def test_the_scores_of_exclusive_labels_add_up_to_one(folder: Path) -> None:
    shares = [score(load(folder, label=label), "good rain") for label in ("fine", "toxic")]
    assert sum(shares) == pytest.approx(1.0)
    assert shares[0] != pytest.approx(0.5)


def test_labels_that_do_not_exclude_each_other_and_a_single_one_have_a_probability_of_their_own(
    tmp_path: Path,
) -> None:
    many = save_classifier(tmp_path / "many", problem_type="multi_label_classification")
    shares = [score(load(many, label=label), "good rain") for label in ("fine", "toxic")]
    assert sum(shares) != pytest.approx(1.0)
    one = save_classifier(tmp_path / "one", labels=["support"])
    found = score(load(one, label="support"), "good rain")
    assert 0.0 < found < 1.0


def test_a_long_text_is_read_to_its_end_and_its_worst_window_counts(folder: Path) -> None:
    label = which_rises(folder)
    model = load(folder, label=label)
    for text in (WORDS * 4 + VILE * 2, WORDS * 2 + VILE * 2 + WORDS * 2, VILE * 2 + WORDS * 4):
        assert score(model, text) > score(model, WORDS * 4) + 0.01
    lowest = load(folder, label=label, at_most=None, at_least=0.5)
    for text in (VILE * 4 + WORDS * 2, VILE * 2 + WORDS * 2 + VILE * 2, WORDS * 2 + VILE * 4):
        assert score(lowest, text) < score(lowest, VILE * 4) - 0.01


def test_no_window_is_longer_than_the_slot_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(folder, kind="pair")
    lengths: list[int] = []
    forward = model._forward

    def watched(windows: Any) -> Any:
        lengths.extend(len(window["input_ids"]) for window in windows)
        return forward(windows)

    monkeypatch.setattr(model, "_forward", watched)
    for premise, text in ((WORDS * 9, "good"), (WORDS * 9, VILE * 9), ("rain", VILE * 9), ("rain", "good")):
        lengths.clear()
        score(model, text, premise)
        assert max(lengths) <= MAX_POSITIONS
        assert len(lengths) > 1 if text == VILE * 9 else len(lengths) == 1


def test_a_pair_is_judged_by_both_of_its_texts(folder: Path) -> None:
    pair, text = load(folder, kind="pair"), load(folder)
    assert score(pair, "good rain", "sun " * 20) != score(pair, "good rain", "vile " * 20)
    assert score(text, "good rain", "sun " * 20) == score(text, "good rain", "vile " * 20)


@pytest.mark.parametrize("text", ["\ud800 good", "a\u200bb\u202e rain", "\x00", "vile" * 20_000, "", "\u0301" * 99])
def test_any_text_has_a_score(folder: Path, text: str) -> None:
    for kind in ("text", "pair"):
        assert 0.0 <= score(load(folder, kind=kind), text, "word") <= 1.0


def test_a_text_that_is_too_long_fails_alone(folder: Path) -> None:
    model = load(folder)
    beats: list[int] = []
    asked = [(model, "", "good"), (model, "", "x" * (MAX_CHARS + 1)), (model, "", "good " * 9_000), (model, "", "rain")]
    first, long, many, last = score_all(asked, lambda: beats.append(1))
    # In one pass with others a score differs in its last digits.
    assert (first, last) == pytest.approx((score(model, "good"), score(model, "rain")))
    assert isinstance(long, ValueError)
    assert isinstance(many, ValueError)
    assert beats


def test_nothing_is_asked_of_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load(folder)


def test_a_pickle_beside_the_weights_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    mounted = save_classifier(tmp_path / "model")
    for name in ("pytorch_model.bin", "training_args.bin"):
        (mounted / name).write_bytes(pickle.dumps(Bomb()))
    score(load(mounted), "good")
    assert not (tmp_path / "exploded").exists()


def test_code_in_the_folder_is_never_run(tmp_path: Path) -> None:
    mounted = save_classifier(tmp_path / "model")
    (mounted / "modeling.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'exploded')!r})\n")
    config = json.loads((mounted / "config.json").read_text())
    automatic = {"AutoConfig": "modeling.X", "AutoModelForSequenceClassification": "modeling.Y"}
    (mounted / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of", "auto_map": automatic}))
    with pytest.raises(ConfigurationError, match=r"here: models\.toxicity\.path: .*does not load"):
        load(mounted)
    assert not (tmp_path / "exploded").exists()


def _make_nan(model: Any) -> None:
    model.classifier.bias.fill_(float("nan"))


def _drop_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "changes", "told"),
    [
        (lambda folder: _drop_weights(folder), {}, "lack the weights classifier"),
        (lambda folder: save_classifier(folder, spoil=_make_nan), {}, "no number"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), {}, "does not load"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), {}, "does not load"),
        (lambda folder: None, {"max_tokens": 2 * MAX_POSITIONS}, f"max_tokens {2 * MAX_POSITIONS}"),
    ],
    ids=["a base model", "weights that are no numbers", "broken weights", "a broken tokenizer", "too many tokens"],
)
def test_a_model_that_could_not_judge_is_refused_at_the_start(
    spoil: Callable[[Path], Any], changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    mounted = save_classifier(tmp_path / "model")
    spoil(mounted)
    with pytest.raises(ConfigurationError) as caught:
        load(mounted, **changes)
    for part in ("here", "models.toxicity.path", str(mounted), told, "transformers model for sequence classification"):
        assert part in caught.value.message
