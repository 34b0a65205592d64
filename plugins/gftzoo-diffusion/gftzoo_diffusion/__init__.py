"""DiT for gftzoo."""

from gftzoo_diffusion.family import DiffusionFamily

__all__ = ["DiffusionFamily"]
