"""Training: `resolve` makes a configuration of a recipe, options and data; `train` runs it, new or resumed.

Each name is imported when it is first asked for: who wants the options of a run needs no mmengine.
"""

from typing import TYPE_CHECKING

from gftzoo.lazy import resolver

_HOME = {
    "Job": "gftzoo.engine.run.job",
    "TrainConfig": "gftzoo.engine.config",
    "Wanted": "gftzoo.engine.run.wanted",
    "parse_options": "gftzoo.engine.run.options",
    "plan": "gftzoo.engine.run.resolving",
    "resolve": "gftzoo.engine.run.resolving",
    "resolved": "gftzoo.engine.run.resolving",
    "train": "gftzoo.engine.run.runner",
    "unused_name": "gftzoo.engine.record.folder",
}
__all__ = list(_HOME)

if TYPE_CHECKING:
    from gftzoo.engine.config import TrainConfig as TrainConfig
    from gftzoo.engine.record.folder import unused_name as unused_name
    from gftzoo.engine.run.job import Job as Job
    from gftzoo.engine.run.options import parse_options as parse_options
    from gftzoo.engine.run.resolving import plan as plan
    from gftzoo.engine.run.resolving import resolve as resolve
    from gftzoo.engine.run.resolving import resolved as resolved
    from gftzoo.engine.run.runner import train as train
    from gftzoo.engine.run.wanted import Wanted as Wanted

__getattr__ = resolver(__name__, _HOME)
