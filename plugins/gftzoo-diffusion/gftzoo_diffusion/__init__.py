"""Diffusion and flow matching for gftzoo."""

from gftzoo_diffusion.family import DiffusionFamily

__all__ = ["DiffusionFamily"]
