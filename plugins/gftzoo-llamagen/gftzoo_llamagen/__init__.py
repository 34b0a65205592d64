"""LlamaGen for gftzoo."""

from gftzoo_llamagen.family import LlamaGenFamily

__all__ = ["LlamaGenFamily"]
