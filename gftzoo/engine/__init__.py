"""Training: `resolve` makes a configuration of a recipe, options and data; `train` runs it, new or resumed."""

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.folder import unused_name
from gftzoo.engine.options import parse_options
from gftzoo.engine.resolving import resolve
from gftzoo.engine.runner import train

__all__ = ["TrainConfig", "parse_options", "resolve", "train", "unused_name"]
