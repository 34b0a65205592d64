"""The files and damaged copies that `refusals.py` speaks of."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


class Executes:
    """A pickle that makes a folder when it is read."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def write_files(folder: Path) -> None:
    """Files of every kind that hold what they should not."""
    for name in ("empty", "texts", "plugins/gftzoo-taken", "cache-text", "cache-empty", "cache-list"):
        (folder / name).mkdir(parents=True)
    (folder / "plugins" / "gftzoo-taken" / "README.md").write_text("mine")
    (folder / "texts" / "notes.txt").write_text("no picture")
    for suffix in ("txt", "pt", "safetensors", "npz", "parquet", "tar"):
        (folder / f"notes.{suffix}").write_text("neither weights nor pictures nor data")
    for name in ("empty.jsonl", "empty.safetensors", "cache-empty/manifest.json"):
        (folder / name).touch()
    (folder / "cache-text" / "manifest.json").write_text("neither")
    (folder / "cache-list" / "manifest.json").write_text("[]")
    (folder / "deep.jsonl").write_text("[" * 100_000 + "\n")
    (folder / "lists.jsonl").write_text("[1, 2]\n")
    (folder / "outside.jsonl").write_text('{"image": "/etc/hostname", "label": 0}\n')
    np.savez(folder / "numbers.npz", arr_0=np.zeros((4, 3)))
    np.savez(folder / "none.npz", arr_0=np.zeros((0, 8, 8, 3), np.uint8))
    np.savez(folder / "objects.npz", arr_0=np.array([{}], dtype=object))
    (folder / "evil.pt").write_bytes(pickle.dumps(Executes()))
    save_file({"weight": torch.zeros(2)}, folder / "other.safetensors")


def damage_runs(run: Path, folder: Path) -> None:
    """Copies of a run, each with something wrong in it; what is right in them is shared."""

    def copy(name: str) -> Path:
        return shutil.copytree(run, folder / name, copy_function=os.link)

    def replace(path: Path, content: str | bytes) -> None:
        path.unlink()
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    config = (run / "config.yaml").read_text()
    for name, content in {
        "text": "not a configuration",
        "bomb": config + BOMB,
        "deep": config + "x: " + "[" * 50_000,
        "word": "\n".join("lr: fast" if line.startswith("lr:") else line for line in config.splitlines()),
        "key": config + "speed: 3\n",
        "binary": b"\xff\xfe\x00",
    }.items():
        replace(copy(f"run-{name}-config") / "config.yaml", content)
    for name, content in {"text": "neither", "list": "[]", "deep": "[" * 50_000}.items():
        for state in (copy(f"run-{name}-state") / "checkpoints").glob("*/state.json"):
            replace(state, content)
    for weights in (copy("run-cut-weights") / "checkpoints").glob("*/*.safetensors"):
        replace(weights, weights.read_bytes()[:-100])
    for weights in (copy("run-text-weights") / "checkpoints").glob("*/*.safetensors"):
        replace(weights, "neither")
    for weights in (copy("run-no-weights") / "checkpoints").glob("*/*.safetensors"):
        weights.unlink()
