"""The shelf of samplers, each written once for GFT, CFG and unguided sampling of any network.

A process names those that draw from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from torch import Tensor

from gftzoo.contract.guidance import ByClassifier, Guidance, Unguided
from gftzoo.contract.model import Model
from gftzoo.contract.pieces import Steered
from gftzoo.errors import UsageError
from gftzoo.generator import SampleGenerator
from gftzoo_diffusion.options import NetworkOptions
from gftzoo_diffusion.samplers import latent, ordinary, respaced, singlestep, stochastic
from gftzoo_diffusion.samplers.drawing import Drawing
from gftzoo_diffusion.samplers.settings import RESPACED
from gftzoo_diffusion.samplers.settings import DiffusionSampler as DiffusionSampler

SAMPLERS: Final[Mapping[str, Callable[[Drawing], Tensor]]] = {
    "dpm-solver++": respaced.multistep,
    "ddpm": respaced.respaced,
    "ddim": respaced.respaced,
    "ldm-ddim": latent.latent,
    "plms": latent.latent,
    **singlestep.SAMPLERS,
    **dict.fromkeys(ordinary.TABLEAUS, ordinary.fixed),
    "dopri5": ordinary.adaptive,
    "sde": stochastic.stochastic,
    "sde-heun": stochastic.stochastic,
}


def sample(
    model: Model,
    condition: Tensor,
    guidance: Guidance,
    settings: DiffusionSampler,
    generator: SampleGenerator,
    given: Tensor | None = None,
) -> Tensor:
    """Latents (B, C, h, w) of the conditions (B,).

    `given` is what the network sees beside the noisy latents; a classifier has then guided how that was drawn.
    """
    options = model.card.network_options(NetworkOptions)
    if settings.sampler not in options.way.samplers:
        raise UsageError(
            f"sampler={settings.sampler} does not draw from the process {options.process!r} of {model.card.name}; "
            f"choose -s sampler={' or '.join(options.way.samplers)}."
        )
    if isinstance(guidance, ByClassifier) and settings.sampler not in RESPACED:
        raise UsageError(
            f"sampler={settings.sampler} takes no classifier; choose -s sampler={' or '.join(RESPACED)}, as published."
        )
    if given is not None and isinstance(guidance, ByClassifier):
        guidance = Unguided()
    steered = Steered(model, condition, guidance)
    return SAMPLERS[settings.sampler](Drawing(model, options.way, steered, settings, generator, given))
