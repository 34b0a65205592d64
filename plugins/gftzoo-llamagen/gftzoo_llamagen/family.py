"""The family and its hooks."""


class LlamaGenFamily:
    """Placeholder."""
