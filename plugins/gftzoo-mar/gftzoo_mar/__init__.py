"""MAR for gftzoo."""

from gftzoo_mar.family import MARFamily

__all__ = ["MARFamily"]
