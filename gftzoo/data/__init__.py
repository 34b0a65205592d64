"""Data: sources of images with classes or captions, and the batches that training makes of them."""

from gftzoo.data.lanes import Layout
from gftzoo.data.preflight import Preflight, preflight
from gftzoo.data.sources import Source, Split, open_source
from gftzoo.data.training import SeekableSampler, TrainingData, training_data

__all__ = [
    "Layout",
    "Preflight",
    "SeekableSampler",
    "Source",
    "Split",
    "TrainingData",
    "open_source",
    "preflight",
    "training_data",
]
