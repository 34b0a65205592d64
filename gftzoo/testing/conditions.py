"""Checks of conditions that are dropped."""

from __future__ import annotations

import torch

from gftzoo.testing.compare import expect, same
from gftzoo.testing.contract import promises
from gftzoo.testing.subject import (
    SHUFFLED,
    Subject,
)


@promises("condition_drop", "`condition` with the null condition where the boolean `dropped` (B,) is true.")
def dropped_conditions_are_null(subject: Subject) -> str:
    """Dropped rows hold the null condition."""
    batch = subject.batch()
    dropped = torch.tensor([True, False, True, False])
    null = batch.model.null_condition(batch.condition)
    expect(
        null.shape == batch.condition.shape and null.dtype == batch.condition.dtype,
        f"the null condition is {tuple(null.shape)} {null.dtype}, "
        f"the condition {tuple(batch.condition.shape)} {batch.condition.dtype}.",
    )
    found = batch.family.condition_drop(batch.model, batch.condition, dropped)
    return same(found[dropped], null[dropped], "rows 0 and 2, dropped, and the null condition")


@promises("condition_drop", "The null condition is the same whatever it replaces.")
def null_condition_is_constant(subject: Subject) -> str:
    """The null condition does not depend on the condition in its place."""
    batch = subject.batch()
    null = batch.model.null_condition(batch.condition)
    return same(
        batch.model.null_condition(batch.condition[SHUFFLED]), null, "null conditions of two orders of the batch"
    )


@promises("condition_drop", "The other rows stay as they are, and the argument itself is not changed.")
def other_conditions_stay(subject: Subject) -> str:
    """Rows that are not dropped stay, and nothing is edited in place."""
    batch = subject.batch()
    condition, dropped = batch.condition.clone(), torch.tensor([True, False, True, False])
    found = batch.family.condition_drop(batch.model, condition, dropped)
    same(condition, batch.condition, "the argument after and before the call")
    return same(found[~dropped], batch.condition[~dropped], "rows 1 and 3, not dropped, after and before the call")
