"""The text-to-image pipelines of diffusers for gftzoo."""

from gftzoo_text2image.family import TextToImageFamily

__all__ = ["TextToImageFamily"]
