"""Which checkpoint was the best, by its score or its validation loss, and the end of a run that gets no better."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from gftzoo.atomic import written_whole
from gftzoo.documents import read_json
from gftzoo.engine.checkpoints.kept import BEST, all_checkpoints, point_to_best
from gftzoo.engine.config import TrainConfig
from gftzoo.engine.parallel.ranks import any_rank
from gftzoo.errors import GftzooError
from gftzoo.group import is_main_process

STATE = "best.json"


class Best:
    """The least measure of the checkpoints so far, in `best.json`, and the link `checkpoint_best` to its checkpoint."""

    def __init__(self, config: TrainConfig, run: Path) -> None:
        self.config, self.run = config, run
        self.measure = "score" if config.score.every is not None else "validation"
        self.value: float | None = None
        self.since = 0  # measured checkpoints since the best

    def take_up(self, step: int) -> None:
        """What a resumed run knew at its checkpoint."""
        known = _read(self.run)
        if known.get("measure") == self.measure and int(known["step"]) <= step:
            self.value, self.since = float(known["best"]), int(known["since"])

    def judge(self, runner: Any, step: int, found: float | None) -> None:
        """Keeps the best, and ends a run that was no better for as long as it is patient. For every rank.

        `found` is of the checkpoint of that step, on the main process.
        """
        if is_main_process() and found is not None:
            self._keep(runner, step, found)
        patience = self.config.patience
        if patience is not None and any_rank(self.since >= patience):
            runner.train_loop.give_up()

    def _keep(self, runner: Any, step: int, found: float) -> None:
        found = found if math.isfinite(found) else sys.float_info.max  # worse than any number
        better = self.value is None or found < self.value
        self.value, self.since = (found, 0) if better else (self.value, self.since + 1)
        with written_whole(self.run / STATE) as partial:
            known = {"measure": self.measure, "step": step, "best": self.value, "since": self.since}
            partial.write_text(json.dumps(known), encoding="utf-8")
        if better and all_checkpoints(self.run):
            point_to_best(self.run, step)
        if self.config.patience is not None and self.since >= self.config.patience:
            runner.logger.warning(
                f"{self.measure} got no better at {self.since} checkpoints: the run ends at step {step}, and "
                f"{self.run / BEST} is its best checkpoint."
            )


def gave_up(config: TrainConfig, run: Path, step: int) -> bool:
    """Whether a run ended at that step because it got no better."""
    known = _read(run)
    return config.patience is not None and known.get("step") == step and int(known["since"]) >= config.patience


def _read(run: Path) -> dict[str, Any]:
    """What is known; nothing where it is damaged or not there."""
    try:
        known = read_json(run / STATE)
        float(known["best"]), int(known["since"]), int(known["step"])
    except (GftzooError, KeyError, TypeError, ValueError):
        return {}
    return dict(known)
