"""Runs the checks of a family and says how it fared."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from gftzoo.errors import GftzooError
from gftzoo.testing.broken import Broken
from gftzoo.testing.contract import Check
from gftzoo.testing.subject import Subject


@dataclass(frozen=True)
class Finding:
    """How one check ended.

    Attributes:
        check: its name.
        title: what it establishes.
        holds: whether the sentence holds.
        hook: the hook that makes the promise.
        sentence: the promise, as the contract has it.
        numbers: what was measured.
        seconds: how long it took.
    """

    check: str
    title: str
    holds: bool
    hook: str
    sentence: str
    numbers: str
    seconds: float

    def explanation(self) -> str:
        """Of a failure: the sentence of the contract that is broken, and the numbers."""
        return f'{self.check}: the contract says of `{self.hook}`: "{self.sentence}" Measured: {self.numbers}'

    def record(self) -> dict[str, Any]:
        """The finding as plain data."""
        return asdict(self)


def examine(subject: Subject, check: Check) -> Finding:
    """Runs one check; whatever a family's code throws is a finding too."""
    begin = time.perf_counter()
    try:
        holds, numbers = True, check.measure(subject)
    except Broken as broken:
        holds, numbers = False, str(broken)
    except GftzooError as error:
        holds, numbers = False, str(error)
    except Exception as error:  # a plugin may raise anything
        holds, numbers = False, f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - begin
    return Finding(check.name, check.title, holds, check.hook, check.sentence, numbers, seconds)
