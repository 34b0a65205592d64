"""A fixed temperature in the weights of the stock denoiser."""

from __future__ import annotations

import torch

from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.layers.folding import Tensors, fold, fold_projection
from gftzoo.layers.guidance_embedding import embed_strength
from gftzoo_text2image.network import options_of, pipeline_of

PROJECTION = "time_embedding.cond_proj"


def fold_temperature(model: Model, beta: float) -> Tensors:
    """The plain network's state dict; a UNet's projection is added to the timestep's sinusoid.

    Raises UsageError for a guidance input, which the stock network has as well.
    """
    options, pipeline = options_of(model.card), pipeline_of(model.card)
    if options.embeds and pipeline.temperature != "timestep_cond":
        raise UsageError(
            f"{model.card.name} is told its temperature by a guidance input, which its pipeline has too: leave --beta "
            f"out, and sample it there with guidance_scale={1 / beta:g}."
        )
    own = options.embeds and options.config.get("time_cond_proj_dim") is None
    tensors = fold(model.network, beta, {PROJECTION: ()} if own else {}, pipeline.head)
    if options.embeds:
        projection = model.network.get_submodule(PROJECTION)
        embedded = embed_strength(torch.tensor([1 / beta - 1]), int(projection.in_features))
        fold_projection(tensors, projection, embedded, "time_embedding.linear_1")
    return tensors
