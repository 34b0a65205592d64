"""A training step never waits for its device: nothing that Python does in it depends on a value that is there."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from nano import nano_conditions, nano_model
from torch.overrides import TorchFunctionMode

from gftzoo.engine import resolve
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.step.ema import EMA
from gftzoo.engine.step.module import TrainingModel
from gftzoo.engine.step.optimizer import MixedPrecision
from gftzoo.engine.step.optimizers import adamw
from gftzoo.objectives import build_objective

BATCH = 4
META = torch.device("meta")


class Waits(TorchFunctionMode):
    """Counts what makes a CPU wait for a device; stronger than a count of `item`, `nonzero` and `cpu` on a CPU.

    The device is torch's meta device, which has no values: asking it for one (`item`, `nonzero`, `cpu`, `bool`, ...)
    raises by itself, by whatever name and from wherever in torch it is asked. What goes to it and is waited for, a copy
    that is not told to go on, is counted here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        if isinstance(result, torch.Tensor) and result.is_meta:
            given = [value for value in args if isinstance(value, torch.Tensor)]
            moved = bool(given) and not given[0].is_meta and given[0].ndim > 0
            if name in ("to", "cuda", "copy_") and moved and not (kwargs or {}).get("non_blocking"):
                self.found.append(f"{name} of {tuple(given[0].shape)}")
            if name in ("tensor", "as_tensor"):
                self.found.append(f"{name}{tuple(result.shape)} made of Python's numbers")
        return result


@pytest.mark.parametrize("objective", ["gft", "conditional"])
def test_no_step_waits(nano_name: str, objective: str, monkeypatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which the meta device has none of
    config = resolve(nano_name, objective=objective)
    model = nano_model(nano_name, temperature=objective == "gft", **config.card.network).to(META)
    trained = TrainingModel(model, build_objective(objective, config.objective_options), seed=0).train()
    optimizer = MixedPrecision(
        adamw([{"params": list(model.network.parameters())}], config), 1, None, Place(META, None)
    )
    ema, spec, side = EMA(model.network, 0.9), model.card.tokenizer, model.card.resolution
    images = torch.zeros(BATCH, spec.image_channels, side, side, dtype=torch.uint8)
    conditions: Any = nano_conditions(model, BATCH)
    if model.card.condition == "class":
        conditions = torch.tensor(conditions)
    for turn in range(2):  # the first makes tables, which are kept
        with Waits() as waits:
            loss = trained(position=range(4 * turn, 4 * turn + 4), condition=conditions, images=images)
            optimizer.update_params(loss)
            ema.update(turn)
    assert not waits.found
