"""The family and its hooks."""


class DiffusionFamily:
    """Placeholder."""
