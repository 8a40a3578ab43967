"""Whose turn it is: fair between tenants, first come, first served within one."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from deployments.ingress.fair_queue import FairQueue


@dataclass(eq=False)
class Entry:
    tenant: str
    count: int = 1


def filled(*entries: Entry) -> FairQueue[Entry]:
    queue: FairQueue[Entry] = FairQueue()
    for entry in entries:
        queue.push(entry)
    return queue


def serve_all(queue: FairQueue[Entry]) -> list[Entry]:
    served = []
    while (head := queue.head()) is not None:
        queue.serve_head()
        served.append(head)
    return served


def test_one_tenant_is_served_in_the_order_of_arrival() -> None:
    entries = [Entry("a", count) for count in (3, 1, 2)]
    queue = filled(*entries)
    assert queue.waiting == 6
    assert serve_all(queue) == entries
    assert queue.waiting == 0


def test_tenants_take_turns_however_many_requests_each_has() -> None:
    queue = filled(*(Entry("a") for _ in range(6)), Entry("b"), Entry("b"))
    assert "".join(entry.tenant for entry in serve_all(queue)) == "ababaaaa"


def test_turns_are_counted_in_places_and_not_in_requests() -> None:
    queue = filled(Entry("a", 4), Entry("a", 4), *(Entry("b") for _ in range(6)))
    assert "".join(entry.tenant for entry in serve_all(queue)) == "abbbbabb"


def test_a_tenant_that_comes_late_has_saved_nothing_up() -> None:
    queue = filled(*(Entry("a") for _ in range(20)))
    for _ in range(10):
        queue.serve_head()
    for _ in range(4):
        queue.push(Entry("b"))
    assert "".join(entry.tenant for entry in serve_all(queue)) == "bababab" + "a" * 7


def test_a_tenant_that_never_has_two_requests_waiting_is_charged_for_those_it_had() -> None:
    queue = filled(*(Entry("a") for _ in range(6)), Entry("b"))
    served = ""
    for _ in range(8):
        head = queue.head()
        assert head is not None
        queue.serve_head()
        served += head.tenant
        if head.tenant == "b":
            queue.push(Entry("b"))
    assert served.count("a") == served.count("b") == 4


def test_who_leaves_unserved_costs_its_tenant_nothing() -> None:
    leaving = [Entry("a", 5) for _ in range(3)]
    queue = filled(*leaving, Entry("a"), Entry("b"), Entry("b"))
    for entry in leaving:
        queue.remove(entry)
    assert "".join(entry.tenant for entry in serve_all(queue)) == "abb"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=20), st.sampled_from("abc"))
def test_what_is_told_of_the_next_request_is_what_becomes_of_it(arrivals: list[tuple[str, int]], tenant: str) -> None:
    queue = filled(*(Entry(*arrival) for arrival in arrivals))
    for _ in range(len(arrivals) // 3):
        queue.serve_head()
    before, behind, last_first = queue.before_next(tenant), queue.last_first(tenant), queue.last_first()
    newcomer = Entry(tenant)
    queue.push(newcomer)
    served = serve_all(queue)
    at = served.index(newcomer)
    assert sum(entry.count for entry in served[:at]) == before
    assert served[at + 1 :] == behind[::-1]
    assert served[:at] + served[at + 1 :] == last_first[::-1]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), min_size=1, max_size=40))
def test_while_both_wait_neither_is_more_than_one_request_ahead(arrivals: list[tuple[str, int]]) -> None:
    queue = filled(*(Entry(*arrival) for arrival in arrivals))
    left = {tenant: sum(count for name, count in arrivals if name == tenant) for tenant in "ab"}
    had = {"a": 0, "b": 0}
    for entry in serve_all(queue):
        had[entry.tenant] += entry.count
        left[entry.tenant] -= entry.count
        if all(left.values()):
            assert abs(had["a"] - had["b"]) <= 4
