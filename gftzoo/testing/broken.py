"""What a check throws."""

from __future__ import annotations


class Broken(Exception):  # noqa: N818 (a finding, not an error of the kit)
    """A sentence of the contract does not hold; the message has the numbers."""
