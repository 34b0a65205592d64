"""The family and its hooks."""


class StableDiffusionFamily:
    """Placeholder."""
