"""One thread per test process; tests that take `nano_name` run for every installed family."""

from __future__ import annotations

import pytest
import torch
from nano import NANO
from plugin_site import site

__all__ = ["site"]
torch.set_num_threads(1)


@pytest.fixture(params=NANO)
def nano_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw none at their end, which takes longer than their few steps."""
    monkeypatch.setattr("gftzoo.engine.record.samples.SampleHook._draw_final", lambda *_: None)
