"""Files of numbers that official code computed: weights, inputs and outputs, and the configuration as metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor


@dataclass
class Golden:
    config: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The weights of one of several models in the file."""
        return {k.removeprefix(f"{name}/"): v for k, v in self.weights.items() if k.startswith(f"{name}/")}


def open_golden(path: Path) -> Golden:
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["golden"])["config"]
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "inputs": {}, "outputs": {}}
        for key in file.keys():  # noqa: SIM118 (no mapping)
            part, _, rest = key.partition("/")
            # gradient norms stand beside inputs and outputs in some files
            parts[part if part in parts else "outputs"][rest if part in parts else key] = file.get_tensor(key)
    return Golden(config, **parts)


def near(actual: Tensor, expected: Tensor, tolerance: float = 1e-4, scaled: bool = True) -> bool:
    """Within `tolerance`, times the expected tensor's largest value where that is above 1 and `scaled` is true."""
    scale = max(1.0, float(expected.abs().max())) if scaled else 1.0
    return actual.shape == expected.shape and float((actual - expected).detach().abs().max()) <= tolerance * scale
