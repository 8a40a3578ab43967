import json
import os
import struct

import numpy as np
import pytest
from adapter_support import (
    MODULES,
    OUT,
    RANK,
    make_base,
    make_config,
    make_safetensors,
    make_tensor,
    make_tensors,
    write_adapter,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from deployments.rollout.adapter_files import (
    CONFIG,
    WEIGHTS,
    AdapterConfig,
    check_config,
    check_folder,
    check_weights,
    combined_sha256,
    describe_base,
)
from graph.errors import ConfigurationError, InvalidRequest, RheostatError

NAME = f"base_model.model.{MODULES[0]}"
CONFIGURED = AdapterConfig(RANK, 16, ("q_proj", "v_proj"), False, "tiny")


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "models")


def config_of(base, max_lora_rank=16, **changes):
    return check_config(json.dumps(make_config(**changes)).encode(), base, max_lora_rank)


def check(tmp_path, base, data, config=CONFIGURED):
    path = tmp_path / WEIGHTS
    path.write_bytes(data)
    check_weights(path, config, base)


# The configuration


def test_what_peft_writes_for_a_plain_adapter_is_taken_and_written_anew_in_one_form(base):
    config = config_of(base)
    assert config == CONFIGURED
    other = config_of(
        base, target_modules=["q_proj", "v_proj"], base_model_name_or_path="/elsewhere/tiny/", lora_dropout=0.1
    )
    assert other.encode() == config.encode()
    assert check_config(config.encode(), base, 16) == config


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal"])
def test_initial_weights_that_leave_the_base_model_alone_are_taken(base, init):
    assert config_of(base, init_lora_weights=init).rank == RANK


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("lora_bias", True),
        ("bias", "all"),
        ("bias", "lora_only"),
        ("modules_to_save", ["lm_head"]),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_16"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", None),
        ("peft_type", "IA3"),
        ("use_qalora", True),
        ("alora_invocation_tokens", [1]),
        ("rank_pattern", {"q_proj": 64}),
        ("alpha_pattern", {"q_proj": 64}),
        ("layers_to_transform", [0]),
        ("trainable_token_indices", [1]),
        ("use_what_was_invented_next_year", True),
        ("target_modules", []),
        ("target_modules", None),
        ("target_modules", ".*_proj"),
        ("target_modules", ["../q_proj"]),
        ("lora_alpha", 0),
        ("lora_alpha", float("nan")),
        ("lora_alpha", float("inf")),
        ("lora_alpha", 10**400),
        ("lora_alpha", True),
        ("use_rslora", "no"),
        ("base_model_name_or_path", "/models/another"),
        ("base_model_name_or_path", None),
        ("r", None),
        ("r", True),
        ("r", 8.0),
    ],
)
def test_what_the_engine_does_not_serve_as_trained_is_refused_by_its_key(base, key, value):
    with pytest.raises(InvalidRequest, match=f"{key} is .*; it must be") as caught:
        config_of(base, **{key: value})
    assert caught.value.param == key


@pytest.mark.parametrize("rank", [0, -8, 2, 4, 12, 24, 32, 64, 512, 1024])
def test_a_rank_that_is_not_allowed_or_over_the_engine_s_limit_is_refused_with_those_that_are(base, rank):
    with pytest.raises(InvalidRequest, match=r"one of 1, 8, 16 \(the engine's max_lora_rank is 16\)"):
        config_of(base, r=rank)


@pytest.mark.parametrize("rank", [1, 8, 16, 32, 64, 128, 256, 320, 512])
def test_every_rank_of_the_engine_is_allowed_up_to_its_limit(base, rank):
    assert config_of(base, max_lora_rank=512, r=rank).rank == rank


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_configuration_that_is_no_object_is_refused(base, data):
    with pytest.raises(InvalidRequest, match=CONFIG):
        check_config(data, base, 16)


def test_a_configuration_that_says_a_thing_twice_is_refused_for_readers_differ_in_which_they_take(base):
    data = json.dumps(make_config()).replace('"r": 8', '"r": 512, "r": 8').encode()
    with pytest.raises(InvalidRequest, match="a key is given twice"):
        check_config(data, base, 16)


# The tensors


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_whole_adapter_passes_in_each_number_format(tmp_path, base, dtype):
    check(tmp_path, base, make_safetensors(make_tensors(dtype=dtype)))


