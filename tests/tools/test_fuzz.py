"""The fuzz of readers: a little of it, what it has found, and that it finds what it should."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import TARGETS, find_target
from fuzzing.target import Target, input_of, run

from gftzoo.errors import GftzooError


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    target = find_target(name)
    outcomes = list(run(target, 1, len(target.seeds()) + 20))
    assert {outcome.kind for outcome in outcomes} <= {"read", "refused"}, outcomes
    assert {outcome.kind for outcome in outcomes[: len(target.seeds())]} == {"read"}, outcomes


class Faulty(Target):
    """A reader with every fault."""

    def seeds(self) -> list[tuple[str, bytes]]:
        return [(".x", kind.encode()) for kind in ("read", "refused", "unexpected", "memory", "hang", "crash", "read")]

    def read(self, path: Path) -> None:
        import os
        import time

        kind = path.read_text()
        if kind == "hang":
            time.sleep(60)
        if kind == "crash":
            os._exit(3)
        if kind == "memory":
            bytearray(2**32)
        if kind == "refused":
            raise GftzooError("refused")
        if kind == "unexpected":
            raise KeyError(kind)


def test_every_fault_is_told_apart(monkeypatch) -> None:
    monkeypatch.setattr("fuzzing.target.SECONDS", 0.5)
    target = Faulty()
    found = {outcome.index: outcome.kind for outcome in run(target, 0, 7)}
    assert [found[index] for index in range(7)] == [input_of(target, 0, index)[1].decode() for index in range(7)]
