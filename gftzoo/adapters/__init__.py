"""Adapters: a little that trains on a base that stays as it is."""

from gftzoo.adapters.freezing import (
    Way,
    adapter_tensors,
    freeze,
    frozen_matrices,
    halve_frozen,
    slope_shape,
    temperature_names,
)
from gftzoo.adapters.merging import merged
from gftzoo.adapters.record import Adapter, AdapterFile, Base, adapter_of, base_hash, tensors_sha256, write_adapter

__all__ = [
    "Adapter",
    "AdapterFile",
    "Base",
    "Way",
    "adapter_of",
    "adapter_tensors",
    "base_hash",
    "freeze",
    "frozen_matrices",
    "halve_frozen",
    "merged",
    "slope_shape",
    "temperature_names",
    "tensors_sha256",
    "write_adapter",
]
