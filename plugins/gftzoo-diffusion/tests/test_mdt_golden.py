"""MDTv2 computes what sail-sg/MDT @7d26c21 does: both passes, guidance, a training step, whole samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dit_golden import (
    Recorded,
    feed_step_noise,
    gradient_norms,
    official_model,
    read_golden,
    recorded_norms,
    terms_of,
    tiny_card,
)
from gftzoo_diffusion.networks.mdt import MaskedProblem, kept_tokens
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.processes.discrete import spaced_timesteps
from gftzoo_diffusion.samplers import DiffusionSampler, sample
from gftzoo_diffusion.samplers.drawing import Drawing
from golden import Golden, near

from gftzoo.contract.guidance import ClassifierFree, power_cosine
from gftzoo.contract.pieces import Steered
from gftzoo.generator import SampleGenerator
from gftzoo.loading.files import import_model
from gftzoo.model import Model

LINEAR = PROCESSES["linear"]


def mdt_model(golden: Golden, folder: Path) -> Model:
    arch = golden.config["arch"]
    own = {key: arch[key] for key in ("decode_layer", "mask_ratio")}
    return official_model(golden, folder, kind="mdt", loss_weight="min-snr", **own)


def test_forward(tmp_path: Path) -> None:
    golden = read_golden("mdt-forward")
    network = mdt_model(golden, tmp_path).network
    x, t, y = (golden.inputs[key] for key in "xty")
    assert near(network(x, t, y), golden.outputs["out"], scaled=False)
    kept = kept_tokens(golden.inputs["mask_uniform"], golden.inputs["mask_noise"], golden.config["arch"]["mask_ratio"])
    assert torch.equal(kept, golden.outputs["ids_keep"])
    assert torch.equal(torch.ones_like(golden.outputs["mask"]).scatter(1, kept, 0.0), golden.outputs["mask"])
    assert (golden.outputs["ids_restore"].gather(1, kept) == torch.arange(kept.shape[1])).all()
    assert near(network(x, t, y, None, kept), golden.outputs["out_masked"], scaled=False)
    assert near(network.en_inblocks[0].attn.rel_pos_bias(None), golden.outputs["rel_bias_block0"], scaled=False)


def test_power_cosine_guidance(tmp_path: Path) -> None:
    golden = read_golden("mdt-cfg")
    model = mdt_model(golden, tmp_path)
    for power in golden.config["scale_pows"]:
        steps = golden.outputs["scale_step_t"].tolist()
        found = torch.tensor([power_cosine(1 - t / 1000, power) for t in steps])
        assert near(found, golden.outputs[f"scale_step_pow{power}"].float())
    settings = DiffusionSampler(guided_channels="dit-3ch")
    for scale in golden.config["cfg_scales"]:
        for row in range(2):
            x, y = golden.inputs["x"][row : row + 1], golden.inputs["y"][row : row + 1]
            t = int(golden.inputs["t"][row])
            steered = Steered(model, y, ClassifierFree(scale, "power-cosine"))
            drawing = Drawing(model, LINEAR, steered, settings, SampleGenerator([0]))
            output = drawing.everything(x, t, 0.3, LINEAR.progress(t))
            assert near(output, golden.outputs[f"out_scale{scale}_pow4.0"][row : row + 1], scaled=False)
            steered.guidance = ClassifierFree(1 + (scale - 1) * power_cosine(LINEAR.progress(t), 0.01))
            output = drawing.everything(x, t, 0.3, LINEAR.progress(t))
            assert near(output, golden.outputs[f"out_scale{scale}_pow0.01"][row : row + 1], scaled=False)
    plain = model.network(*(golden.inputs[key] for key in "xty"))
    assert near(plain, golden.outputs["out_plain"], scaled=False)


def test_training_step(tmp_path: Path) -> None:
    golden = read_golden("mdt-loss")
    model, inputs = mdt_model(golden, tmp_path), golden.inputs
    x_0, t, arch = inputs["x_start"], inputs["t"], golden.config["arch"]
    kept = kept_tokens(inputs["mask_uniform"], inputs["mask_noise"], arch["mask_ratio"])
    x_t, masked_x_t = (LINEAR.noised(x_0, t, inputs[key]) for key in ("noise", "noise_masked"))
    problem = MaskedProblem(x_t, t, inputs["noise"], x_0, masked_x_t, inputs["noise_masked"], kept)
    assert near(LINEAR.signal_to_noise(t), golden.outputs["snr"])
    family = model.family
    # The official passes drop labels of their own, here the first and the second one: each is half of a prediction.
    drops = [torch.arange(3) == row for row in range(2)]
    shown = [family.condition_drop(model, inputs["y"], dropped) for dropped in drops]
    halves = [family.predict(model, problem, y, None).chunk(2, 1) for y in shown]
    for name, output, part in (("full", halves[0][0], problem.whole), ("masked", halves[1][1], problem.masked)):
        for found, term in zip(terms_of(model, output, part), ("mse", "vb"), strict=True):
            assert near(found, golden.outputs[f"{name}/{term}"])
        assert near(sum(terms_of(model, output, part)), golden.outputs[f"{name}/loss"])
    loss = family.loss_term(model, torch.cat([halves[0][0], halves[1][1]], 1), problem)
    assert near(loss, golden.outputs["full/loss"] + golden.outputs["masked/loss"])
    assert near(loss.mean(), golden.outputs["loss"])
    loss.mean().backward()
    norms, expected = gradient_norms(model), recorded_norms(golden)
    assert norms.keys() == expected.keys()
    for name, norm in expected.items():
        assert abs(norms[name] - float(norm)) <= 1e-4 * max(1.0, float(norm)), name


@pytest.mark.parametrize("case", ["plain", "sections"])
def test_samples(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = read_golden("mdt-sample")
    model, noise = mdt_model(golden, tmp_path), golden.inputs["noise"]
    spacing = golden.config["respacing" if case == "plain" else "sections"]
    assert spaced_timesteps(spacing) == golden.outputs[f"{case}/timestep_map"].tolist()
    feed_step_noise(monkeypatch, golden.inputs["step_noise"][:, : len(noise)])
    settings = DiffusionSampler(sampler="ddpm", spacing=spacing, guided_channels="dit-3ch")
    guidance = ClassifierFree(golden.config["cfg_scale"], "power-cosine")
    with torch.no_grad():
        found = sample(model, golden.inputs["y"], guidance, settings, Recorded(noise))
    assert near(found, golden.outputs[f"{case}/samples"], 1e-5 if case == "plain" else 1e-4)


@pytest.mark.parametrize("name", ["ema_0.9999_2000000.pt", "mdt_xl2_v2_ckpt.pt"])
def test_a_trainers_average_and_the_published_file(name: str, tmp_path: Path) -> None:
    """Both are bare state dicts with the indices of relative positions among them."""
    golden = read_golden("mdt-forward")
    assert any(value.dtype == torch.int64 for value in golden.weights.values())
    arch = golden.config["arch"]
    own = {key: arch[key] for key in ("decode_layer", "mask_ratio")}
    torch.save(golden.weights, tmp_path / name)
    model = import_model(tiny_card(arch, {"kind": "mdt", "loss_weight": "min-snr", **own}), tmp_path / name)
    found = model.network.eval()(*(golden.inputs[key] for key in "xty"))
    assert near(found, golden.outputs["out"], scaled=False)
    assert model.provenance["entry"] == ("ema" if name.startswith("ema") else "bare")
