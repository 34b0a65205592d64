"""What `gftzoo runs`, `report` and `compare` do; without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gftzoo.cli.tables import add_row, show, table
from gftzoo.errors import GftzooError, UsageError
from gftzoo.printing import plain, say, say_json
from gftzoo.report.page import write_comparison, write_report
from gftzoo.report.reading import RunFolder, runs_below


def runs(folder: Path, as_json: bool) -> None:
    """List the runs below a folder; one whose configuration is damaged is named and takes no other down."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r}; name that of the runs, e.g. `gftzoo runs runs`.")
    found = [about(run, folder) for run in runs_below(folder)]
    if as_json:
        say_json(found)
        return
    if not found:
        say(f"There is no run below {str(folder)!r}; `gftzoo train dit-nano --gft` makes one.", err=True)
        return
    rows = table("run", "state", "step", "last loss", "best score")
    for row in found:
        loss, best = (f"{row[key]:.4g}" if row[key] is not None else "" for key in ("loss", "best_score"))
        step = f"{row['step']:,} of {row['steps']:,}" if row["steps"] else ""
        add_row(rows, row["run"], row["state"], step, loss, best)
    show(rows)


def about(run: RunFolder, folder: Path) -> dict[str, Any]:
    """A run in a line."""
    name = run.path.relative_to(folder).as_posix()
    try:
        return {
            "run": name,
            "state": run.state,
            "step": run.step,
            "steps": run.steps,
            "loss": run.last("loss"),
            "best_score": run.best_score,
        }
    except GftzooError as error:
        return {"run": name, "state": plain(error, 200), "step": 0, "steps": 0, "loss": None, "best_score": None}


def report(run: Path) -> None:
    """Write the report of a run anew."""
    say(f"{write_report(run)}", err=True)


def compare(first: Path, second: Path, out: Path) -> None:
    """Write the comparison of two runs, and say the last loss and the best score of each."""
    write_comparison(first, second, out)
    for run in (RunFolder(first), RunFolder(second)):
        loss, best = run.last("loss"), run.best_score
        words = [f"{run.path}: {run.state}, step {run.step:,}"]
        words += [f"loss {loss:.4g}"] if loss is not None else []
        words += [f"best score {best:.4g}"] if best is not None else []
        say(", ".join(words))
    say(f"{out}", err=True)
