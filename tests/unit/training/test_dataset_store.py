import hashlib
import itertools
import json
import random
import shutil

import pyarrow as pa
import pytest

from benchmarks.durability.recording import Crash, QuickFiles, RecordingFiles
from deployments.feedback.files import try_lock
from graph.errors import InternalError, InvalidRequest, NotFound, Unavailable
from training.curation import METHODS, SPLITS
from training.dataset_store import (
    LOCK,
    datasets_with,
    encode_manifest,
    file_name,
    list_datasets,
    locked,
    open_dataset,
    write_dataset,
)
from training.selection import ROW_SCHEMAS


@pytest.fixture
def root(tmp_path):
    return tmp_path / "datasets"


def make_tables(events=("event-1",)):
    row = {
        "prompt": [{"role": "user", "content": "Why?"}],
        "completion": [{"role": "assistant", "content": "So."}],
        "chosen": [{"role": "assistant", "content": "So."}],
        "rejected": [{"role": "assistant", "content": "No."}],
        "label": True,
        "source": "thumb",
        "weight": 1.0,
        "tenant": "acme",
    }
    rows = [{**row, "event_id": each, "event_ids": [each, f"answer of {each}"]} for each in events]
    return {
        file_name(method, split): pa.Table.from_pylist(rows, schema=ROW_SCHEMAS[method])
        for method in METHODS
        for split in SPLITS
    }


def make_manifest(**changes):
    report = {"usable": True, "reason": None}
    return {"format": 1, "methods": dict.fromkeys(METHODS, report), **changes}


