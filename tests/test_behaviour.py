"""Losses, gradients, samples and resumed weights are what they were when they were recorded."""

from __future__ import annotations

import json

import pytest
from behaviour import RECORD, machine, observed


def test_nano_models_compute_what_was_recorded(nano_name: str) -> None:
    then = json.loads(RECORD.read_text(encoding="utf-8"))
    recorded = then["models"][nano_name]
    found = observed(nano_name)
    assert found.keys() == recorded.keys()
    if machine() == then["machine"]:
        assert {k: v[0] for k, v in found.items()} == {k: v[0] for k, v in recorded.items()}
    for what, (_, total, norm) in recorded.items():
        assert found[what][1] == pytest.approx(total, rel=1e-2, abs=1e-2 * norm), what
        assert found[what][2] == pytest.approx(norm, rel=1e-2), what
