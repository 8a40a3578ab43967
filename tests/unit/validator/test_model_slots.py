"""Pinning and choosing the models of the slots: hashes, what is refused before anything is loaded, and reloading."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from deployments.validator import model_slots
from deployments.validator.model_slots import hash_folder, load_slots, main, score_all, verify_folder
from deployments.validator.policy import ModelSlot
from graph.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "toxicity"
    (made / "more").mkdir(parents=True)
    (made / "config.json").write_text(json.dumps({"id2label": {"0": "fine", "1": "toxic"}}))
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "more" / "merges.txt").write_text("a b")
    return made


def make_slot(folder: Path, **changes: Any) -> ModelSlot:
    values = {"sha256": hash_folder(folder), "kind": "text", "label": "toxic", "at_most": 0.5, **changes}
    return ModelSlot(path=str(folder), **values)


def test_the_hash_is_over_the_names_and_contents_of_all_files_in_order(folder: Path) -> None:
    files = [("config.json", b'{"id2label": {"0": "fine", "1": "toxic"}}')]
    files += [("model.safetensors", b"weights"), ("more/merges.txt", b"a b")]
    written = b"".join(name.encode() + b"\0" + hashlib.sha256(content).digest() for name, content in files)
    assert hash_folder(folder) == hashlib.sha256(written).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"weightz"),
        lambda folder: (folder / "model.safetensors").rename(folder / "other.safetensors"),
        lambda folder: (folder / "more" / "merges.txt").rename(folder / "merges.txt"),
        lambda folder: (folder / ".hidden").write_bytes(b""),
        lambda folder: (folder / "more" / "merges.txt").unlink(),
    ],
)
def test_any_change_of_a_file_changes_the_hash(folder: Path, change: Any) -> None:
    before = hash_folder(folder)
    change(folder)
    assert hash_folder(folder) != before


def test_a_link_to_a_file_counts_as_the_file(folder: Path, tmp_path: Path) -> None:
    before = hash_folder(folder)
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    assert hash_folder(folder) == before


@pytest.mark.parametrize(
    "put",
    [lambda path: os.mkfifo(path), lambda path: path.symlink_to(path.parent.parent, target_is_directory=True)],
    ids=["a pipe", "a link to a folder"],
)
def test_what_cannot_be_hashed_whole_is_refused_and_never_waited_for(folder: Path, put: Any) -> None:
    put(folder / "odd")
    with pytest.raises(ConfigurationError, match="odd is neither a file nor a folder"):
        hash_folder(folder)


def test_a_link_that_leads_nowhere_is_named(folder: Path) -> None:
    (folder / "odd").symlink_to("gone")
    with pytest.raises(ConfigurationError, match=r"cannot be read .*odd"):
        hash_folder(folder)


def test_the_command_prints_the_hash_or_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hash", str(folder)]) == 0
    assert capsys.readouterr().out == hash_folder(folder) + "\n"
    assert main(["hash", str(folder / "none")]) == 1
    assert "no folder" in capsys.readouterr().err
    assert main([]) == 2
    assert "hash FOLDER" in capsys.readouterr().err


def test_the_right_folder_is_accepted(folder: Path) -> None:
    assert verify_folder("toxicity", make_slot(folder), "here") == folder


@pytest.mark.parametrize(
    ("change", "settings", "told"),
    [
        (None, {"sha256": "0" * 64}, ["models.toxicity.sha256", "0" * 64, "have the hash", "model_slots hash"]),
        (lambda folder: (folder / "model.safetensors").unlink(), {}, ["models.toxicity.path", "no *.safetensors"]),
        (lambda folder: (folder / "adapter_config.json").touch(), {}, ["models.toxicity.path", "adapter"]),
        (lambda folder: (folder / "config.json").unlink(), {}, ["models.toxicity.path", "config.json"]),
        (lambda folder: (folder / "config.json").write_text("[]"), {}, ["models.toxicity.path", "config.json"]),
        (None, {"label": "toxi"}, ["models.toxicity.label", "'toxi'", "fine, toxic"]),
    ],
)
def test_a_folder_that_is_not_what_was_pinned_is_refused_by_name(
    folder: Path, change: Any, settings: dict[str, Any], told: list[str]
) -> None:
    if change is not None:
        change(folder)
    with pytest.raises(ConfigurationError) as caught:
        verify_folder("toxicity", make_slot(folder, **settings), "here")
    for part in ("here", str(folder), *told):
        assert part in caught.value.message


def test_a_model_without_names_of_its_classes_has_those_of_transformers(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    assert verify_folder("toxicity", make_slot(folder, label="LABEL_1"), "here") == folder


def test_a_relative_path_begins_where_all_others_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RHEOSTAT_HOME", str(folder.parent))
    slot = make_slot(folder).model_copy(update={"path": "toxicity"})
    assert verify_folder("toxicity", slot, "here") == folder


def test_a_required_model_that_is_not_there_is_an_error(folder: Path) -> None:
    slot = make_slot(folder).model_copy(update={"path": "none"})
    with pytest.raises(ConfigurationError, match=r"here: models\.toxicity\.path: got 'none': there is no folder"):
        load_slots({"toxicity": slot}, "here", {})


def test_one_that_is_not_required_is_logged_once_and_has_no_model(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slot = make_slot(folder, sha256="0" * 64, required=False, on_error="closed")
    with caplog.at_level(logging.ERROR):
        assert load_slots({"toxicity": slot}, "here", {}) == {"toxicity": (slot, None)}
    (record,) = caplog.records
    assert "models.toxicity.sha256" in record.getMessage()
    assert "fails closed" in record.getMessage()


def test_a_disabled_slot_is_not_loaded(folder: Path) -> None:
    assert load_slots({"toxicity": make_slot(folder, sha256="0" * 64, enabled=False)}, "here", {}) == {}


def test_only_a_model_that_changed_is_loaded_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load_slot(name: str, slot: ModelSlot, where: str) -> Any:
        loaded.append(name)
        return object()

    monkeypatch.setattr(model_slots, "load_slot", load_slot)
    first = load_slots({"toxicity": make_slot(folder)}, "here", {})
    again = load_slots({"toxicity": make_slot(folder, at_most=0.7, on_fail="block")}, "here", first)
    assert again["toxicity"][1] is first["toxicity"][1]
    assert again["toxicity"][0].at_most == 0.7
    for changes in ({"label": "fine"}, {"max_tokens": 64}, {"kind": "pair"}, {"at_most": None, "at_least": 0.5}):
        assert load_slots({"toxicity": make_slot(folder, **changes)}, "here", first) != first
    assert len(loaded) == 5


def test_one_that_could_not_be_loaded_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = make_slot(folder, required=False)
    monkeypatch.setattr(model_slots, "load_slot", lambda *_: "model")
    assert load_slots({"toxicity": slot}, "here", {"toxicity": (slot, None)}) == {"toxicity": (slot, "model")}


class Model:
    """Scores a text by its length; fails on an order."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.calls = 0

    def scores(self, pairs: Any, beat: Any) -> list[float]:
        self.calls += 1
        beat()
        if self.fails:
            raise RuntimeError("broken")
        return [float(len(text)) for _, text in pairs]


def test_texts_for_one_model_go_to_it_together_and_scores_come_in_order() -> None:
    one, two, broken = Model(), Model(), Model(fails=True)
    asked: Any = [(one, "", "a"), (two, "", "ab"), (broken, "", "x"), (one, "", "abc")]
    first, second, failed, last = score_all(asked, lambda: None)
    assert (first, second, last) == (1.0, 2.0, 3.0)
    assert isinstance(failed, RuntimeError)
    assert one.calls == two.calls == 1
