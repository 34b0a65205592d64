"""LDM computes what CompVis/latent-diffusion @a506df5 does: network, loss with gradients, samplers, first stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dit_golden import read_golden
from gftzoo_diffusion.networks.ldm import LDMKind, LDMNetwork
from gftzoo_diffusion.processes import PROCESSES
from gftzoo_diffusion.samplers import DiffusionSampler, latent, sample
from gftzoo_diffusion.samplers.drawing import Drawing
from gftzoo_diffusion.tokenizers import LatentVQ
from gftzoo_diffusion.training import DiffusionProblem
from golden import Golden, near
from test_sit_golden import RecordedSteps
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.guidance import ClassifierFree, Unguided
from gftzoo.contract.pieces import Steered
from gftzoo.errors import GftzooError
from gftzoo.loading.files import import_model
from gftzoo.model import Model

PROCESS = PROCESSES["scaled-linear-ldm"]


def ldm_card(config: dict[str, Any]) -> ModelCard:
    latent, unet = config["latent_diffusion"], config["latent_diffusion"]["unet_config"]["params"]
    network = {
        "kind": "ldm",
        "process": "scaled-linear-ldm",
        "width": unet["model_channels"],
        "multipliers": unet["channel_mult"],
        "attention": [2**level in unet["attention_resolutions"] for level in range(len(unet["channel_mult"]))],
        "layers": unet["num_res_blocks"],
        "heads": unet["num_heads"],
        "context": unet["context_dim"],
    }
    return ModelCard(
        name="tiny",
        family="diffusion",
        parameters=1,
        resolution=latent["image_size"],
        tokenizer=TokenizerSpec(id="tiny", kind="pixels", channels=latent["channels"]),
        classes=latent["cond_stage_config"]["params"]["n_classes"] - 1,
        network=network,
    )


def ldm_model(golden: Golden, folder: Path, extra: dict[str, Tensor] | None = None) -> Model:
    """From the Lightning checkpoint that the authors publish, with a first stage and a loss beside the network."""
    beside = {"first_stage_model.encoder.conv_in.weight": torch.zeros(3), "loss.logvar": torch.zeros(())}
    path = folder / "model.ckpt"
    state = {**golden.weights, **beside, **(extra or {})}
    torch.save({"epoch": 3, "global_step": 178_000, "state_dict": state, "optimizer_states": []}, path)
    model = import_model(ldm_card(golden.config), path)
    model.network.eval()
    return model


def problem_of(golden: Golden) -> DiffusionProblem:
    z, t, noise = (golden.inputs[key] for key in ("z", "t", "noise"))
    return DiffusionProblem(PROCESS.noised(z, t, noise), t, noise, z)


def test_forward(tmp_path: Path) -> None:
    golden = read_golden("ldm-cin")
    model, problem, label = ldm_model(golden, tmp_path), problem_of(golden), golden.inputs["label"]
    null = model.null_condition(label)
    assert near(model.network.class_embedder(label)[:, None], golden.outputs["context"])
    assert near(model.network.class_embedder(null)[:, None], golden.outputs["context_null"])
    assert near(problem.x_t, golden.outputs["x_noisy"])
    assert near(model.network(problem.x_t, problem.t, label), golden.outputs["eps"])
    assert near(model.network(problem.x_t, problem.t, null), golden.outputs["eps_null"])
    tables = PROCESS.variances()
    for theirs, ours in (("betas", tables.beta_K), ("alphas_cumprod", tables.alpha_bar_K)):
        assert near(ours.float(), golden.outputs[f"table/{theirs}"], 1e-6)


def test_loss(tmp_path: Path) -> None:
    golden = read_golden("ldm-cin")
    model, problem = ldm_model(golden, tmp_path), problem_of(golden)
    loss = model.family.loss_term(model, model.family.predict(model, problem, golden.inputs["label"], None), problem)
    assert near(loss.mean(), golden.outputs["loss"])
    tables = PROCESS.variances()  # what the official code logs beside is weighted by the variance of a reverse step
    weights = tables.beta_K.square() / (2 * tables.variance_K * (1 - tables.beta_K) * (1 - tables.alpha_bar_K))
    weights[0] = weights[1]
    assert near((weights.float()[problem.t] * loss).mean(), golden.outputs["loss_vlb"])
    loss.mean().backward()
    found = {name: float(p.grad.norm()) for name, p in model.network.named_parameters()}
    options = model.card.network_options(LDMNetwork)
    for key, norm in golden.outputs.items():
        if key.startswith("gradnorm/"):
            (own,) = LDMKind().from_official(options, {key.removeprefix("gradnorm/"): norm})
            assert abs(found.pop(own) - float(norm)) <= 1e-4 * max(1.0, float(norm)), key
    assert not found


def test_an_average_is_taken_where_there_is_one(tmp_path: Path) -> None:
    """LitEma has the network's keys without dots, and not the class embedder's, which is trained beside it."""
    golden = read_golden("ldm-cin")
    unet = {key: value for key, value in golden.weights.items() if key.startswith("model.diffusion_model.")}
    average = {f"model_ema.{key.removeprefix('model.').replace('.', '')}": value + 1 for key, value in unet.items()}
    extra = {**average, "model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(178_000)}
    model = ldm_model(golden, tmp_path, extra)
    key = "model.diffusion_model.input_blocks.0.0.weight"
    assert torch.equal(model.network.conv_in.weight, golden.weights[key] + 1)
    assert torch.equal(model.network.class_embedder.weight, golden.weights["cond_stage_model.embedding.weight"])
    assert model.provenance["entry"] == "ema"
    raw = import_model(ldm_card(golden.config), tmp_path / "model.ckpt", "raw")
    assert torch.equal(raw.network.conv_in.weight, golden.weights[key])


def draw(golden: Golden, folder: Path, scale: float, **settings: Any) -> Tensor:
    model, noise = ldm_model(golden, folder), golden.inputs["noise"]
    generator = RecordedSteps(noise, golden.inputs["step_noise"])
    guidance = Unguided() if scale == 1 else ClassifierFree(scale)
    chosen = DiffusionSampler(steps=golden.config["steps"], **settings)
    with torch.no_grad():
        return sample(model, golden.inputs["label"], guidance, chosen, generator)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_samples(scale: float, tmp_path: Path) -> None:
    golden = read_golden("ldm-cin-sample")
    assert near(draw(golden, tmp_path, scale, sampler="plms"), golden.outputs[f"plms/scale{scale}"])
    for eta in (0.0, 1.0):
        found = draw(golden, tmp_path, scale, sampler="ldm-ddim", eta=eta)
        assert near(found, golden.outputs[f"ddim/eta{eta}_scale{scale}"])


def test_the_last_steps_of_ddim(tmp_path: Path) -> None:
    """Started late the latents stay small, so that each step shows."""
    golden, settings = read_golden("ldm-cin-sample"), DiffusionSampler(sampler="ldm-ddim", eta=1.0)
    scheduler = latent.build_scheduler("ldm-ddim", PROCESS.scheduler)
    scheduler.set_timesteps(golden.config["steps"])
    timesteps = scheduler.timesteps
    assert torch.equal(timesteps.flip(0), golden.outputs["ddim/timesteps"])
    kept = scheduler.alphas_cumprod[timesteps.flip(0)]
    assert near(kept, golden.outputs["ddim/alphas"], 1e-6)
    before = torch.cat([scheduler.final_alpha_cumprod[None], kept[:-1]])
    assert near(before, golden.outputs["ddim/alphas_prev"], 1e-6)
    model, step, steps = ldm_model(golden, tmp_path), scheduler.step, []
    scheduler.step = lambda *inputs, **arguments: steps.append(step(*inputs, **arguments)) or steps[-1]
    guidance = ClassifierFree(golden.config["scales"][-1])
    steered = Steered(model, golden.inputs["label"], guidance)
    generator = RecordedSteps(golden.inputs["noise"], golden.inputs["step_noise"])
    with torch.no_grad():
        drawing = Drawing(model, PROCESS, steered, settings, generator)
        found = latent.follow(drawing, scheduler, timesteps[-golden.config["late"] :].tolist())
    assert near(found, golden.outputs["ddim/late_eta1.0"])
    assert near(steps[-1].pred_original_sample, golden.outputs["ddim/late_pred_x0"])


@pytest.fixture
def first_stage(tmp_path: Path) -> LatentVQ:
    golden = read_golden("ldm-vq")
    vq, path = golden.config["vq"], tmp_path / "model.ckpt"
    weights = {f"first_stage_model.{key}": value for key, value in golden.weights.items()}
    torch.save({"state_dict": {**weights, "model.diffusion_model.out.0.weight": torch.zeros(2)}}, path)
    sizes = vq["ddconfig"]
    spec = TokenizerSpec(
        id="tiny",
        kind="latent-vq",
        channels=vq["embed_dim"],
        downsample=2,
        options={
            "width": sizes["ch"],
            "multipliers": sizes["ch_mult"],
            "blocks": sizes["num_res_blocks"],
            "vectors": vq["n_embed"],
        },
    )
    return LatentVQ.load(spec, str(path))


def test_first_stage(first_stage: LatentVQ, tmp_path: Path) -> None:
    golden = read_golden("ldm-vq")
    image, z = golden.inputs["image"], golden.inputs["z"]
    latents = first_stage.encode(image)
    assert near(latents, golden.outputs["encode"])
    assert torch.equal(first_stage.codes(latents), golden.outputs["indices"].view(2, 8, 8))
    quantised = first_stage.quantised(latents)
    assert near(quantised, golden.outputs["quant"])
    assert near(1.25 * (quantised - latents).square().mean(), golden.outputs["emb_loss"])  # that of its training
    assert near(first_stage.decode(z), golden.outputs["decode"])
    assert near(first_stage.images_of(z), golden.outputs["decode_no_quantise"])
    assert near(first_stage.decode(latents), golden.outputs["reconstruction"])
    torch.save(golden.weights, tmp_path / "vq-f4.ckpt")
    alone = LatentVQ.load(first_stage.spec, str(tmp_path / "vq-f4.ckpt"))
    assert torch.equal(alone.encode(image), latents)
    with pytest.raises(GftzooError, match="does not fit"):
        torch.save({"encoder.conv_out.weight": torch.zeros(1)}, tmp_path / "other.ckpt")
        LatentVQ.load(first_stage.spec, str(tmp_path / "other.ckpt"))
