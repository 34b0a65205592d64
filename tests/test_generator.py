"""Randomness belongs to the sample."""

from __future__ import annotations

import torch

from gftzoo.generator import SampleGenerator, seed_for


def test_a_row_does_not_depend_on_its_batch() -> None:
    whole = SampleGenerator.for_samples("x", 3, range(10))
    part = SampleGenerator.for_samples("x", 3, [7, 2])
    for draw in ("normal", "uniform"):
        rows = getattr(whole, draw)(2, 3)
        assert torch.equal(getattr(part, draw)(2, 3), rows[[7, 2]])
    assert torch.equal(part.integers(1000, 4), whole.integers(1000, 4)[[7, 2]])
    assert torch.equal(part.permutation(9), whole.permutation(9)[[7, 2]])


def test_purposes_seeds_and_positions_have_streams_of_their_own() -> None:
    draws = [
        SampleGenerator.for_samples(purpose, seed, [position]).normal(4)
        for purpose, seed, position in [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1)]
    ]
    assert all(not torch.equal(draws[0], other) for other in draws[1:])


def test_draws_are_distributed_as_they_say() -> None:
    generator = SampleGenerator.for_samples("d", 0, range(400))
    normal, uniform, integers = generator.normal(50), generator.uniform(50), generator.integers(5, 50)
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.02
    assert integers.min() == 0 and integers.max() == 4
    assert torch.equal(generator.permutation(6).sort(1).values, torch.arange(6).expand(400, 6))


def test_seed_is_a_pure_function() -> None:
    assert seed_for("step", 1, 2) == 7800736888961447851
