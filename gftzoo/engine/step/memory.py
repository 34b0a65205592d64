"""What a step does when a device has no memory left: the same step again in smaller parts, or a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gftzoo.errors import GftzooError

_ON_A_CPU = ("can't allocate memory", "not enough memory")  # of torch's allocator, which has no error of its own


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in _ON_A_CPU)


def cut(batch: Mapping[str, Any], parts: int) -> list[dict[str, Any]]:
    """A micro-batch in as many of the same size, in their order; tensors and lists of it have a row for each sample."""
    size = len(batch["position"]) // parts
    return [{key: rows[start * size : (start + 1) * size] for key, rows in batch.items()} for start in range(parts)]


def finer(size: int, parts: int) -> int | None:
    """The next number of parts that cuts `size` samples evenly, twice as many or little more; None past single ones."""
    return next((more for more in range(2 * parts, size + 1) if size % more == 0), None)


@contextmanager
def one_way() -> Iterator[None]:
    """A step of the optimizer, which may have moved some weights when it finds no memory, and is not repeated."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise GftzooError(
            "the optimizer found no memory for its step; leave the average out with -o ema_decay=null, take an "
            "optimizer that keeps less, shard it with -o parallel=fsdp over several devices, or a smaller model."
        ) from error


def too_large(size: int, device: object) -> GftzooError:
    """The sentence for a micro-batch of so many samples that is not to be cut."""
    return GftzooError(
        f"a micro-batch of {size} samples found no memory on {device}; cut the batch into more with -o accumulate=N, "
        "or recompute with -o activation_checkpointing=true."
    )


def forget(optimizer: torch.optim.Optimizer, tensor: Tensor) -> None:
    """Lets go of what a step that was broken off left on the device of `tensor`."""
    optimizer.zero_grad(set_to_none=True)
    if tensor.is_cuda:
        torch.cuda.empty_cache()
