"""U-ViT computes what baofff/U-ViT @ce55170 does: networks, losses with gradients, both samplers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dit_golden import Recorded, gradient_norms, read_golden, tiny_card
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.samplers import DiffusionSampler, sample
from gftzoo_diffusion.training import DiffusionProblem
from golden import Golden, near
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.guidance import ClassifierFree
from gftzoo.errors import UsageError
from gftzoo.families.finding import load_family
from gftzoo.loading.files import import_model
from gftzoo.model import Model

DISCRETE = "scaled-linear-from-1"


def uvit_card(arch: dict[str, Any], process: str) -> ModelCard:
    shared = {
        "input_size": arch["img_size"],
        "in_channels": arch["in_chans"],
        "num_classes": max(arch["num_classes"] - 1, 0),
    }
    card = tiny_card({**arch, **shared, "hidden_size": arch["embed_dim"], "learn_sigma": True})
    network = {key: value for key, value in card.network.items() if key != "learn_sigma"}
    own = {key: arch[key] for key in ("conv", "qkv_bias", "mlp_time_embed")}
    return card.change(network={**network, **own, "kind": "uvit", "process": process})


def uvit_model(golden: Golden, folder: Path, process: str = DISCRETE) -> Model:
    """From the bare state dict of the average that the authors publish."""
    path = folder / "imagenet256_uvit_huge.pth"
    torch.save(golden.weights, path)
    model = import_model(uvit_card(golden.config["arch"], process), path)
    model.network.eval()
    return model


def test_forward(tmp_path: Path) -> None:
    golden = read_golden("uvit-forward")
    network = uvit_model(golden, tmp_path).network
    x, t, y = (golden.inputs[key] for key in "xty")
    assert near(network(x, t, y), golden.outputs["out"], scaled=False)
    assert near(network.time_token(t, None), golden.outputs["time_token"], scaled=False)


def test_forward_without_classes(tmp_path: Path) -> None:
    """One token before the patches, a last convolution, a time MLP and biases."""
    golden = read_golden("uvit-forward-conv")
    network = uvit_model(golden, tmp_path).network
    out = network(golden.inputs["x"], golden.inputs["t"], torch.zeros(2, dtype=torch.int64))
    assert near(out, golden.outputs["out"], scaled=False)


def test_checkpoint_folder(tmp_path: Path) -> None:
    golden = read_golden("uvit-forward")
    card, folder = uvit_card(golden.config["arch"], DISCRETE), tmp_path / "500000.ckpt"
    folder.mkdir()
    for name in ("step", "optimizer", "lr_scheduler"):
        torch.save({"state": {}}, folder / f"{name}.pth")
    torch.save(golden.weights, folder / "nnet_ema.pth")
    torch.save({key: value + 1 for key, value in golden.weights.items()}, folder / "nnet.pth")
    family = load_family("diffusion")
    for entry, shift in ((None, 0), ("ema", 0), ("raw", 1)):
        model = import_model(card, family.weights_file(card, folder, entry), entry)
        assert torch.equal(model.network.norm.bias, golden.weights["norm.bias"] + shift)
    assert model.provenance["entry"] in ("raw", "bare")
    (folder / "nnet_ema.pth").unlink()
    with pytest.raises(UsageError, match="without weights of a known name"):
        family.weights_file(card, folder, None)


def problem_of(golden: Golden, process: str) -> DiffusionProblem:
    z, noise = golden.inputs["z"], golden.inputs["noise"]
    t = torch.tensor(golden.config["n"]) - 1 if process == DISCRETE else golden.inputs["t_uniform"]
    return DiffusionProblem(PROCESSES[process].noised(z, t, noise), t, noise, z)


@pytest.mark.parametrize(("process", "prefix"), [(DISCRETE, "discrete"), ("vp-sde", "vpsde")])
def test_loss(process: str, prefix: str, tmp_path: Path) -> None:
    golden = read_golden("uvit-loss")
    model, problem = uvit_model(golden, tmp_path, process), problem_of(golden, process)
    if process == DISCRETE:
        assert near(problem.x_t, golden.outputs["discrete/x_n"])
        tables = PROCESSES[process].variances()
        for theirs, ours in (("betas", tables.beta_K), ("cum_alphas", tables.alpha_bar_K)):
            assert (ours - golden.outputs[f"discrete/table/{theirs}"][1:]).abs().max() <= 1e-12
    else:
        assert near(PROCESSES[process].alpha_bar(problem.t), golden.outputs["vpsde/cum_alpha"])
    loss = model.family.loss_term(model, model.family.predict(model, problem, golden.inputs["y"], None), problem)
    assert near(loss, golden.outputs[f"{prefix}/loss"])
    loss.mean().backward()
    found = gradient_norms(model)
    expected = {k.split("gradnorm/")[1]: v for k, v in golden.outputs.items() if k.startswith(f"{prefix}/gradnorm/")}
    assert found.keys() == expected.keys()
    for name, norm in expected.items():
        assert abs(found[name] - float(norm)) <= 1e-4 * max(1.0, float(norm)), name


def draw(golden: Golden, model: Model, **settings: Any) -> tuple[Tensor, list[float]]:
    """Latents, and the times that the network was asked at."""
    asked: list[float] = []
    model.network.register_forward_pre_hook(lambda _, inputs: asked.append(float(inputs[1][0])))
    guidance = ClassifierFree(1 + golden.config["scale"])
    with torch.no_grad():
        noise, y = golden.inputs["noise"], golden.inputs["y"]
        return sample(model, y, guidance, DiffusionSampler(**settings), Recorded(noise)), asked


@pytest.mark.parametrize("steps", [6, 7, 8])
def test_third_order_on_data(steps: int, tmp_path: Path) -> None:
    golden = read_golden("uvit-sample")
    found, asked = draw(golden, uvit_model(golden, tmp_path), sampler="dpm-solver++3", steps=steps)
    prefix = f"discrete/steps{steps}"
    assert near(torch.tensor(asked), golden.outputs[f"{prefix}/t"].float(), 1e-2, scaled=False)
    assert near(found, golden.outputs[f"{prefix}/z"])
    half, _ = draw(golden, uvit_model(golden, tmp_path), sampler="dpm-solver++3", steps=steps, start=0.5)
    assert near(half, golden.outputs[f"{prefix}/z_from_half"])


def test_third_order_on_noise(tmp_path: Path) -> None:
    golden = read_golden("uvit-sample")
    found, asked = draw(golden, uvit_model(golden, tmp_path, "vp-sde"), sampler="dpm-solver3", steps=6)
    assert near(torch.tensor(asked), golden.outputs["vpsde/t"].float(), 1e-2, scaled=False)
    assert near(found, golden.outputs["vpsde/z"])
