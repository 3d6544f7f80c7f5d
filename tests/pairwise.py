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
    Every combination begins with the first pair that is still missing, and takes for each other
    name the value that brings the most missing pairs. The result is the same each time.
    """
    # A dictionary, because a set of strings has another order in each process.
    missing = dict.fromkeys(all_pairs(values))
    found: list[dict[str, Value]] = []
    used: Counter[tuple[str, Value]] = Counter()
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
        found.append({name: chosen[name] for name in values})
    return found
