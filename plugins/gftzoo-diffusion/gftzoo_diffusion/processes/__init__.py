"""The shelf of processes: what a card names as `network.process`. A new one is a line here, and a file where it needs
code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch

from gftzoo_diffusion.processes.discrete import cosine, linear, scaled_linear
from gftzoo_diffusion.processes.flow import Flow
from gftzoo_diffusion.processes.paths import Circular, Linear, Preserving
from gftzoo_diffusion.processes.process import Process
from gftzoo_diffusion.processes.vp_sde import VPSDE


def flows() -> dict[str, Flow]:
    """Every interpolant with every prediction; what divides by zero keeps away from the ends, as SiT does."""
    found = {}
    for path_name, path in (("flow", Linear()), ("flow-gvp", Circular()), ("flow-vp", Preserving())):
        exact = not path.starts
        found[path_name] = Flow(path) if exact else Flow(path, "velocity", 1e-5, 1e-3)
        found[f"{path_name}-noise"] = Flow(path, "noise", 1e-3 if exact else 1e-5, 1e-3)
        found[f"{path_name}-score"] = Flow(path, "score", 1e-3 if exact else 1e-5, 1e-3)
    return found


with torch.device("cpu"):  # also where a network is just being built on the meta device
    PROCESSES: Final[Mapping[str, Process]] = {
        "linear": linear(1e-4, 0.02),
        "cosine": cosine(),
        "scaled-linear": scaled_linear(0.00085, 0.012),
        "scaled-linear-from-1": scaled_linear(0.00085, 0.012, first=1),  # U-ViT counts the steps from 1
        "scaled-linear-ldm": scaled_linear(0.0015, 0.0195),
        "vp-sde": VPSDE(),
        **flows(),
    }
