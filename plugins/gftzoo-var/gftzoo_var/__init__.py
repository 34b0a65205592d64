"""VAR for gftzoo."""

from gftzoo_var.family import VARFamily

__all__ = ["VARFamily"]