def write(root, files=None, events=("event-1",), **changes):
    with locked(root, files or QuickFiles()):
        return write_dataset(root, make_tables(events), make_manifest(**changes), events, files or QuickFiles())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_dataset_is_called_by_the_hash_of_its_manifest_which_has_the_hash_of_each_file(root):
    dataset = write(root)
    files = contents(dataset.folder)
    assert dataset.name == hashlib.sha256(files.pop("manifest.json")).hexdigest()
    assert sorted(files) == sorted(f"{method}-{split}.parquet" for method in METHODS for split in SPLITS)
    for name, data in files.items():
        told = dataset.manifest["files"][name]
        assert (told["sha256"], told["size_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert open_dataset(root, dataset.name) == dataset


def test_the_same_again_is_the_same_dataset_and_bytes_wherever_it_is_written(root, tmp_path):
    dataset = write(root)
    before = contents(dataset.folder)
    assert write(root) == dataset
    other = write(tmp_path / "elsewhere")
    assert other.name == dataset.name
    assert before == contents(dataset.folder) == contents(other.folder)
    assert write(root, seed=1).name != dataset.name
    assert list_datasets(root) == sorted({dataset.name, write(root, seed=1).name})


def test_how_a_table_is_chunked_does_not_change_the_bytes(root, tmp_path):
    # So many and long that pages end inside a chunk: only there does Arrow let the chunks be seen.
    rng = random.Random(1)
    events = [rng.randbytes(400).hex() for _ in range(3000)]
    name = file_name("kto", "train")
    whole = make_tables(events)[name]
    chunked = pa.concat_tables([whole.slice(0, 7), whole.slice(7, 700), whole.slice(707)])
    names = []
    for folder, table in ((root, whole), (tmp_path / "other", chunked)):
        with locked(folder, QuickFiles()):
            names.append(write_dataset(folder, {name: table}, make_manifest(), events, QuickFiles()).name)
    assert names[0] == names[1]


def test_rows_are_read_in_their_order_with_the_ids_behind_them(root):
    dataset = write(root, events=("event-2", "event-1"))
    assert dataset.read("kto", "train").column("event_id").to_pylist() == ["event-2", "event-1"]
    assert dataset.event_ids("dpo", ["train"]) == {"event-1", "event-2", "answer of event-1", "answer of event-2"}


def test_an_erased_event_lists_the_datasets_that_it_went_into(root):
    one, two = write(root, events=("event-1", "event-2")), write(root, events=("event-2",))
    assert datasets_with(root, ["event-1"]) == [one.name]
    assert datasets_with(root, ["event-2", "event-9"]) == sorted([one.name, two.name])
    assert datasets_with(root, ["event-9"]) == datasets_with(root / "none", ["event-1"]) == []
    shutil.rmtree(one.folder)
    assert datasets_with(root, ["event-1"]) == []


def test_a_crash_at_any_step_leaves_the_whole_dataset_or_none_and_the_next_run_no_litter(tmp_path):
    whole = contents(write(tmp_path / "whole").folder)
    for step in itertools.count():
        root = tmp_path / f"crash-{step}"
        with locked(root, QuickFiles()):
            pass
        left = [step]

        def fail(operation, left=left):
            left[0] -= 1
            return Crash() if left[0] < 0 else None

        try:
            # Outside `locked`, whose end a killed process does not see.
            write_dataset(root, make_tables(), make_manifest(), ["event-1"], RecordingFiles(fail=fail))
        except Crash:
            for name in list_datasets(root):
                assert contents(root / name) == whole
                assert datasets_with(root, ["event-1"]) == [name]
            write(root)
        (name,) = list_datasets(root)
        assert contents(root / name) == whole
        assert sorted(path.name for path in root.iterdir()) == sorted([LOCK, "lineage", name])
        shutil.rmtree(root)
        if left[0] >= 0:
            break
    assert step > 40


def test_each_file_and_folder_is_synced_before_the_name_appears(root):
    files = RecordingFiles()
    dataset = write(root, files)
    renamed = next(at for at, each in enumerate(files.log) if each[0] == "rename" and each[2] == dataset.folder)
    before = files.log[:renamed]
    unfinished = files.log[renamed][1]
    inodes = {each[2] for each in before if each[0] == "create" and each[1].parent == unfinished}
    assert len(inodes) == 10
    assert inodes <= {each[1] for each in before if each[0] == "sync"}
    assert ("sync_dir", unfinished) in before
    assert ("sync_dir", root) in files.log[renamed:]


def test_a_full_disk_leaves_no_dataset_and_no_litter(root):
    def fail(operation):
        return OSError(28, "No space left on device") if operation[0] == "write" and len(operation[2]) > 500 else None

    with pytest.raises(OSError, match="No space"):
        write(root, RecordingFiles(fail=fail))
    assert list_datasets(root) == []
    write(root)
    assert not list(root.glob(".unfinished-*"))


@pytest.mark.parametrize("name", ["kto-train.parquet", "manifest.json"])
def test_a_flipped_byte_is_found_before_anything_is_trained_on(root, name):
    dataset = write(root)
    path = dataset.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InternalError, match="damaged"):
        open_dataset(root, dataset.name).read("kto", "train")
    with pytest.raises(InternalError, match="damaged"):
        write(root)


def test_a_missing_file_is_damage(root):
    dataset = write(root)
    (dataset.folder / "kto-vault.parquet").unlink()
    with pytest.raises(InternalError, match="it is gone"):
        dataset.read("kto", "vault")


def test_a_method_that_is_not_usable_is_refused_with_its_reason(root):
    methods = {method: {"usable": method == "kto", "reason": "dpo: no row. Send corrections."} for method in METHODS}
    dataset = write(root, methods=methods)
    assert dataset.read("kto", "train").num_rows == 1
    with pytest.raises(InvalidRequest, match=r"cannot be used for dpo. dpo: no row. Send corrections"):
        dataset.read("dpo", "train")


@pytest.mark.parametrize("name", ["", "..", "../" + "a" * 64, "A" * 64, "a" * 63, "lineage"])
def test_a_name_that_is_no_hash_is_refused(root, name):
    with pytest.raises(InvalidRequest, match="64 digits"):
        open_dataset(root, name)


def test_a_dataset_that_is_not_there_is_not_found(root):
    with pytest.raises(NotFound, match="python -m training curate"):
        open_dataset(root, "a" * 64)


def test_of_two_curations_at_once_one_is_told_to_wait(root):
    with locked(root, QuickFiles()), pytest.raises(Unavailable, match="Another curation"), locked(root, QuickFiles()):
        pass
    lock = try_lock(root / LOCK)
    assert lock is not None
    lock.close()


def test_a_manifest_has_one_spelling():
    assert encode_manifest({"b": [1.5, "é"], "a": None}) == encode_manifest({"a": None, "b": [1.5, "é"]})
    assert json.loads(encode_manifest({"é": 0.05})) == {"é": 0.05}
    with pytest.raises(ValueError, match="JSON"):
        encode_manifest({"a": float("nan")})