def test_what_the_safetensors_library_writes_passes(tmp_path, base):
    numbers = {name: np.frombuffer(data, "<f4").reshape(shape) for name, (_, shape, data) in make_tensors().items()}
    check(tmp_path, base, save(numbers, metadata={"format": "pt"}))


def test_a_file_cut_anywhere_is_refused(tmp_path, base):
    data = make_safetensors(make_tensors())
    for size in [*range(0, len(data), 13), len(data) - 1]:
        with pytest.raises(InvalidRequest, match=r"truncated|not valid JSON"):
            check(tmp_path, base, data[:size])


def test_bytes_that_no_tensor_owns_are_refused(tmp_path, base):
    with pytest.raises(InvalidRequest, match="truncated or damaged"):
        check(tmp_path, base, make_safetensors(make_tensors()) + b"\0")


@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_whatever_byte_is_wrong_the_answer_is_ours_or_the_adapter_is_whole(tmp_path_factory, at, byte):
    folder = tmp_path_factory.mktemp("flip")
    base = make_base(folder)
    data = bytearray(make_safetensors(make_tensors()))
    data[at % len(data)] = byte
    try:
        check(folder, base, bytes(data))
    except RheostatError:
        return
    # What passed can be loaded by the library that the engine uses.
    from safetensors.numpy import load

    assert len(load(bytes(data))) == 2 * len(MODULES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{NAME}.lora_A.weight": None}, "both A and B"),
        ({f"{NAME}.lora_A.bias": make_tensor((RANK,))}, "none of a plain LoRA"),
        ({f"{NAME}.lora_magnitude_vector": make_tensor((RANK,))}, "none of a plain LoRA"),
        ({"base_model.model.lm_head.weight": make_tensor((4, 6))}, "none of a plain LoRA"),
        ({"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": make_tensor((8, 6))}, "none of a plain LoRA"),
        ({"../q_proj.lora_A.weight": make_tensor((8, 6))}, "none of a plain LoRA"),
        ({f"{NAME}.lora_A.weight": make_tensor((16, 6))}, r"shape \[16, 6\]; rank 8 .* makes it \[8, 6\]"),
        ({f"{NAME}.lora_A.weight": make_tensor((8, 7))}, r"shape \[8, 7\]"),
        ({f"{NAME}.lora_B.weight": make_tensor((8, 4))}, r"lora_B .* shape \[8, 4\]"),
        ({f"{NAME}.lora_B.weight": make_tensor((OUT * RANK,))}, r"lora_B .* shape \[32\]"),
        ({f"{NAME}.lora_A.weight": make_tensor((8, 6), dtype="I64")}, "type I64"),
        (
            {
                f"base_model.model.model.layers.9.self_attn.q_proj.lora_{side}.weight": make_tensor((8, 6))
                for side in "AB"
            },
            "no linear module 'model.layers.9.self_attn.q_proj': this adapter is of another",
        ),
    ],
)
def test_a_tensor_that_does_not_belong_or_fit_is_refused(tmp_path, base, changes, message):
    tensors = {name: tensor for name, tensor in (make_tensors() | changes).items() if tensor is not None}
    with pytest.raises(InvalidRequest, match=message):
        check(tmp_path, base, make_safetensors(tensors))


def test_an_adapter_without_tensors_or_without_those_of_a_target_is_refused(tmp_path, base):
    with pytest.raises(InvalidRequest, match="holds no tensor;"):
        check(tmp_path, base, make_safetensors({}))
    queries = {name: tensor for name, tensor in make_tensors().items() if "q_proj" in name}
    with pytest.raises(InvalidRequest, match="no tensor of the target modules v_proj"):
        check(tmp_path, base, make_safetensors(queries))


def test_modules_may_be_named_in_full(tmp_path, base):
    config = config_of(base, target_modules=list(MODULES))
    check(tmp_path, base, make_safetensors(make_tensors()), config)
    config = config_of(base, target_modules=[MODULES[0]])
    with pytest.raises(InvalidRequest, match="none of a plain LoRA"):
        check(tmp_path, base, make_safetensors(make_tensors()), config)


@pytest.mark.parametrize(
    ("dtype", "number"),
    [
        ("F32", struct.pack("<f", float("nan"))),
        ("F32", struct.pack("<f", float("-inf"))),
        ("F16", struct.pack("<e", float("nan"))),
        ("BF16", b"\x80\x7f"),
        ("BF16", b"\xc0\xff"),
    ],
)
def test_an_adapter_of_a_training_that_diverged_is_refused(tmp_path, base, dtype, number):
    tensors = make_tensors(dtype=dtype)
    _, shape, data = tensors[f"{NAME}.lora_B.weight"]
    tensors[f"{NAME}.lora_B.weight"] = (dtype, shape, data[: -len(number)] + number)
    with pytest.raises(InvalidRequest, match="not finite"):
        check(tmp_path, base, make_safetensors(tensors))


