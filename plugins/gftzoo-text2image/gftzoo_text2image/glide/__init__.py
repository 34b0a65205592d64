"""GLIDE (arXiv 2112.10741): a U-Net in pixels, with a text transformer of its own that trains with it."""

from gftzoo_text2image.glide.family import GlideFamily

__all__ = ["GlideFamily"]
