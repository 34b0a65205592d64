"""Runs over folders with damaged pictures, which end with the weights of the run without them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from safetensors.torch import load_file

from fuzzing.pictures import PictureTarget
from fuzzing.target import SilentChangeError
from gftzoo.data import open_source
from gftzoo.engine import checkpoints, resolve, train

TOGETHER = 32  # inputs in a folder
OPTIONS = {"batch_size": 8, "workers": 0, "sample_grid": (1, 1), "device": "cpu"}
STEPS = 4


class RunTarget(PictureTarget):
    """The pictures of `PictureTarget`, collected; so many are trained on together, with and without the named ones."""

    @property
    def seconds(self) -> float:
        return 120

    def prepare(self, folder: Path) -> None:
        super().prepare(folder)
        self.folder, self.count = folder, 0

    def read(self, path: Path) -> None:
        self.count += 1
        path.rename(self.root / "a" / f"m{self.count:05d}{path.suffix}")
        if self.count % TOGETHER:
            return
        source = open_source(f"imagefolder:{self.root}")
        with_damaged = self.weights()
        for problem in source.problems:
            Path(problem.split(" cannot be read (")[0]).unlink()
        if open_source(f"imagefolder:{self.root}").problems:
            raise SilentChangeError("what is left still has pictures that cannot be read")
        without = self.weights()
        for left in (self.root / "a").glob("m*"):
            left.unlink()
        if with_damaged != without:
            raise SilentChangeError(f"{len(source.problems)} pictures that cannot be read have changed a run's weights")

    def weights(self) -> str:
        """The hash of what a run over the folder ends with."""
        run = self.folder / "run"
        config = resolve("dit-nano", data=f"imagefolder:{self.root}", steps=STEPS, options=OPTIONS)
        newest = checkpoints.newest(train(config, run))
        assert newest is not None
        tensors = sorted(load_file(newest / "raw.safetensors").items())
        shutil.rmtree(run)
        return hashlib.sha256(
            b"".join(name.encode() + tensor.numpy().tobytes() for name, tensor in tensors)
        ).hexdigest()
