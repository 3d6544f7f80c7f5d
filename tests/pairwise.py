"""A small set of combinations in which every two values meet."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product

type Value = str | None
type Pair = frozenset[tuple[str, Value]]


def all_pairs(values: Mapping[str, Sequence[Value]]) -> Iterator[Pair]:
    """Yield every two values of different names, each with its name."""
    for one, other in combinations(values, 2):
        for first, second in product(values[one], values[other]):
            yield frozenset({(one, first), (other, second)})


def pairs_in(combination: Mapping[str, Value]) -> Iterator[Pair]:
    """Yield every two values that meet in a combination."""
    return map(frozenset, combinations(combination.items(), 2))


def pairwise(values: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Return combinations, with a value for each of two names or more, in which all pairs meet.

    Most faults need one value, or two that meet, so these few find nearly what all would find.
    The result is the same each time: the shortest that one of the orders of the names leads to.
    """
    names = list(values)
    orders = [names[start:] + names[:start] for start in range(len(names))]
    return min((_combine({name: values[name] for name in order}) for order in orders), key=len)


def _combine(values: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    # A dictionary, because a set of strings has another order in each process.
    missing = dict.fromkeys(all_pairs(values))
    used: Counter[tuple[str, Value]] = Counter()
    found: list[dict[str, Value]] = []
    while missing:
        chosen = dict(next(iter(missing)))
        for name in values:
            if name not in chosen:
                # Of equal values, the one that was taken less often leaves fewer pairs for later.
                worth = {
                    value: (
                        sum(pair in missing for pair in pairs_in(chosen | {name: value})),
                        -used[name, value],
                    )
                    for value in values[name]
                }
                chosen[name] = max(worth, key=worth.__getitem__)
        for pair in pairs_in(chosen):
            missing.pop(pair, None)
        used.update(chosen.items())
        found.append(chosen)
    return found
