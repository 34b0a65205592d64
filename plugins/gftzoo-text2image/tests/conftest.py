"""One thread per test process; the tiny pipelines of these tests, written once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)

from tiny_pipelines import write  # noqa: E402 (it lies beside this file)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny pipeline of a name."""
    root = tmp_path_factory.mktemp("pipelines")
    return cache(lambda name: write(name, root / name))
