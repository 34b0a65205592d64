"""Weights of others as safetensors and torch files, and the card beside weights of our own."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from fuzzing.target import SilentChangeError, Target
from gftzoo.loading.files import load_folder
from gftzoo.model import Model
from gftzoo.weights import load_weights, read_tensors
from gftzoo.zoo import get_card


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


class WeightsTarget(Target):
    """Files of which a small network is made; what is read of them is finite and fits, or refused."""

    def read(self, path: Path) -> None:
        made = network()
        for entry in (None, "raw"):
            load_weights(made, read_tensors(path, entry, made.state_dict()).tensors, str(path))
        if not all(parameter.isfinite().all() for parameter in made.parameters()):
            raise SilentChangeError("weights that are not finite were read")


class SafetensorsTarget(WeightsTarget):
    """A state dict, with prefixes, in half precision, and beside its average."""

    def seeds(self) -> list[tuple[str, bytes]]:
        state = network().state_dict()
        halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        files: list[dict[str, Tensor]] = [
            state,
            prefixed("module._orig_mod.", state),
            halves,
            {**prefixed("model.", state), **prefixed("model_ema.", {name: t.clone() for name, t in state.items()})},
        ]
        return [(".safetensors", save(file, {"format": "pt"})) for file in files]


class TorchTarget(WeightsTarget):
    """Checkpoints of training codes: zipped, pickled as before, with options, an optimizer and numpy scalars."""

    def seeds(self) -> list[tuple[str, bytes]]:
        state = network().state_dict()
        steps = {"state": {0: {"exp_avg": torch.ones(8)}}, "param_groups": [{"lr": 0.1}]}
        files: list[Any] = [
            state,
            {"model": state, "ema": prefixed("module.", state), "opt": steps, "args": argparse.Namespace(lr=0.1)},
            {"state_dict": prefixed("model.", state), "epoch": 3, "fid": np.float64(2.5)},
            {"trainer": {"var_wo_ddp": state}, "path": Path("a/b")},
        ]
        return [(".pt", pickled(file, zipped)) for file in files for zipped in (True, False)]


def pickled(file: Any, zipped: bool) -> bytes:
    content = io.BytesIO()
    torch.save(file, content, _use_new_zipfile_serialization=zipped)
    return content.getvalue()


class CardTarget(Target):
    """`card.json` beside good weights, which are what they were wherever the card still lets them be read."""

    def prepare(self, folder: Path) -> None:
        self.root = folder / "model"
        torch.manual_seed(0)
        self.model = Model.fresh(get_card("dit-nano"))
        self.model.save(self.root)

    def seeds(self) -> list[tuple[str, bytes]]:
        return [(".json", card_of("dit-nano"))]

    def read(self, path: Path) -> None:
        path.replace(self.root / "card.json")
        found = load_folder(self.root)
        for name, tensor in self.model.network.state_dict().items():
            if not torch.equal(found.network.state_dict()[name], tensor):
                raise SilentChangeError(f"{name} is no longer what it was")
        found.family.sampler_settings(found.card)


def card_of(name: str) -> bytes:
    text = json.dumps({"card": get_card(name).model_dump(mode="json"), "provenance": {"entry": "raw"}}, indent=1)
    return text.encode()
