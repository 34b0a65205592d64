"""Short runs of nano models, their weights, and what becomes of them when they are cut or changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gftzoo import checksums
from gftzoo.engine import TrainConfig, checkpoints, resolve, train
from gftzoo.engine.checkpoints import saving

SMALL = {"batch_size": 8, "log_every": 2, "sample_every": 1000, "sample_grid": [1, 1], "ema_decay": 0.9}


def small(name: str, steps: int, **options: object) -> TrainConfig:
    return resolve(name, objective="gft", steps=steps, options={**SMALL, **options})


def final(run: Path, kind: str = "raw") -> dict[str, torch.Tensor]:
    newest = checkpoints.newest(run)
    assert newest is not None
    return load_file(newest / f"{kind}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class CutError(Exception):
    """Stands for a power cut."""


def interrupted(config: TrainConfig, run: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains until the checkpoint of step `at` is written and then stops as if the process had been killed."""
    write = checkpoints.write

    def cutting(*arguments: object) -> Path:
        folder = write(*arguments)
        if folder.name == f"step-{at:08d}":
            raise CutError
        return folder

    with monkeypatch.context() as patch, pytest.raises(CutError):
        patch.setattr(saving, "write", cutting)
        train(config, run)


def resealed(folder: Path, **state: object) -> None:
    """Makes a changed checkpoint one whose checksums are right, as an older gftzoo, which had none, would leave it."""
    found = {**checkpoints.read_state(folder), **state}
    kept = {key: value for key, value in found.items() if key not in ("files", "checksum", "version")}
    checksums.seal(folder, kept)
