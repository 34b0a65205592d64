"""Where things are kept for the next time; and a folder for libraries where the home cannot be written."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from gftzoo.systems import on_windows

# What they write there: prepared tables, and fonts. Weights fetched before are still found below the home.
VARIABLES = {"HF_DATASETS_CACHE": "datasets", "HF_MODULES_CACHE": "modules", "MPLCONFIGDIR": "matplotlib"}


def spare_a_home() -> str | None:
    """Points libraries elsewhere where the home cannot be written; the folder, or None if nothing was to be done.

    To be called before they are imported; what the user has set stays.
    """
    missing = {name: part for name, part in VARIABLES.items() if name not in os.environ}
    elsewhere = "XDG_CACHE_HOME" in os.environ or "HF_HOME" in os.environ
    if not missing or elsewhere or os.access(os.path.expanduser("~"), os.W_OK):  # noqa: PTH111 (never raises)
        return None
    folder = tempfile.mkdtemp(prefix="gftzoo-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, part in missing.items():
        place = Path(folder) / part
        place.mkdir()
        os.environ[name] = str(place)
    return folder


def cache_folder(part: str) -> Path:
    """$XDG_CACHE_HOME/gftzoo/PART, by default under ~/.cache, or a temporary folder for a user without a home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        home = Path(tempfile.gettempdir()) / ("gftzoo" if on_windows() else f"gftzoo-{os.getuid()}")
    return home / "gftzoo" / part
