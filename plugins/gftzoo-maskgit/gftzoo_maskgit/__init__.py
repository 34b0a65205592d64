"""MaskGIT, MAGE and MaskBit for gftzoo."""

from gftzoo_maskgit.family import MaskGITFamily

__all__ = ["MaskGITFamily"]
