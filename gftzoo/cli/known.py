"""What was found out before with torch and a family's code, kept for as long as neither has changed. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gftzoo.atomic import written_whole
from gftzoo.documents import read_json
from gftzoo.errors import GftzooError
from gftzoo.homes import cache_folder
from gftzoo.plugins.discovery import FAMILIES, OBJECTIVES, WRAPPERS, active

Stamp = tuple[str, int, int]  # path, time of the last change in ns, bytes


def known(name: str, about: Any, find: Callable[[], Any]) -> Any:
    """What `find` returns, plain JSON, or what it returned before for the same question and the same code.

    Nothing is kept where a wrapper is installed, which may do anything at any call, nor where `find` raises.

    Args:
        name: of the one answer that is kept, e.g. `info dit-xl`.
        about: the question, plain JSON.
        find: what takes its time.
    """
    if any(active(WRAPPERS)):
        return find()
    asked = hashlib.sha256(json.dumps([about, code_state()], sort_keys=True).encode()).hexdigest()
    path = cache_folder("known") / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    with suppress(GftzooError, OSError, TypeError, KeyError):  # not there, or damaged: it is found out anew
        kept = read_json(path)
        if kept["asked"] == asked:
            return kept["answer"]
    answer = find()
    with suppress(GftzooError, OSError), written_whole(path) as partial:  # a home that cannot be written keeps nothing
        partial.write_text(json.dumps({"asked": asked, "answer": answer}), encoding="utf-8")
    return answer


def code_state() -> list[Any]:
    """Changes with every change of gftzoo's code, of a family's or an objective's, and with every installation."""
    roots = {"gftzoo"}
    plugins = [*active(FAMILIES), *active(OBJECTIVES)]
    roots |= {plugin.entry.value.partition(":")[0].partition(".")[0] for plugin in plugins}
    installed = [place for place in sys.path if place.rstrip("/").endswith("-packages")]
    labels = [plugin.label for plugin in plugins]
    return [labels, sys.version, [_stamp(place) for place in installed], [s for r in sorted(roots) for s in _stamps(r)]]


def _stamps(package: str) -> Iterator[Stamp]:
    """Every source file of a package that is not imported for it."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return
    for place in (spec and spec.submodule_search_locations) or ():
        yield from (_stamp(str(path)) for path in sorted(Path(place).rglob("*.py")))
    if spec is not None and spec.origin is not None:
        yield _stamp(spec.origin)


def _stamp(path: str) -> Stamp:
    try:
        about = os.stat(path)  # noqa: PTH116 (of hundreds of files)
    except OSError:
        return path, 0, 0
    return path, about.st_mtime_ns, about.st_size
