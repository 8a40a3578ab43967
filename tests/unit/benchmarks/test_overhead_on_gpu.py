"""The comparison on a GPU, as far as it goes without one: its model's folder, and what may be compared with what."""

import json
from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.overhead import gpu
from benchmarks.overhead.__main__ import aims_of, main
from benchmarks.overhead.cells import Cell
from benchmarks.overhead.sides import engine_args
from deployments.rollout.adapter_files import describe_base


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packaged"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"vocab_size": 49152, "eos_token_id": 2, "hidden_size": 576}))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors", "prepared"):
        (folder / name).write_text(f"the packaged model's {name}")
    monkeypatch.setattr(gpu, "packaged_model_dir", lambda: folder)
    return folder


def test_the_model_has_its_own_shape_the_packaged_models_tokenizer_and_no_weights(
    packaged: Path, tmp_path: Path
) -> None:
    made = gpu.random_model(tmp_path / "made")
    config = json.loads((made / "config.json").read_text())
    assert (config["hidden_size"], config["vocab_size"], config["eos_token_id"]) == (4096, 49152, 2)
    assert (made / "tokenizer.json").read_text() == "the packaged model's tokenizer.json"
    assert (made / "chat_template.jinja").exists()
    assert not (made / "prepared").exists()
    assert (made / "model.safetensors").stat().st_size < 100
    assert describe_base(made).shapes == {}, "the service takes it for a base model"


def test_what_is_asked_for_stands_over_what_all_engines_are_given() -> None:
    assert engine_args("gpu", {"max_num_seqs": 8})["max_num_seqs"] == 8
    assert engine_args("gpu", {})["load_format"] == "dummy"
    assert "load_format" not in engine_args("one", {})


@pytest.mark.parametrize(
    "options",
    [
        ["--bind", "gpu", "one"],
        ["--bind", "gpu", "--contestants", "rheostat", "ray-direct"],
        ["--as-it-comes", "--contestants", "rheostat", "ray-default"],
        ["--as-it-comes", "--engine-args", '{"max_num_seqs": 8}'],
    ],
    ids=["two models", "who has no way onto a GPU", "who needs settings", "settings for what comes without"],
)
def test_what_cannot_be_compared_is_refused_before_anything_starts(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert f"error: {' '.join(options[: 1 + (options[1] == 'gpu')])} " in capsys.readouterr().err


def test_the_same_is_asked_of_a_gpu_as_of_cores() -> None:
    aims = aims_of([], "gpu", [Cell(32, True)])
    assert [(aim.what, aim.bound) for aim in aims] == [
        ("gpu, 32 streamed: tokens/s over vllm", 0.97),
        ("gpu, 32 streamed: tokens/s over ray-default", 1.25),
    ]


def test_a_record_names_the_gpus_that_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record.gpu_names() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA H200\n")
    tool.chmod(0o755)
    record.write_record(tmp_path / "record.json", "b", {}, [], packages=())
    assert json.loads((tmp_path / "record.json").read_text())["machine"]["gpus"] == ["NVIDIA H200"]
