"""Puts KTO rows into the order that they are trained in, and weighs the two classes. Pure.

TRL 1.16 estimates the KL term of KTO by giving each prompt another completion of its own batch, and takes batches in
the order of the rows (``train_sampling_strategy="sequential"``). So no batch may hold a prompt twice, and each should
hold both classes; TRL sees to neither. The order is for one process with whole batches; several must share the rows by
whole batches.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KtoOrder:
    """Where the rows go."""

    places: tuple[int, ...]
    """Every place of the input once."""
    collisions: int
    """Rows that stand in a batch with an equal prompt, because nothing else was left for it."""


def order_for_kto(labels: Sequence[bool], prompts: Sequence[Hashable], batch_size: int) -> KtoOrder:
    """Return an order in which each batch has its share of both classes, and no prompt twice where that can be.

    Otherwise the rows keep their order, so shuffle them first.

    Args:
        labels: One a row; True is desirable.
        prompts: One a row; equal where the prompts are.
        batch_size: Rows that one process takes at once, >= 1. The last batch may have fewer.
    """
    plan = _Plan(labels, prompts)
    places: list[int] = []
    collisions = 0
    batches = -(-len(labels) // batch_size)
    for number in range(batches):
        batch, repeated = plan.take_batch(min(batch_size, len(labels) - len(places)), batches - number)
        places += batch
        collisions += repeated
    return KtoOrder(tuple(places), collisions)


def class_weights(desirable: int, undesirable: int) -> tuple[float, float]:
    """Return KTO weights (desirable, undesirable) under which both classes weigh the same in all; the lower one is 1.

    TRL asks for (w_D n_D) / (w_U n_U) in [1, 4/3] and cites equation 8 of https://arxiv.org/abs/2402.01306 (as TRL's
    documentation and KTO trainer before 1.0 say it; the paper itself was not read). This is the lower end of that.

    Args:
        desirable, undesirable: Rows of each class, >= 1.
    """
    return max(1.0, undesirable / desirable), max(1.0, desirable / undesirable)


class _Plan:
    """The rows that have no place yet."""

    def __init__(self, labels: Sequence[bool], prompts: Sequence[Hashable]) -> None:
        self._labels, self._prompts = labels, prompts
        self._queues: dict[bool, deque[int]] = {True: deque(), False: deque()}
        self._rows_of: dict[Hashable, dict[bool, deque[int]]] = defaultdict(lambda: {True: deque(), False: deque()})
        for place, (label, prompt) in enumerate(zip(labels, prompts, strict=True)):
            self._queues[label].append(place)
            self._rows_of[prompt][label].append(place)
        self._left = Counter(prompts)
        # Prompts by how many of their rows are left. Dicts for sets that keep their order.
        self._prompts_with: dict[int, dict[Hashable, None]] = defaultdict(dict)
        for prompt, count in self._left.items():
            self._prompts_with[count][prompt] = None
        self._taken = [False] * len(labels)
        self._taken_of = {True: 0, False: 0}
        self._desirable = sum(labels)

    def take_batch(self, size: int, batches_left: int) -> tuple[list[int], int]:
        """Take the rows of the next batch; and how many of them stand with an equal prompt.

        Args:
            batches_left: Including this one.
        """
        total = len(self._labels)
        done = sum(self._taken_of.values())
        # The share of all rows so far, rounded to the nearest, so that batches do not drift from it.
        target = (2 * (done + size) * self._desirable + total) // (2 * total)
        wanted = {True: target - self._taken_of[True]}
        wanted[False] = size - wanted[True]
        used: set[Hashable] = set()
        batch: list[int] = []
        collisions = 0
        # A prompt with a row for every batch that is left has to be in each of them.
        due = [p for n in sorted(self._prompts_with, reverse=True) if n >= batches_left for p in self._prompts_with[n]]
        for prompt in due[:size]:
            rows = self._rows_of[prompt]
            label = max((True, False), key=lambda label: (bool(rows[label]), wanted[label]))
            batch.append(self._take(rows[label][0], wanted, used))
        while len(batch) < size:
            place = self._find(wanted, used)
            if place is None:
                place = next(each for label in self._by_want(wanted) for each in self._untaken(label))
                collisions += 1
            batch.append(self._take(place, wanted, used))
        return self._alternate(batch), collisions

    def _find(self, wanted: dict[bool, int], used: set[Hashable]) -> int | None:
        """The first row of a prompt that the batch has not, of the class that it lacks most, if there is one."""
        for label in self._by_want(wanted):
            for place in self._untaken(label):
                if self._prompts[place] not in used:
                    return place
        return None

    def _by_want(self, wanted: dict[bool, int]) -> list[bool]:
        return sorted((True, False), key=lambda label: wanted[label], reverse=True)

    def _untaken(self, label: bool) -> Iterator[int]:
        queue = self._queues[label]
        while queue and self._taken[queue[0]]:
            queue.popleft()
        return (place for place in queue if not self._taken[place])

    def _take(self, place: int, wanted: dict[bool, int], used: set[Hashable]) -> int:
        label, prompt = self._labels[place], self._prompts[place]
        self._taken[place] = True
        self._taken_of[label] += 1
        wanted[label] -= 1
        used.add(prompt)
        self._rows_of[prompt][label].remove(place)
        count = self._left[prompt]
        del self._prompts_with[count][prompt]
        if not self._prompts_with[count]:
            del self._prompts_with[count]
        self._left[prompt] = count - 1
        if count > 1:
            self._prompts_with[count - 1][prompt] = None
        return place

    def _alternate(self, batch: list[int]) -> list[int]:
        """Both classes spread evenly over the batch."""
        at: list[tuple[float, int]] = []
        for label in (True, False):
            of_class = [place for place in batch if self._labels[place] is label]
            at += [((number + 0.5) / len(of_class), place) for number, place in enumerate(of_class)]
        return [place for _, place in sorted(at)]
