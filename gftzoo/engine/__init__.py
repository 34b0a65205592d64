"""Training: `resolve` makes a configuration of a recipe, options and data; `train` runs it, new or resumed."""

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.folder import unused_name
from gftzoo.engine.job import Job
from gftzoo.engine.options import parse_options
from gftzoo.engine.resolving import Wanted, plan, resolve
from gftzoo.engine.runner import train

__all__ = ["Job", "TrainConfig", "Wanted", "parse_options", "plan", "resolve", "train", "unused_name"]
