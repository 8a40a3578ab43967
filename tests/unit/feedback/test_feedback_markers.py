from deployments.feedback.markers import derive_id, tombstone_id, tombstone_row, undelivered_id, undelivered_row
from deployments.feedback.schema import is_intact


def test_the_same_thing_said_twice_is_one_row():
    for one, other in (
        (tombstone_row("gen-1", "generation", "acme", 1), tombstone_row("gen-1", "generation", "acme", 2)),
        (undelivered_row("gen-1", "acme", 1), undelivered_row("gen-1", "acme", 2)),
    ):
        assert is_intact(one)
        assert (one["event_id"], one["content_hash"]) == (other["event_id"], other["content_hash"])


def test_a_tombstone_says_what_it_erases_and_is_not_about_it():
    row = tombstone_row("gen-1", "generation", "acme", 7)
    assert (row["kind"], row["name"], row["supersedes"], row["tenant"]) == ("tombstone", "generation", "gen-1", "acme")
    # A row about the generation would be erased with it.
    assert row["generation_id"] is None
    assert row["event_id"] == tombstone_id("gen-1")


def test_ids_on_disk_stay_what_they_are():
    assert tombstone_id("gen-1") == "21534dda-c067-59b9-8bba-73ca146e58d5"
    assert undelivered_id("gen-1") == "14879f2a-2088-59ce-9e2a-821330dde3c3"


def test_ids_of_different_things_differ():
    ids = [tombstone_id("a"), undelivered_id("a"), derive_id("a", "bc"), derive_id("ab", "c"), derive_id("abc")]
    assert len(set(ids)) == len(ids)
