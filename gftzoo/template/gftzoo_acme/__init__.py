"""acme, a family of image generators for gftzoo."""

from gftzoo_acme.family import AcmeFamily

__all__ = ["AcmeFamily"]
