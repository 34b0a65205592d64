"""One thread per test process; the tiny models of these tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)

from sd_tiny import tiny_model  # noqa: E402 (it lies beside this file)

from gftzoo.model import Model  # noqa: E402


@pytest.fixture(scope="session")
def steered() -> Model:
    """A tiny network with a temperature input, random in every weight."""
    return tiny_model(temperature=True)


@pytest.fixture(scope="session")
def plain() -> Model:
    """A tiny network without a temperature input."""
    return tiny_model(temperature=False)
