import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.kto_order import class_weights, order_for_kto

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=1, max_size=80)


def batches(order, size):
    return [order.places[start : start + size] for start in range(0, len(order.places), size)]


def count_repeats(rows, order, size):
    """Rows that stand in a batch with an equal prompt, the first of them aside."""
    return sum(len(batch) - len({rows[place][1] for place in batch}) for batch in batches(order, size))


@given(ROWS, st.integers(2, 9))
@settings(max_examples=300, deadline=None)
def test_every_row_comes_once_and_each_collision_is_told(rows, size):
    order = order_for_kto([label for label, _ in rows], [prompt for _, prompt in rows], size)
    assert sorted(order.places) == list(range(len(rows)))
    assert order.collisions == count_repeats(rows, order, size)


@given(st.integers(1, 30), st.integers(2, 9), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_no_batch_has_a_prompt_twice_where_there_are_whole_batches_and_no_prompt_has_more_rows_than_they(n, size, rng):
    # Column by column: each prompt has at most one row for each of the n batches.
    prompts, prompt = [], 0
    while len(prompts) < n * size:
        prompts += [prompt] * min(rng.randint(1, n), n * size - len(prompts))
        prompt += 1
    rows = [(rng.random() < 0.3, each) for each in prompts]
    rng.shuffle(rows)
    order = order_for_kto([label for label, _ in rows], [each for _, each in rows], size)
    assert order.collisions == 0
    assert count_repeats(rows, order, size) == 0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_every_batch_has_its_share_of_both_classes_spread_over_it(share):
    rng = random.Random(1)
    labels = [rng.random() < share for _ in range(400)]
    order = order_for_kto(labels, range(400), 10)
    wanted = 10 * sum(labels) / len(labels)
    for batch in batches(order, 10):
        of_batch = [labels[place] for place in batch]
        assert abs(sum(of_batch) - wanted) <= 1
        longest = max(len(run) for run in "".join("01"[label] for label in of_batch).split("01"[share < 0.5]))
        assert longest <= 10 // (1 + min(sum(of_batch), 10 - sum(of_batch))) + 1


def test_rows_of_different_prompts_keep_their_order_within_a_class():
    labels = [place % 3 == 0 for place in range(60)]
    order = order_for_kto(labels, range(60), 6)
    for label in (True, False):
        assert [place for place in order.places if labels[place] is label] == [
            place for place in range(60) if labels[place] is label
        ]


def test_one_prompt_alone_is_placed_and_counted():
    order = order_for_kto([True, False, True], ["a", "a", "a"], 2)
    assert (sorted(order.places), order.collisions) == ([0, 1, 2], 1)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_both_classes_weigh_the_same_in_all_and_the_larger_one_keeps_weight_one(desirable, undesirable):
    weights = class_weights(desirable, undesirable)
    assert weights[0] * desirable == pytest.approx(weights[1] * undesirable)
    assert min(weights) == 1


def test_a_long_list_of_many_prompts_is_ordered_without_a_collision():
    rng = random.Random(2)
    prompts = [rng.randrange(20_000) for _ in range(40_000)]
    order = order_for_kto([rng.random() < 0.5 for _ in prompts], prompts, 8)
    assert order.collisions == 0
    assert max(Counter(order.places).values()) == 1
