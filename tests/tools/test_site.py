"""The documentation site in a browser: no table cut off, no name of a model in two lines, nothing from elsewhere."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browser, needed

ROOT = Path(__file__).parents[2]
pytest.importorskip("material", reason="mkdocs-material is not installed (pip install -e '.[docs]')")
pytestmark = [needed, pytest.mark.slow]

# Pages with tables that are cut off without a way to scroll; a table that scrolls is whole, but wider than its place.
LOOK = """() => ({
  page: document.documentElement.scrollWidth - innerWidth,
  cut: [...document.querySelectorAll('.md-content table')].filter(t => {
    const place = t.closest('.md-typeset__scrollwrap') ?? t.parentElement;
    return t.scrollWidth > place.clientWidth && getComputedStyle(place).overflowX !== 'auto'}).length,
  wider: [...document.querySelectorAll('.md-content table')].filter(t =>
    t.scrollWidth > (t.closest('.md-typeset__scrollwrap') ?? t.parentElement).clientWidth).length,
  broken: [...document.querySelectorAll('.md-content td:first-child code')]
    .filter(c => c.getClientRects().length > 1).map(c => c.innerText)})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site: that of $GFTZOO_SITE, or one that is built now."""
    if "GFTZOO_SITE" in os.environ:
        return Path(os.environ["GFTZOO_SITE"])
    place = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    subprocess.run(words, cwd=ROOT, check=True)
    return place


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("width", [1280, 390])
def test_no_table_is_cut_off_and_no_name_is_broken(address: str, folder: Path, width: int) -> None:
    pages = sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("index.html"))
    assert len(pages) > 20
    asked: list[str] = []
    with browser() as found:
        page = found.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(120_000)  # of a busy machine
        page.on("request", lambda request: asked.append(request.url))
        for name in pages:
            page.goto(f"{address}/{name}/", wait_until="load")
            page.wait_for_function("() => document.querySelectorAll('.md-content table:not([class])').length === 0 "
                                   "|| document.querySelector('.md-typeset__scrollwrap')")  # fmt: skip
            seen = page.evaluate(LOOK)
            assert seen["page"] <= 0 and not seen["cut"] and not seen["broken"], (name, seen)
            assert width < 1000 or not seen["wider"], (name, seen)
    assert not [url for url in asked if not url.startswith((address, "data:"))]
