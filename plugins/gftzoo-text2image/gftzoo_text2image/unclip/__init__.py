"""unCLIP (arXiv 2204.06125) as the open Karlo: a prior from text to CLIP's embedding of a picture, and its decoder."""

from gftzoo_text2image.unclip.family import UnclipDecoderFamily, UnclipPriorFamily

__all__ = ["UnclipDecoderFamily", "UnclipPriorFamily"]
