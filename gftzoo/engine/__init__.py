"""Training: `resolve` makes a configuration of a recipe, options and data; `train` runs it, new or resumed."""

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.record.folder import unused_name
from gftzoo.engine.run.job import Job
from gftzoo.engine.run.options import parse_options
from gftzoo.engine.run.resolving import Wanted, plan, resolve
from gftzoo.engine.run.runner import train

__all__ = ["Job", "TrainConfig", "Wanted", "parse_options", "plan", "resolve", "train", "unused_name"]
