"""The whole of ``python -m training curate`` without Ray, from a real log to a dataset."""

import json
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.durability.recording import QuickFiles
from deployments.feedback.compaction import compact
from graph.errors import InvalidRequest, NotFound
from tests.cluster import ROOT
from tests.curation_log import CurationLog, fill
from training.__main__ import main
from training.curate import LogSource, curate, prepare_in_process
from training.curation import METHODS, SPLITS, CurationParameters
from training.dataset_store import datasets_with, list_datasets

PARAMETERS = CurationParameters()


@pytest.fixture
def log(tmp_path):
    return CurationLog(tmp_path / "log")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "datasets"


def make(log, root, parameters=PARAMETERS, **options):
    source = LogSource(log.write())
    return curate(root, parameters, **{"log": source, "files": QuickFiles(), **options})


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def everything(log):
    """Every kind of signal, duplicates, contradictions, erasures and a rater with too much to say."""
    fill(log)
    for number in range(30):
        log.thumb(log.answer(), source_id="loud")
        first, second = log.answer(answer=f"First {number}."), log.answer(answer=f"Second, {number * 3} times.")
        log.prefer(first, second, "other" if number % 2 else "this", source_id=f"rater-{number % 24}")
    log.thumb(log.answer(failed_checks=["secrets"], outcome="degraded"))
    log.implicit(log.answer(), "copied")
    log.erase(log.thumb(log.answer()))
    return log


def test_a_log_becomes_a_dataset_of_all_methods_and_splits(log, root):
    dataset = make(everything(log), root)
    manifest = dataset.manifest
    for method in METHODS:
        assert manifest["methods"][method]["usable"], manifest["methods"][method]["reason"]
        for split in SPLITS:
            rows = dataset.read(method, split)
            assert rows.num_rows == manifest["methods"][method]["splits"][split]["rows"] > 0
            assert rows.num_rows == manifest["files"][f"{method}-{split}.parquet"]["rows"]
    assert manifest["methods"]["kto"]["left_out"]["liked_but_failed_check"] == 1
    assert manifest["methods"]["kto"]["left_out"]["rater_limit"] > 0
    assert manifest["for_no_method"] == {"other_signal": 1}
    assert manifest["parameters"]["rater_share"] == 0.05


def test_the_same_log_gives_the_same_name_and_bytes_live_or_compacted_or_exported(log, root, tmp_path):
    first = make(everything(log), root / "1")
    before = contents(first.folder)
    exported = make(log, root / "2", exports=[log.export(tmp_path / "out")])
    compact(log.root)
    again = make(log, root / "3")
    assert first.name == exported.name == again.name
    assert before == contents(exported.folder) == contents(again.folder)


def test_the_order_and_size_of_what_a_runner_returns_do_not_matter(log, root):
    def backwards(paths, prepare, on_rows):
        rows = pa.concat_tables(pq.read_table(path) for path in paths)
        parts = [prepare(rows.slice(start, 7)) for start in range(0, rows.num_rows, 7)]
        return pa.concat_tables(parts[::-1])

    everything(log)
    assert make(log, root / "1").name == make(log, root / "2", runner=backwards).name


def test_each_parameter_and_each_new_row_makes_another_dataset(log, root):
    fill(log)
    names = [make(log, root).name]
    for changes in ({"seed": 1}, {"rater_share": 0.1}, {"near_duplicate": 0.9}, {"kto_batch_size": 4}):
        names.append(make(log, root, replace(PARAMETERS, **changes)).name)
    log.thumb(log.answer(), source_id="rater-3")
    names.append(make(log, root).name)
    assert len(set(names)) == len(names)
    assert list_datasets(root) == sorted(names)


def test_a_rebuilt_dataset_needs_the_same_rows_only_not_the_same_tombstones_of_others(log, root):
    first = make(fill(log), root)
    log.erase("somebody-else's")
    assert make(log, root).name == first.name


def test_a_tombstone_takes_the_row_out_of_the_next_dataset_and_lists_the_one_that_has_it(log, root):
    fill(log)
    event = log.thumb(about := log.answer(), source_id="rater-5")
    first = make(log, root)
    assert datasets_with(root, [event]) == datasets_with(root, [about]) == [first.name]
    log.erase(about, "generation")
    second = make(log, root)
    assert datasets_with(root, [event]) == [first.name]
    assert second.name != first.name
    for method in METHODS:
        assert {event, about}.isdisjoint(second.event_ids(method))


