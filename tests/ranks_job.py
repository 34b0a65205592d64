"""What test_ranks.py runs on every rank: all nano models, by DDP and by FSDP2, in one process group.

torchrun --nproc_per_node 2 tests/ranks_job.py FOLDER MODEL...
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

import torch

from gftzoo.engine import TrainConfig, resolve, train

STEPS = 2
OPTIONS = {
    "batch_size": 8, "ema_decay": 0.9, "checkpoint_every": 1, "log_every": 1, "device": "cpu", "sample_grid": [1, 1],
}  # fmt: skip
# The micro-batches of two ranks are those of one rank that accumulates two.
LAYOUTS = {
    "ddp": {},
    "fsdp": {"parallel": "fsdp"},
    "sharded": {"parallel": "fsdp", "sharded_checkpoints": True, "offload": True},
    "bf16": {"parallel": "fsdp", "precision": "bf16", "activation_checkpointing": True},
}


def config(name: str, **options: object) -> TrainConfig:
    return resolve(name, objective="gft", steps=STEPS, options={**OPTIONS, **options})


def halfway(run: Path, copy: Path) -> Path:
    """The run as it was at its first checkpoint, in another folder."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / f"step-{STEPS:08d}")
    return copy


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    for job in names:
        name, layout = job.split(":")
        run, parts = folder / f"{name}-{layout}", folder / f"{name}-{layout}-resumed"
        train(config(name, **LAYOUTS[layout]), run)
        if torch.distributed.get_rank() == 0:
            halfway(run, parts)
        torch.distributed.barrier()
        train(TrainConfig.read(parts), parts, resume=True)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may abort the interpreter's own exit


if __name__ == "__main__":
    main()
