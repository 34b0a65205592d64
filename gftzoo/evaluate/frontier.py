"""Comparing two guidance curves where they are equal in one score: which has the better other score there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]  # e.g. (accuracy, Frechet distance), in the order of guidance strength


@dataclass(frozen=True)
class Comparison:
    """`gaps` are a's best y minus b's best y at each x of `at`; negative means that a is better (lower)."""

    at: tuple[float, ...]
    gaps: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.gaps) / len(self.gaps)

    @property
    def share_not_above(self) -> float:
        """The share of x at which a is not above b."""
        return sum(gap <= 0 for gap in self.gaps) / len(self.gaps)


def lowest_at(curve: Sequence[Point], x: float) -> float | None:
    """The lowest y at which the polyline through `curve` passes x; None if it never does."""
    found = [y for at, y in curve if at == x]
    for (x0, y0), (x1, y1) in pairwise(curve):
        if min(x0, x1) < x < max(x0, x1):
            found.append(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    return min(found, default=None)


def compare_at_equal_x(a: Sequence[Point], b: Sequence[Point], steps: int = 21) -> Comparison | None:
    """Compares two curves at evenly spaced x of the range that both cover; None if they have none in common."""
    low = max(min(x for x, _ in a), min(x for x, _ in b))
    high = min(max(x for x, _ in a), max(x for x, _ in b))
    if low > high:
        return None
    at, gaps = [], []
    for step in range(steps):
        x = low + (high - low) * step / max(steps - 1, 1)
        y_a, y_b = lowest_at(a, x), lowest_at(b, x)
        if y_a is not None and y_b is not None:
            at.append(x)
            gaps.append(y_a - y_b)
    return Comparison(tuple(at), tuple(gaps)) if at else None
