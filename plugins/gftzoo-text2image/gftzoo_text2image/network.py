"""The denoiser of a pipeline as gftzoo's network: diffusers' own module under its own names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard
from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.layers.temperature import SMALLEST_BETA, Prediction
from gftzoo.layers.unet_names import RESIDUAL, places, renamed
from gftzoo_text2image.options import PipelineNetwork
from gftzoo_text2image.pipelines import Pipeline, known_pipeline
from gftzoo_text2image.slope import add_slope, as_prediction

ORIGINAL = ("model.diffusion_model.", "diffusion_model.")  # prefixes of a UNet in files of the original code


def options_of(card: ModelCard) -> PipelineNetwork:
    """The card's options."""
    return card.network_options(PipelineNetwork)


def pipeline_of(card: ModelCard) -> Pipeline:
    """The pipeline on the shelf that the card names."""
    return known_pipeline(options_of(card).pipeline, card.name)


def build_denoiser(card: ModelCard) -> nn.Module:
    """The network of a card, with the input that its temperature needs.

    Raises UsageError for a configuration that the class does not take, and for a temperature that it cannot be given.
    """
    import diffusers  # slow to import

    options, pipeline = options_of(card), pipeline_of(card)
    config = dict(options.config)
    if card.temperature and options.embeds:
        config |= temperature_input(card, pipeline, config)
    kind = getattr(diffusers, pipeline.network)
    unknown = sorted(config.keys() - set(inspect.signature(kind.__init__).parameters))
    if unknown:
        raise UsageError(
            f"{card.name}: {pipeline.network} of this diffusers knows no {unknown[0]!r}; install a newer one."
        )
    try:
        network: nn.Module = kind(**config)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{card.name}: {pipeline.network} cannot be built from its config ({error}).") from error
    if card.temperature and options.affine:
        add_slope(network, pipeline)
    return network


def temperature_input(card: ModelCard, pipeline: Pipeline, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the configuration needs for an embedded temperature; UsageError where the network has no place for it."""
    if pipeline.temperature == "timestep_cond":
        return {"time_cond_proj_dim": config.get("time_cond_proj_dim") or 512}
    if pipeline.temperature == "guidance" and config.get("guidance_embeds"):
        return {}
    raise UsageError(
        f"{card.name} has no input that could take a temperature; train all with -o network.temperature_input=affine, "
        "or one value with -o network.temperature_input=none -o objective.beta_min=0.33 -o objective.beta_max=0.33."
    )


def config_of(card: ModelCard) -> dict[str, Any]:
    """The whole configuration of the card's network, defaults of its class among it."""
    import diffusers  # slow to import

    kind = getattr(diffusers, pipeline_of(card).network)
    parameters = inspect.signature(kind.__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return {**defaults, **options_of(card).config}


def predict(model: Model, x_BChw: Tensor, t_B: Tensor, text: Mapping[str, Tensor], beta_B: Tensor | None) -> Prediction:
    """The network's prediction (B, C, h, w); a guidance input is told 1/beta, as stock pipelines are then called."""
    pipeline, options = pipeline_of(model.card), options_of(model.card)
    embeds = getattr(model.network.config, "guidance_embeds", False)
    scale_B: Tensor | None = None
    if beta_B is not None and options.embeds:
        scale_B = 1 / beta_B.float().clamp(min=SMALLEST_BETA)
    elif embeds:
        scale_B = torch.full((len(x_BChw),), options.guidance, device=x_BChw.device)
    if pipeline.temperature == "guidance" and not embeds:
        scale_B = None
    found_BKhw = pipeline.predict(model.network, x_BChw, t_B, text, scale_B)
    return as_prediction(model.network, pipeline, found_BKhw, x_BChw.shape[1])


def from_original(card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The UNet of a file of the original code under diffusers' names; other tensors as they are."""
    prefix = next((p for p in ORIGINAL if any(key.startswith(p) for key in tensors)), None)
    if prefix is None or pipeline_of(card).component != "unet":
        return dict(tensors)
    config = config_of(card)
    unet = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    attention = ["CrossAttn" in block for block in config["down_block_types"]]
    modules = places(attention, int(config["layers_per_block"]), residual=False)
    fitted = renamed(unet, modules, RESIDUAL)
    with torch.device("meta"):
        own = build_denoiser(card).state_dict()
    # A projection of tokens is a 1x1 convolution or a matrix, as the UNet has it.
    return {key: value.view(own[key].shape) if key in own and value.numel() == own[key].numel() else value
            for key, value in fitted.items()}  # fmt: skip


def fit_weights(card: ModelCard, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, completed by an input of the temperature that has no effect yet, where the network has a new one."""
    fitted, key = from_original(card, tensors), "time_embedding.cond_proj.weight"
    embeds = card.temperature and options_of(card).embeds
    if embeds and pipeline_of(card).temperature == "timestep_cond" and key not in fitted:
        with torch.device("meta"):
            shape = build_denoiser(card).state_dict()[key].shape
        fitted[key] = torch.zeros(shape)
    return fitted
