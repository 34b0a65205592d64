"""Numbers that the official code computed: facebookresearch/DiT @ed81ce2 and thu-ml/GFT @9bf5ee4."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from gftzoo_diffusion import training
from gftzoo_diffusion.options import NetworkOptions
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.training import DiffusionProblem
from golden import Golden, open_golden
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.pieces import squared_error
from gftzoo.generator import SampleGenerator
from gftzoo.loading.files import import_model
from gftzoo.model import Model

LINEAR = PROCESSES["linear"].variances()
BETA_EMBEDDINGS = {"linear": "linear", "mlp": "mlp", "3_layer_mlp": "3-layer"}


def read_golden(name: str) -> Golden:
    return open_golden(Path(__file__).parent / "goldens" / f"{name}.safetensors")


def tiny_card(arch: dict[str, Any], network: dict[str, Any] | None = None, **changes: Any) -> ModelCard:
    """The card of a golden's network, with other options in place of or beside DiT's."""
    options = {
        "depth": arch["depth"],
        "width": arch["hidden_size"],
        "heads": arch["num_heads"],
        "patch": arch["patch_size"],
        "mlp_ratio": arch["mlp_ratio"],
        "learn_sigma": arch["learn_sigma"],
        "beta_embedding": BETA_EMBEDDINGS[arch.get("beta_in", "linear")],
    }
    card = ModelCard(
        name="tiny",
        family="diffusion",
        parameters=1,
        resolution=arch["input_size"],
        tokenizer=TokenizerSpec(id="tiny", kind="pixels", channels=arch["in_channels"]),
        classes=arch["num_classes"],
        network={**options, **(network or {})},
        temperature=arch.get("use_beta_embed", False),
    )
    return card.change(**changes)


def official_model(golden: Golden, folder: Path, **network: Any) -> Model:
    """The golden's network, imported from the container that the official trainer writes, other numbers as `model`."""
    path = folder / "0140000.pt"
    raw = {key: torch.zeros_like(value) for key, value in golden.weights.items()}
    state = {"model": raw, "ema": golden.weights, "opt": {"state": {}, "param_groups": []}}
    torch.save({**state, "args": Namespace(model="DiT", global_batch_size=256)}, path)
    model = import_model(tiny_card(golden.config["arch"], network), path)
    model.network.eval()
    return model


def problem_of(x_0: Tensor, t: Tensor, noise: Tensor) -> DiffusionProblem:
    return DiffusionProblem(LINEAR.noised(x_0, t, noise), t, noise, x_0)


def terms_of(model: Model, prediction: Tensor, problem: DiffusionProblem) -> tuple[Tensor, Tensor]:
    """The two parts of a loss (B,): the weighted squared error, and the variational bound."""
    options = model.card.network_options(NetworkOptions)
    weight = options.way.weight(options.loss_weight, problem.t)
    mse = squared_error(prediction, problem.target) * (1 if weight is None else weight)
    return mse, training.score(model.card, prediction, problem) - mse


def gradient_norms(model: Model) -> dict[str, float]:
    parameters = model.network.named_parameters()
    return {name: float(p.grad.norm()) for name, p in parameters if p.grad is not None}


def recorded_norms(golden: Golden) -> dict[str, Tensor]:
    """The official gradient norms by parameter, without the fixed positions."""
    found = {k.removeprefix("gradnorm/"): v for k, v in golden.outputs.items() if k.startswith("gradnorm/")}
    assert found
    return found


class Recorded(SampleGenerator):
    """A generator whose initial noise is recorded."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__(range(len(noise)))
        self.noise = noise

    def normal(self, *shape: int) -> Tensor:
        assert self.noise.shape[1:] == shape
        return self.noise


def feed_step_noise(monkeypatch: pytest.MonkeyPatch, steps: Tensor) -> None:
    """Schedulers get the recorded noise of the reverse steps, first one first."""
    left = list(steps)

    def recorded(shape: torch.Size, **_: Any) -> Tensor:
        noise = left.pop(0)
        assert noise.shape == shape
        return noise

    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", recorded)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddim.randn_tensor", recorded)
