"""Checkpoints that cannot be half: a folder written beside, flushed and renamed, of safetensors and plain JSON.

`checkpoints/step-00001000/` holds card.json, state.json with a checksum of every file, and the tensors:
raw.safetensors, optimizer.safetensors and (if there is an average) ema.safetensors, or folders raw/, optimizer/ and
ema/ with every rank's parts. Anything that `gftzoo.load` reads is complete in it.
"""

from typing import TYPE_CHECKING

from gftzoo.engine.checkpoints.kept import all_checkpoints, discard, newest, prune, read_state, sweep
from gftzoo.lazy import resolver

if TYPE_CHECKING:
    from gftzoo.engine.checkpoints.writing import write as write

__all__ = ["all_checkpoints", "discard", "newest", "prune", "read_state", "sweep", "write"]
__getattr__ = resolver(__name__, {"write": "gftzoo.engine.checkpoints.writing"})  # which takes torch's sharded tensors
