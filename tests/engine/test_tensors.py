"""Named tensors in the files of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gftzoo.engine.checkpoints import tensors


def test_shapes_are_known_without_reading_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = {"weight": torch.ones(3, 4), "weight/step": torch.tensor(5.0), "empty": torch.ones(0, 2)}
    save_file(saved, tmp_path / "raw.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(tensors, "load_file", lambda _: pytest.fail("the whole file was read"))
        found = tensors.shapes(tmp_path, "raw")
    assert {name: tensor.shape for name, tensor in found.items()} == {n: t.shape for n, t in saved.items()}
    assert all(tensor.is_meta for tensor in found.values())
    (tmp_path / "raw.safetensors").write_bytes((tmp_path / "raw.safetensors").read_bytes()[:-4])
    with pytest.raises(Exception, match=r"(?i)incomplete|header"):  # `restore` makes a sentence of it
        tensors.shapes(tmp_path, "raw")
