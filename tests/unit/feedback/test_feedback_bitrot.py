import pytest

from benchmarks.durability.bitrot import CLASSES, bitrot


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    outcome = bitrot(300, seed=5, scratch=tmp_path_factory.mktemp("bitrot"), processes=1)
    *rows, total = outcome.rows
    assert total["flips"] == 300
    return rows


def test_flipped_bits_give_no_reader_a_wrong_row(rows):
    for row in rows:
        assert (row["flips"], row["silent"]) == (30, 0), row
        # Each flip ends in one of these: no reader of ours crashes.
        assert sum(row[name] for name in CLASSES) == 30, row


def test_what_has_a_checksum_over_every_byte_takes_no_flip_without_a_word(rows):
    for row in rows:
        if row["reader"] == "sha256" or (
            row["reader"] == "snapshot" and row["file"] in ("sealed segment", "archive manifest")
        ):
            assert row["detected"] == 30, row


def test_no_reader_misses_rows_of_a_damaged_file_without_a_word(rows):
    assert [row for row in rows if row["not found"]] == []
