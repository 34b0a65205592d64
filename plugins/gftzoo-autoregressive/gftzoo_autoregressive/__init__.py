"""Autoregressive systems for gftzoo."""

from gftzoo_autoregressive.gpt_family import ViTVQGANFamily, VQGANFamily
from gftzoo_autoregressive.magvit_family import OpenMagvitFamily
from gftzoo_autoregressive.rar_family import RARFamily
from gftzoo_autoregressive.rq_family import RQFamily

__all__ = ["OpenMagvitFamily", "RARFamily", "RQFamily", "VQGANFamily", "ViTVQGANFamily"]
