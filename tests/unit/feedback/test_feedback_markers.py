import uuid

from hypothesis import given
from hypothesis import strategies as st

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
    assert tombstone_id("gen-1") == "cb25019a-761b-8330-8e7e-ac3049a5d729"
    assert undelivered_id("gen-1") == "18b4ad8b-8986-897f-a2e6-7330b06fea50"


@given(st.lists(st.text()))
def test_derived_ids_are_of_the_version_that_no_sender_may_use(parts):
    made = uuid.UUID(derive_id(*parts))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)


def test_ids_of_different_things_differ():
    ids = [tombstone_id("a"), undelivered_id("a"), derive_id("a", "bc"), derive_id("ab", "c"), derive_id("abc")]
    assert len(set(ids)) == len(ids)
