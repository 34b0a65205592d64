"""The shelf of processes: what a card names as `network.process`. A new one is a line here, and a file where it needs
code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch

from gftzoo_diffusion.processes.discrete import cosine, linear, scaled_linear
from gftzoo_diffusion.processes.flow import Flow
from gftzoo_diffusion.processes.process import Process
from gftzoo_diffusion.processes.vp_sde import VPSDE

with torch.device("cpu"):  # also where a network is just being built on the meta device
    PROCESSES: Final[Mapping[str, Process]] = {
        "linear": linear(1e-4, 0.02),
        "cosine": cosine(),
        "scaled-linear": scaled_linear(0.00085, 0.012),
        "scaled-linear-from-1": scaled_linear(0.00085, 0.012, first=1),  # U-ViT counts the steps from 1
        "scaled-linear-ldm": scaled_linear(0.0015, 0.0195),
        "vp-sde": VPSDE(),
        "flow": Flow(),
    }
