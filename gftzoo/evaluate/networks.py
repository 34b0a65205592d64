"""Feature networks by name."""

from __future__ import annotations

from pathlib import Path

from gftzoo.errors import UsageError, nearest
from gftzoo.evaluate.embedded import embedded_classifier
from gftzoo.evaluate.features import EfficientLite0, FeatureNetwork, Inception, inception_path


def feature_network(name: str, weights: str | Path | None = None) -> FeatureNetwork:
    """The feature network of that name.

    Args:
        name: `inception`, `efflite0` (or `efflite0:224` for another input side), or `embedded:SOURCE` (alias
            `digits-classifier`), a small classifier that is trained on the source's train split and cached.
        weights: the file of `inception`.

    Raises:
        UsageError: unknown name. GftzooError: its weights are not on this machine.
    """
    kind, _, option = ("embedded:digits" if name == "digits-classifier" else name).partition(":")
    if kind == "inception" and not option:
        return Inception(inception_path(weights))
    if kind == "efflite0" and (not option or option.isdecimal()):
        return EfficientLite0(int(option or 128))
    if kind == "embedded" and option:
        return embedded_classifier(option)
    valid = ("inception", "efflite0", "embedded:SOURCE")
    raise UsageError(f"unknown feature network {name!r}{nearest(name, valid)}; valid are {', '.join(valid)}.")
