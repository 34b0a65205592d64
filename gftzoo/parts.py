"""Tensors in parts: a folder in which every rank wrote its own share of them, as safetensors.

torch.distributed.checkpoint writes the place of each part in its tensor into the file's header, so that any number of
ranks, or one process, can read what another number wrote. Nothing is pickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save


def write_parts(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes this rank's parts; every rank must call it, and all raise where one cannot write."""
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _plainly():
        save(dict(tensors), storage_writer=writer, no_dist=_alone())


def fill_from_parts(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Reads into `tensors`, whole or sharded over any number of ranks; every rank must call it."""
    with _plainly():
        load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=_alone())


def shapes_of_parts(folder: Path) -> dict[str, Tensor]:
    """The tensors that the parts make up, on the meta device."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    tensors = {name: about for name, about in found.items() if isinstance(about, TensorStorageMetadata)}
    return {n: torch.empty(a.size, dtype=a.properties.dtype, device="meta") for n, a in tensors.items()}


def join_parts(folder: Path) -> dict[str, Tensor]:
    """The whole tensors, in this process."""
    found = {name: torch.empty_like(value, device="cpu") for name, value in shapes_of_parts(folder).items()}
    fill_from_parts(folder, found)
    return found


def _alone() -> bool:
    return not torch.distributed.is_initialized()


@contextmanager
def _plainly() -> Iterator[None]:
    """Failures of ranks as one error, and no remark that a single process reads or writes alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            yield
        except CheckpointException as error:  # no subclass of Exception
            first = next(iter(error.failures.values()))[0]
            raise RuntimeError(str(first)) from error
