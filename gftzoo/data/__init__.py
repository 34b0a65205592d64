"""Data: sources of images with classes or captions, and the batches that training makes of them.

Each name is imported when it is first asked for: the settings in a source's name need no torch.
"""

from typing import TYPE_CHECKING

from gftzoo.lazy import resolver

_HOME = {
    "Layout": "gftzoo.data.lanes",
    "Preflight": "gftzoo.data.preflight",
    "SeekableSampler": "gftzoo.data.training",
    "Source": "gftzoo.data.sources",
    "Split": "gftzoo.data.sources",
    "TrainingData": "gftzoo.data.training",
    "open_source": "gftzoo.data.sources",
    "training_data": "gftzoo.data.training",
}
__all__ = list(_HOME)

if TYPE_CHECKING:
    from gftzoo.data.lanes import Layout as Layout
    from gftzoo.data.preflight import Preflight as Preflight
    from gftzoo.data.sources import Source as Source
    from gftzoo.data.sources import Split as Split
    from gftzoo.data.sources import open_source as open_source
    from gftzoo.data.training import SeekableSampler as SeekableSampler
    from gftzoo.data.training import TrainingData as TrainingData
    from gftzoo.data.training import training_data as training_data

__getattr__ = resolver(__name__, _HOME)
