"""Adapters: a little that trains on a base that stays as it is."""

from gftzoo.adapters.freezing import Way, adapter_tensors, freeze, slope_shape, temperature_names
from gftzoo.adapters.loading import (
    find_base,
    is_adapter,
    load_with_adapter,
    merged,
    read_adapter,
    refuse_other_base,
)
from gftzoo.adapters.record import Adapter, AdapterFile, Base, adapter_of, base_hash, tensors_sha256, write_adapter

__all__ = [
    "Adapter",
    "AdapterFile",
    "Base",
    "Way",
    "adapter_of",
    "adapter_tensors",
    "base_hash",
    "find_base",
    "freeze",
    "is_adapter",
    "load_with_adapter",
    "merged",
    "read_adapter",
    "refuse_other_base",
    "slope_shape",
    "temperature_names",
    "tensors_sha256",
    "write_adapter",
]
