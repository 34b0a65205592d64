"""Headless Chromium for tests of pages; they are skipped, with the reason, where it is not there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def missing() -> str:
    """Why there is no browser; empty where there is one."""
    if not any(map(shutil.which, NAMES)):
        return "no Chromium here (apt-get install chromium)"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright, which drives Chromium, is not installed (pip install playwright)"
    return ""


needed = pytest.mark.skipif(bool(missing()), reason=missing() or "there")


@contextmanager
def browser() -> Iterator[Any]:
    """A browser; its pages reach loopback alone, so that nothing a page asks for elsewhere goes unnoticed."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield found
        finally:
            found.close()
