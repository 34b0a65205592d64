"""Whether a run that is made to fit a small device trains what one on a large device does.

    python tools/fit_check.py --model dit-b --batch 256 --gib 4

Both train the same steps from the same seed, without an option about memory; the second is told that only so much is
free. It prints how each took its batch and how far apart their weights are, and fails where that is more than rounding.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from gftzoo.engine import TrainConfig, checkpoints, resolve, train
from gftzoo.engine.run import estimate

ROUNDING = 0.1  # of the rate: Adam's first steps divide gradients by their own size, and with them their rounding


def weights(config: TrainConfig, folder: Path) -> dict[str, torch.Tensor]:
    """The raw weights at the end of a run."""
    newest = checkpoints.newest(train(config, folder))
    assert newest is not None
    print((folder / "log.txt").read_text().split("A batch of")[1].splitlines()[0])
    return load_file(newest / "raw.safetensors")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dit-b")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--gib", type=float, default=4.0, help="what the small device has free")
    job = parser.parse_args()
    torch.set_num_threads(1)
    options = {"batch_size": job.batch, "sample_grid": [1, 1], "log_every": 1}
    config = resolve(job.model, objective="gft", steps=job.steps, options=options)
    with tempfile.TemporaryDirectory() as folder:
        large = weights(config, Path(folder) / "large")
        estimate.available_bytes = lambda _: job.gib * estimate.GIB
        small = weights(config, Path(folder) / "small")
    apart = torch.cat([(large[name].double() - small[name].double()).abs().flatten() for name in large])
    print(f"weights apart by {apart.mean():.1e} on average, {apart.max():.1e} at most; learning rate {config.lr:g}")
    return 0 if apart.max() < ROUNDING * config.lr else 1


if __name__ == "__main__":
    sys.exit(main())
