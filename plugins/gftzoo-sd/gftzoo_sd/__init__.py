"""Stable Diffusion for gftzoo."""

from gftzoo_sd.family import StableDiffusionFamily

__all__ = ["StableDiffusionFamily"]
