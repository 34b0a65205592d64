"""The network computes what the official one does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dit_golden import official_model, read_golden, tiny_card
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.samplers import DiffusionSampler
from gftzoo_diffusion.samplers.drawing import Drawing
from golden import near

from gftzoo.contract.guidance import ClassifierFree
from gftzoo.contract.pieces import Steered
from gftzoo.exporting import export
from gftzoo.generator import SampleGenerator
from gftzoo.loading.files import import_model

GFT = ("gft-dit-linear", "gft-dit-mlp", "gft-dit-3layer")


def test_forward(tmp_path: Path) -> None:
    golden = read_golden("dit-forward")
    network = official_model(golden, tmp_path).network
    x, t, y = (golden.inputs[key] for key in "xty")
    assert near(network(x, t, y), golden.outputs["out"], scaled=False)
    assert near(network.t_embedder(t), golden.outputs["t_emb"], scaled=False)


def test_a_bare_state_dict_imports_the_same(tmp_path: Path) -> None:
    golden = read_golden("dit-forward")
    path = tmp_path / "DiT-XL-2-256x256.pt"
    torch.save(golden.weights, path)
    network = import_model(tiny_card(golden.config["arch"]), path).network.eval()
    assert near(network(*(golden.inputs[key] for key in "xty")), golden.outputs["out"], scaled=False)


@pytest.mark.parametrize("name", GFT)
def test_forward_with_temperature(name: str, tmp_path: Path) -> None:
    golden = read_golden(name)
    network = official_model(golden, tmp_path).network
    x, t, y, beta = (golden.inputs[key] for key in ("x", "t", "y", "beta"))
    assert near(network(x, t, y, beta), golden.outputs["forward"], scaled=False)
    without = network(x, t, y)
    assert near(without, golden.outputs["forward_beta_none"], scaled=False)
    assert not near(without, golden.outputs["forward"], 1e-2)


@pytest.mark.parametrize("name", GFT)
def test_a_folded_temperature_in_plain_weights(name: str, tmp_path: Path) -> None:
    """The noise is the official network's at beta; the variance, which GFT does not train, is DDPM's upper bound."""
    golden = read_golden(name)
    model = official_model(golden, tmp_path)
    x, t, y, beta = (golden.inputs[key] for key in ("x", "t", "y", "beta"))
    channels = x.shape[1]
    for row in torch.nonzero(beta).flatten().tolist():
        own = slice(row, row + 1)
        export(model.bake(float(beta[row])), "official", tmp_path / str(row))
        card = tiny_card(golden.config["arch"], temperature=False)
        plain = import_model(card, tmp_path / str(row) / "ema.safetensors").network.eval()
        assert {"y_embedder.embedding_table.weight", "final_layer.linear.bias"} <= set(plain.state_dict())
        found = plain(x[own], t[own], y[own])
        assert near(found[:, :channels], golden.outputs["forward"][own, :channels], scaled=False)
        assert torch.equal(found[:, channels:], torch.ones_like(found[:, channels:]))


@pytest.mark.parametrize("scale", [1.5, 4.0])
def test_official_guidance_steers_three_channels(scale: float, tmp_path: Path) -> None:
    golden = read_golden("dit-cfg")
    model = official_model(golden, tmp_path)
    expected = golden.outputs[f"out_scale{scale}"]
    for row in range(2):  # every row of the file has its own timestep
        x, y = golden.inputs["x"][row : row + 1], golden.inputs["y"][row : row + 1]
        steered, t = Steered(model, y, ClassifierFree(scale)), int(golden.inputs["t"][row])
        three, four = (
            Drawing(model, PROCESSES["linear"], steered, DiffusionSampler(guided_channels=which), SampleGenerator([0]))
            for which in ("dit-3ch", "all")
        )
        output = three.everything(x, t, 0.0, 0.0)
        assert near(output, expected[row : row + 1], scaled=False)
        assert near(output[:, :3], expected[row + 2 : row + 3, :3], scaled=False)
        everything = four.everything(x, t, 0.0, 0.0)
        assert not near(everything[:, 3], expected[row : row + 1, 3], 1e-2)


def test_guidance_of_all_channels(tmp_path: Path) -> None:
    golden = read_golden("gft-dit-linear")
    network = official_model(golden, tmp_path).network
    half = golden.inputs["x"][:2]
    output = network(torch.cat([half, half]), *(golden.inputs[key] for key in ("t", "y_cfg", "beta")))
    steered = ClassifierFree(golden.config["cfg_scale"]).combine(output[:, :4])
    assert near(torch.cat([torch.cat([steered, steered]), output[:, 4:]], 1), golden.outputs["forward_with_cfg"])
