"""Which row is trained on when: the whole run's rows in one list, so that every step is known before the first. Pure.

So the trainer needs no sampler of its own: a resumed run sees what an uninterrupted one sees, and several workers take
whole batches of the same list in turn.
"""

import random
from collections.abc import Hashable, Sequence

from training.kto_order import order_for_kto


def order_by_weight(weights: Sequence[float], count: int, seed: int) -> list[int]:
    """Return ``count`` places, pass after pass over the rows, each shuffled anew; rows come as often as they weigh.

    Weights are applied by sampling: a row of weight 1 is in every pass, one of 0.5 in every second, and half of those
    in the even passes (systematic sampling: after k passes a row of weight w came floor(k w) or ceil(k w) times). So
    the loss stays the method's own, and a light row costs no step when it is not drawn.

    Args:
        weights: One a row, above 0.
    """
    chance = random.Random(f"weights {seed}")
    offsets = [chance.random() for _ in weights]
    order: list[int] = []
    number = 0
    while len(order) < count:
        drawn = [
            place
            for place, (weight, offset) in enumerate(zip(weights, offsets, strict=True))
            for _ in range(int(weight * (number + 1) + offset) - int(weight * number + offset))
        ]
        random.Random(f"pass {number} {seed}").shuffle(drawn)
        order += drawn
        number += 1
    return order[:count]


def order_in_batches(
    labels: Sequence[bool], prompts: Sequence[Hashable], batch_size: int, batches: int, seed: int, is_ordered: bool
) -> list[int]:
    """Return places for KTO: whole batches, each with both classes and no prompt twice, as far as the rows allow.

    The rows that fill no batch at the end of a pass are left to the next one, which is shuffled anew: TRL pairs each
    prompt with another answer of its batch, and a batch of one row has none.

    Args:
        labels: One a row.
        prompts: One a row; equal where the prompts are.
        batch_size: 2 to ``len(labels)``.
        batches: How many to return.
        is_ordered: The rows stand in the order of `order_for_kto` already; the first pass keeps it.
    """
    order: list[int] = []
    number = 0
    while len(order) < batches * batch_size:
        places = list(range(len(labels)))
        if number or not is_ordered:
            random.Random(f"pass {number} {seed}").shuffle(places)
            shuffled = order_for_kto([labels[p] for p in places], [prompts[p] for p in places], batch_size)
            places = [places[p] for p in shuffled.places]
        order += places[: len(places) // batch_size * batch_size]
        number += 1
    return order[: batches * batch_size]
