"""One step of training, told as the list of files that it passes, in the order in which it first comes to them.

python tools/step_files.py          # whether docs/contributing.md tells what a step of a nano model really enters
python tools/step_files.py --write  # writes its list anew
"""

from __future__ import annotations

import ast
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from gftzoo.engine import plan, train
from gftzoo.engine.run.resolving import Wanted
from gftzoo.engine.step.loop import StepLoop

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "contributing.md"
START, END = "<!-- one step -->", "<!-- end of the step -->"
MODEL = "dit-nano"
SMALL = {"batch_size": 4, "log_every": 1, "sample_every": 10**6, "sample_grid": (1, 1)}


class Watched(StepLoop):
    """The loop, with an eye on the files that its first step enters."""

    files: dict[str, None]

    def step(self, batches: Iterator[Any]) -> None:
        watching = self._iter == 0
        if watching:
            sys.setprofile(self.enter)
        try:
            super().step(batches)
        finally:
            sys.setprofile(None)

    def enter(self, frame: FrameType, event: str, _argument: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(str(ROOT)) and not path.startswith(sys.prefix):
            self.files[Path(path).relative_to(ROOT).as_posix()] = None


def passed() -> list[str]:
    """The files of one step of a nano model, the tool itself left out."""
    Watched.files = {}
    job = plan(Wanted(MODEL, steps=2, options=SMALL))
    with tempfile.TemporaryDirectory() as folder, mock.patch("gftzoo.engine.run.zoo_runner.StepLoop", Watched):
        train(job, Path(folder) / "run")
    return [name for name in Watched.files if not name.startswith(("tools/", "tests/"))]


def told(files: list[str]) -> str:
    """The list as Markdown: each file with the first sentence that it says of itself."""
    lines = []
    for number, name in enumerate(files, 1):
        said = (ast.get_docstring(ast.parse((ROOT / name).read_text(encoding="utf-8"))) or "").split("\n", 1)[0]
        lines.append(f"{number}. `{name}`: {said}")
    return "\n".join(lines)


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    current = f"{before}{start}\n\n{told(passed())}\n\n{end}{after}"
    if "--write" in sys.argv:
        PAGE.write_text(current, encoding="utf-8")
    elif current != page:
        print(f"{PAGE.name} tells another step; write it anew with `python tools/step_files.py --write`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
