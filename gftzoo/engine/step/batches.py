"""The batches of a run, loaded by as many processes as it asks for."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from gftzoo.data import Layout, Source, training_data
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.parallel.workers import deaf_to_signals
from gftzoo.errors import UsageError
from gftzoo.group import rank_and_world


def dataloader(config: TrainConfig, source: Source) -> DataLoader[Any]:
    """The micro-batches of this rank; UsageError where a batch does not divide among ranks."""
    _, world = rank_and_world()
    if config.batch_size % (config.accumulate * world):
        raise UsageError(
            f"batch_size {config.batch_size} does not divide by {world} ranks times accumulate {config.accumulate}; "
            f"use a multiple of {config.accumulate * world}."
        )
    batch_size = config.batch_size // (config.accumulate * world)
    dataset, sampler = training_data(
        source,
        resolution=config.card.resolution,
        channels=config.card.tokenizer.image_channels,
        seed=config.seed,
        hflip=config.hflip,
        layout=Layout(world, max(config.workers, 1), batch_size),
        balance=config.balance,
    )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=config.workers,
        collate_fn=collated,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=deaf_to_signals,
    )


def collated(batch: Any) -> Any:
    """`TrainingData` collates by itself, the whole batch at once."""
    return batch
