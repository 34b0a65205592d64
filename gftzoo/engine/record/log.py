"""The log of a run: everything into its file, the essentials on standard error."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from gftzoo.group import is_main_process
from gftzoo.printing import PlainFormatter


class LogFile(logging.FileHandler):
    """A log file whose errors (a full disk) are errors of the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        raise  # noqa: PLE0704


def run_logger(run: Path) -> logging.Logger:
    """Everything into `log.txt`, the essentials as plain lines on standard error (main process only)."""
    logger = logging.getLogger(f"gftzoo.run.{run.name}")
    logger.setLevel(logging.DEBUG if is_main_process() else logging.ERROR)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    if is_main_process():
        file = LogFile(run / "log.txt")
        file.setFormatter(PlainFormatter("%(asctime)s %(message)s"))
        logger.addHandler(file)
        families = logging.getLogger("gftzoo.family")  # what families have to say about how they run
        families.setLevel(logging.INFO)
        families.handlers = [file]
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.INFO)
    console.addFilter(lambda record: record.name == logger.name and not record.getMessage().startswith("Hooks will"))
    console.setFormatter(PlainFormatter("%(message)s"))
    logger.addHandler(console)
    return logger
