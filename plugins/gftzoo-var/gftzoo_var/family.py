"""The family and its hooks."""


class VARFamily:
    """Placeholder."""