def test_what_was_erased_after_the_export_is_left_out_where_the_log_is_named(log, root, tmp_path):
    fill(log)
    event = log.thumb(log.answer(), source_id="rater-5")
    exported = log.export(tmp_path / "out")
    log.erase(event)
    for compacted in (False, True):
        dataset = make(log, root, exports=[exported])
        assert dataset.manifest["methods"]["kto"]["left_out"]["erased"] == 1
        assert event not in dataset.event_ids("kto")
        if not compacted:
            compact(log.root)


def test_the_dataset_of_a_fixed_log_is_pinned(log, root):
    # What equal rows become is a promise. If this fails on purpose, raise CURATION_VERSION and pin the new one.
    dataset = make(everything(log), root)
    assert dataset.manifest["code"]["curation"] == 1
    assert dataset.manifest["row_ids_sha256"] == "4fbacd780df95df8b6c40cfd5ac08ed9d42e4f0e8d0f39cb668813e9474b058f"


def code_of(error):
    return error.value.code


def test_a_log_without_feedback_says_so(log, root):
    log.answer()
    with pytest.raises(InvalidRequest, match=r"There is no feedback in .*log that speaks of an answer. Send") as error:
        make(log, root)
    assert code_of(error) == "no_feedback"
    assert list(root.iterdir()) == [root / "datasets.lock"]


def test_feedback_that_no_method_can_use_names_each_methods_reason(log, root):
    for number in range(30):
        log.thumb(log.answer(), source_id=f"r{number}")
    with pytest.raises(InvalidRequest) as error:
        make(log, root)
    assert code_of(error) == "one_class"
    assert [line.split(":")[0].strip() for line in error.value.message.splitlines()[1:]] == list(METHODS)
    assert list_datasets(root) == []


def test_a_required_method_that_is_not_usable_stops_a_dataset_that_others_could_use(log, root):
    for number in range(30):
        log.thumb(log.answer(), up=number % 2 == 0, source_id=f"r{number}")
    parameters = replace(PARAMETERS, eval_share=0.3, vault_share=0.3)
    dataset = make(log, root, parameters, required=["kto"])
    assert [dataset.manifest["methods"][method]["usable"] for method in METHODS] == [True, False, False]
    with pytest.raises(InvalidRequest, match=r"sft: no row. Send corrections") as error:
        make(log, root, parameters, required=["sft"])
    assert code_of(error) == "no_feedback"


def test_too_few_raters_and_an_empty_split_are_told_by_their_codes(log, root):
    for number in range(30):
        log.thumb(
            log.answer(prompt=[{"role": "user", "content": "Begin."}]), up=number % 2 == 0, source_id=f"r{number % 4}"
        )
    with pytest.raises(InvalidRequest, match="20 are needed") as error:
        make(log, root)
    assert code_of(error) == "too_few_raters"
    with pytest.raises(InvalidRequest, match="is empty") as error:
        make(log, root, replace(PARAMETERS, rater_share=0.5))
    assert code_of(error) == "empty_split"


def test_a_log_or_export_that_is_not_there_is_not_found(log, root, tmp_path):
    with pytest.raises(NotFound, match="There is no log"):
        curate(root, PARAMETERS, log=LogSource(tmp_path / "none"))
    with pytest.raises(NotFound, match="There is no export"):
        curate(root, PARAMETERS, exports=[tmp_path / "none.parquet"])
    with pytest.raises(InvalidRequest, match="name a log"):
        curate(root, PARAMETERS)


def test_a_file_of_other_columns_or_damaged_is_no_export(log, root, tmp_path):
    path = fill(log).export(tmp_path / "out")
    pq.write_table(pq.read_table(path).drop_columns(["served"]), tmp_path / "old.parquet")
    with pytest.raises(InvalidRequest, match="differ, first at 'served'"):
        curate(root, PARAMETERS, exports=[tmp_path / "old.parquet"])
    (tmp_path / "text.parquet").write_text("event_id,kind")
    with pytest.raises(InvalidRequest, match="no Parquet file, or damaged"):
        curate(root, PARAMETERS, exports=[tmp_path / "text.parquet"])
    assert list_datasets(root) == []


