"""The conformance kit as pytest tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gftzoo.testing.contract import CHECKS, Check
from gftzoo.testing.report import examine
from gftzoo.testing.subject import subject_of


def conformance(*names: str, checks: Sequence[Check] | None = None) -> Callable[..., None]:
    """A test function for pytest, one case per check of each model.

    Args:
        names: of families (their nano models) or of models.
        checks: all, if not given; slow ones carry the mark `slow`.
    """
    import pytest  # an optional package: `check-plugin` does without

    chosen = CHECKS if checks is None else checks
    cases: list[Any] = [
        pytest.param(name, check, id=f"{name}-{check.name}", marks=[pytest.mark.slow] if check.slow else [])
        for name in names
        for check in chosen
    ]

    @pytest.mark.parametrize(("model", "check"), cases)
    def test_conformance(model: str, check: Check) -> None:
        finding = examine(subject_of(model), check)
        assert finding.holds, finding.explanation()

    return test_conformance