@pytest.mark.parametrize(
    "offsets", [[4, 8], [0, 196], [-4, 188], [0, 2**80], [0, "8"], [0.0, 192], [192, 0], [0], None]
)
def test_tensors_that_overlap_or_leave_gaps_or_lie_outside_are_refused(tmp_path, base, offsets):
    data = make_safetensors(make_tensors())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header[f"{NAME}.lora_A.weight"]["data_offsets"] = offsets
    encoded = json.dumps(header).encode()
    with pytest.raises(InvalidRequest):
        check(tmp_path, base, len(encoded).to_bytes(8, "little") + encoded + data[8 + length :])


def test_a_pickle_under_the_name_of_a_safetensors_file_is_never_opened_as_one(tmp_path, base):
    with pytest.raises(InvalidRequest, match="no safetensors file"):
        check(tmp_path, base, b"\x80\x04cos\nsystem\n(S'touch " + str(tmp_path).encode() + b"/owned'\ntR.")
    assert not (tmp_path / "owned").exists()


# The folder


def test_a_folder_below_the_allowed_one_is_taken_by_its_relative_or_whole_path(tmp_path):
    folder = write_adapter(tmp_path / "runs/run-1/adapter")
    assert check_folder(folder, tmp_path / "runs") == folder
    assert check_folder(folder.relative_to(tmp_path / "runs"), tmp_path / "runs") == folder


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "run-1/../../outside",
        "run-1/../run-1",
        "..",
        "/etc",
        "nothing",
        "a" * 5000,
        "a\0b",
        "out",
        "circle",
    ],
)
def test_a_path_that_leads_out_or_nowhere_is_refused(tmp_path, path):
    write_adapter(tmp_path / "outside")
    runs = tmp_path / "runs"
    (runs / "run-1").mkdir(parents=True)
    (runs / "out").symlink_to(tmp_path / "outside")
    (runs / "circle").symlink_to(runs / "circle")
    with pytest.raises(InvalidRequest, match="The adapter path"):
        check_folder(type(runs)(path), runs)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_is_absent_or_empty_or_a_link_or_a_pipe_or_too_large_is_refused(tmp_path, name):
    folder = write_adapter(tmp_path / "adapter")
    elsewhere = tmp_path / "elsewhere"
    (folder / name).rename(elsewhere)
    with pytest.raises(InvalidRequest, match=f"holds no {name}"):
        check_folder(folder, tmp_path)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(InvalidRequest, match="is a link"):
        check_folder(folder, tmp_path)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InvalidRequest, match="no plain file"):
        check_folder(folder, tmp_path)
    (folder / name).unlink()
    (folder / name).touch()
    with pytest.raises(InvalidRequest, match="has 0 bytes"):
        check_folder(folder, tmp_path)
    os.truncate(folder / name, 2**35)  # a hole: no block of the disk is used
    with pytest.raises(InvalidRequest, match="34359738368 bytes"):
        check_folder(folder, tmp_path)


# The base model


def test_a_base_model_is_known_by_its_bytes_and_its_shapes(tmp_path, base):
    assert base.name == "tiny"
    assert base.shapes[f"{MODULES[0]}.weight"] == (4, 6)
    assert describe_base(tmp_path / "models/tiny").sha256 == base.sha256
    (tmp_path / "models/tiny/config.json").write_text('{"changed": 1}')
    assert describe_base(tmp_path / "models/tiny").sha256 != base.sha256


def test_a_folder_without_a_model_or_with_a_damaged_one_stops_the_start(tmp_path, base):
    with pytest.raises(ConfigurationError, match="holds no model"):
        describe_base(tmp_path)
    weights = tmp_path / "models/tiny/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ConfigurationError, match="base model that is served"):
        describe_base(tmp_path / "models/tiny")


def test_the_hash_of_several_files_is_that_of_sha256sum_s_output(tmp_path):
    # printf 'a' > a; printf 'b' > b; sha256sum a b | sha256sum
    a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    b = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
    assert combined_sha256({"b": b, "a": a}) == "cb13f400dcb618e400d0f7d54f7cdb330d37a07272cb99a1016cda5830a10556"
