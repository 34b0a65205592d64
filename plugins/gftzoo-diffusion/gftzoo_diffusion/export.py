"""A plain DiT, or one with a temperature folded in, as a folder that an unmodified diffusers.DiTPipeline loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.exporting import pipeline_vae, save_pipeline
from gftzoo_diffusion.networks.dit import DiT, DiTNetwork
from gftzoo_diffusion.networks.patches import sincos_positions
from gftzoo_diffusion.processes.discrete import Discrete
from gftzoo_diffusion.samplers import DiffusionSampler
from gftzoo_diffusion.timesteps import MOST_EXACT, refit

# diffusers' names in a block, and ours; the rest is in `renamed`.
BLOCK = {
    "norm1.linear": "adaLN_modulation.1",
    "attn1.to_out.0": "attn.proj",
    "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2",
}
README = """# {name}

`{name}` for diffusers, written by gftzoo{baked}.

    from diffusers import DiTPipeline
    pipeline = DiTPipeline.from_pretrained(FOLDER)
    images = pipeline(class_labels=[0], guidance_scale={scale}, num_inference_steps={steps}).images

diffusers' timestep embedding has other frequencies than DiT's. The layer behind it was fitted anew, so that the two
agree at the timesteps of this scheduler with {steps} steps; with another number of steps pictures come out slightly
different. guidance_scale 1 is one pass of the network a step.
"""


def export_pipeline(model: Model, folder: Path) -> Path:
    """Writes transformer, VAE, scheduler and class names; returns the folder.

    Raises UsageError for a model that the pipeline cannot run: with a temperature input, without a VAE, with another
    mlp_ratio than 4, or with positions of its own.
    """
    from diffusers import DiTPipeline, DiTTransformer2DModel  # slow to import, and most commands need none of it

    card, network = model.card, model.card.network_options(DiTNetwork)
    check(model, network)
    vae = pipeline_vae(model, "train with -o tokenizer=sd-vae.")
    scheduler = exported_scheduler(model)
    transformer = DiTTransformer2DModel(
        num_attention_heads=network.heads,
        attention_head_dim=network.width // network.heads,
        in_channels=card.tokenizer.channels,
        out_channels=model.network.out_channels,
        num_layers=network.depth,
        sample_size=card.grid,
        patch_size=network.patch,
        num_embeds_ada_norm=card.classes,
        norm_eps=1e-6,
    )
    transformer.load_state_dict(renamed(model, scheduler.timesteps.tolist(), network))
    names = card.class_names or tuple(str(index) for index in range(card.classes))
    pipeline = DiTPipeline(transformer.eval(), vae, scheduler)
    pipeline.register_to_config(id2label={str(index): name for index, name in enumerate(names)})
    save_pipeline(pipeline, folder, readme(model, len(scheduler.timesteps)))
    return folder


def check(model: Model, network: DiTNetwork) -> None:
    """UsageError for what the pipeline cannot run."""
    card = model.card
    if type(model.network) is not DiT or not isinstance(network.way, Discrete) or network.way.first:
        raise UsageError(
            f"{card.name} is network {network.kind!r} on process {network.process!r}, and a DiTPipeline runs DiT on a "
            "diffusion of discrete steps from 0; export it with --to official."
        )
    if card.temperature:
        raise UsageError(
            f"{card.name} has a temperature input, and a DiTPipeline has none; fold one value into the weights with "
            "--beta 0.66."
        )
    if network.mlp_ratio != 4:
        raise UsageError(
            f"{card.name} has network.mlp_ratio {network.mlp_ratio:g}, and diffusers' DiT is built with 4 only."
        )
    if not torch.allclose(model.network.pos_embed.cpu(), sincos_positions(network.width, card.grid // network.patch)):
        raise UsageError(
            f"the positions of {card.name} are not DiT's sines and cosines, which diffusers computes anew."
        )


def exported_scheduler(model: Model) -> Any:
    """DPM-Solver++ with the card's number of steps, where the timesteps can be fitted, or with as many as can."""
    from diffusers import DPMSolverMultistepScheduler  # slow to import, and most commands need none of it

    settings = model.family.sampler_settings(model.card)
    assert isinstance(settings, DiffusionSampler)
    solver = settings.sampler == "dpm-solver++"
    steps = min(settings.steps, MOST_EXACT) if solver else MOST_EXACT
    process = model.card.network_options(DiTNetwork).way
    assert isinstance(process, Discrete)
    scheduler = DPMSolverMultistepScheduler(**process.scheduler)
    scheduler.set_timesteps(steps)
    return scheduler


def renamed(model: Model, timesteps: list[int], network: DiTNetwork) -> dict[str, Tensor]:
    """The state dict under diffusers' names; every block there has its own copy of the embeddings."""
    own: Mapping[str, Tensor] = {key: value.detach().cpu() for key, value in model.network.state_dict().items()}
    settings = model.family.sampler_settings(model.card)
    assert isinstance(settings, DiffusionSampler)
    weight, bias = refit(
        own["t_embedder.mlp.0.weight"], own["t_embedder.mlp.0.bias"], timesteps, settings.timestep_offset
    )
    embeddings = {
        "timestep_embedder.linear_1.weight": weight,
        "timestep_embedder.linear_1.bias": bias,
        "timestep_embedder.linear_2.weight": own["t_embedder.mlp.2.weight"],
        "timestep_embedder.linear_2.bias": own["t_embedder.mlp.2.bias"],
        "class_embedder.embedding_table.weight": own["y_embedder.embedding_table.weight"],
    }
    found: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        found[f"pos_embed.proj.{kind}"] = own[f"x_embedder.proj.{kind}"]
        found[f"proj_out_1.{kind}"] = own[f"final_layer.adaLN_modulation.1.{kind}"]
        found[f"proj_out_2.{kind}"] = own[f"final_layer.linear.{kind}"]
    for index in range(network.depth):
        ours, theirs = f"blocks.{index}", f"transformer_blocks.{index}"
        found |= {f"{theirs}.norm1.emb.{key}": value for key, value in embeddings.items()}
        for kind in ("weight", "bias"):
            found |= {f"{theirs}.{a}.{kind}": own[f"{ours}.{b}.{kind}"] for a, b in BLOCK.items()}
            parts = own[f"{ours}.attn.qkv.{kind}"].chunk(3)
            found |= {f"{theirs}.attn1.to_{name}.{kind}": part for name, part in zip("qkv", parts, strict=True)}
    return found


def readme(model: Model, steps: int) -> str:
    """What the folder holds, and how to run it."""
    baked = model.provenance.get("baked")
    if model.baked_beta is None:
        return README.format(name=model.card.name, baked="", steps=steps, scale=1.5)
    note = f", with the temperature {model.baked_beta:g} in its weights: one unguided pass is enough.\n\n"
    return README.format(name=model.card.name, baked=note + f"    {json.dumps(baked)}\n", steps=steps, scale=1)
