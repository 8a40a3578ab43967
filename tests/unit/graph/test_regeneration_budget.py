"""Which answers may be written again."""

import pytest

from graph.regeneration_budget import RegenerationBudget, RegenerationBudgets


def answers(budget: RegenerationBudget, count: int, reason: str, helps: bool) -> int:
    """How many of ``count`` answers that all fail for ``reason`` are written again."""
    written = 0
    for _ in range(count):
        budget.count()
        if budget.allow(reason):
            written += 1
            budget.tell(reason, helps)
    return written


def test_a_fifth_of_all_answers_may_be_written_again_where_it_helps() -> None:
    assert answers(RegenerationBudget(0.2), 500, "repetition", helps=True) == pytest.approx(100, abs=1)


def test_what_never_helps_is_tried_less_and_less_and_never_given_up() -> None:
    budget = RegenerationBudget(0.2)
    assert answers(budget, 500, "language sv", helps=False) < 15
    assert answers(budget, 64, "language sv", helps=False) == 1


def test_a_reason_that_never_helps_leaves_the_others_theirs() -> None:
    budget = RegenerationBudget(0.2)
    helped = sum(
        answers(budget, 1, "language sv", False) * 0 + answers(budget, 1, "repetition", True) for _ in range(250)
    )
    assert helped > 80


def test_what_helps_again_waits_no_longer() -> None:
    budget = RegenerationBudget(0.2)
    for _ in range(3):
        budget.tell("relevance", False)
    assert answers(budget, 7, "relevance", helps=True) == 0
    assert answers(budget, 1, "relevance", helps=True) == 1
    assert answers(budget, 5, "relevance", helps=True) >= 1


def test_after_a_quiet_time_ten_may_come_in_a_row_and_no_more() -> None:
    budget = RegenerationBudget(0.2)
    for _ in range(1000):
        budget.count()
    assert answers(budget, 20, "empty", helps=True) in range(10, 15)


def test_with_a_share_of_one_each_may_be_written_again_and_with_none_no_answer() -> None:
    assert answers(RegenerationBudget(1.0), 50, "language sv", helps=False) == 50
    assert answers(RegenerationBudget(0.0), 50, "empty", helps=True) == 0


def test_what_one_tenant_asks_for_in_vain_costs_the_others_nothing() -> None:
    budgets = RegenerationBudgets()
    answers(budgets.of("a", 0.2), 100, "relevance", helps=False)
    assert answers(budgets.of("b", 0.2), 100, "relevance", helps=True) in range(19, 23)
    assert answers(budgets.of("a", 0.2), 1, "relevance", helps=False) == 0
    assert budgets.of("a", 1.0).allow("relevance")


def test_only_a_thousand_tenants_are_remembered_and_the_one_unseen_for_longest_is_forgotten() -> None:
    budgets = RegenerationBudgets()
    first, second = budgets.of("0", 0.2), budgets.of("1", 0.2)
    for number in range(2, 1000):
        budgets.of(str(number), 0.2)
    assert budgets.of("0", 0.2) is first
    budgets.of("1000", 0.2)
    assert budgets.of("0", 0.2) is first
    assert budgets.of("1", 0.2) is not second