def test_a_flipped_byte_in_an_export_is_refused_or_changes_no_row(log, root, tmp_path):
    path = fill(log).export(tmp_path / "out")
    whole = make(log, root, exports=[path]).manifest["row_ids_sha256"]
    data, bad = path.read_bytes(), tmp_path / "bad.parquet"
    refused = 0
    for at in range(5, len(data), len(data) // 16):
        bad.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        try:
            assert make(log, root, exports=[bad]).manifest["row_ids_sha256"] == whole
        except InvalidRequest as error:
            assert "no Parquet file, or damaged" in error.message or "its columns differ" in error.message  # noqa: PT017
            refused += 1
    assert refused > 8


def test_two_exports_of_parts_are_one_and_of_the_same_part_are_refused(log, root, tmp_path):
    path = fill(log).export(tmp_path / "out")
    whole = pq.read_table(path)
    for name, part in (("a", whole.slice(0, 50)), ("b", whole.slice(50))):
        pq.write_table(part, tmp_path / f"{name}.parquet")
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    one, two = (make(log, root, exports=each) for each in ([path], parts[::-1]))
    assert one.manifest["row_ids_sha256"] == two.manifest["row_ids_sha256"]
    with pytest.raises(InvalidRequest, match="twice") as error:
        make(log, root, exports=[path, parts[0]])
    assert code_of(error) == "repeated_event"


def test_an_export_that_changes_while_it_is_read_is_refused(log, root, tmp_path):
    path = fill(log).export(tmp_path / "out")

    def swap(paths, prepare, on_rows):
        found = prepare_in_process(paths, prepare, on_rows)
        pq.write_table(pq.read_table(path).slice(1), path)
        return found

    with pytest.raises(InvalidRequest, match="was changed while it was read"):
        make(log, root, exports=[path], runner=swap)


def test_datasets_do_not_go_into_the_log_itself(log):
    with pytest.raises(InvalidRequest, match="is the log"):
        make(fill(log), log.root)


def test_the_steps_are_told_and_the_rows_counted_to_the_last(log, root):
    steps = []
    make(everything(log), root, on_step=lambda *step: steps.append(step))
    names = list(dict.fromkeys(step for step, _, _ in steps))
    assert names == ["exporting the log", "judging rows", *(f"choosing {method} rows" for method in METHODS), "writing"]
    rows = [(done, total) for step, done, total in steps if step == "judging rows"]
    assert rows[0][0] == 0
    assert rows[-1][0] == rows[-1][1] > 200


@pytest.fixture
def command(capsys, log, root):
    def command(*arguments):
        try:
            status = main(["curate", "--log", str(log.write()), "--out", str(root), "--workers", "0", *arguments])
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, " ".join(captured.err.split())

    return command


def test_the_command_prints_the_dataset_as_json_and_tables_beside(log, root, command):
    everything(log)
    status, out, err = command()
    assert status == 0
    told = json.loads(out)
    assert list_datasets(root) == [told["dataset"]]
    assert told["usable"] == list(METHODS)
    assert told["rows"]["kto"]["train"] > 50
    assert "liked_but_failed_check │ 1" in err


def test_the_command_names_what_cannot_be_used_and_fails_where_it_was_required(log, command):
    for number in range(60):
        log.thumb(log.answer(), up=number % 2 == 0, source_id=f"r{number}")
    status, out, err = command()
    assert (status, json.loads(out)["usable"]) == (0, ["kto"])
    assert "sft: no row. Send corrections" in err
    status, out, err = command("--require", "dpo")
    assert (status, out) == (2, "")
    assert "No dataset can be made of this feedback. dpo: no row." in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rater-share", "2"], "rater_share is 2.0"),
        (["--metric", "thumbs"], "did you mean 'thumb'"),
        (["--guard", "leak"], "'leak' is no check"),
        (["--rows", "x.parquet", "--since", "7d"], "choose them at the export"),
        (["--workers", "-1"], "it must be 0 or more"),
        (["--since", "yesterday"], "is no period"),
        (["--require", "ppo"], "invalid choice"),
    ],
)
def test_wrong_usage_is_status_two_with_what_is_allowed(log, command, arguments, message):
    log.thumb(log.answer())
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_the_help_and_the_core_bring_nothing_heavy():
    code = (
        "import sys\nfrom training.__main__ import main\nimport training.selection, training.dataset_store, training.curate\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(*[m for m in ('ray', 'torch', 'vllm', 'transformers', 'trl') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "curate" in done.stdout
    assert done.stderr.strip() == ""
