"""The family and its hooks."""


class MARFamily:
    """Placeholder."""
