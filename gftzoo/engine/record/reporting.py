"""The report of a run, `report.html` in its folder, made anew with every checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import Hook
from gftzoo.engine.record.samples import told
from gftzoo.group import is_main_process
from gftzoo.report.page import REPORT_FILE, write_report


class ReportHook(Hook):
    """Writes the report at every checkpoint and at the end, when the pictures of that step are there."""

    priority = "LOWEST"  # behind `SampleHook`, which is registered before

    def __init__(self, config: TrainConfig, run: Path) -> None:
        self.config, self.run = config, run

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.config.saves_at(runner.iter + 1):
            self._write(runner)

    def after_train(self, runner: Any) -> None:
        self._write(runner)

    def _write(self, runner: Any) -> None:
        if is_main_process():
            with told(runner, self.run / REPORT_FILE):
                write_report(self.run)
