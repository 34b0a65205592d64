"""The page of the demo: its answers, what cannot be reached through it, and pictures that follow a slider."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browser, needed
from command import call
from nano import nano_model

gradio = pytest.importorskip("gradio", reason="gradio is not installed (pip install 'gftzoo[demo]')")

from gftzoo.demo.drawing import Limits, by_name  # noqa: E402
from gftzoo.demo.page import build, serve, sheet_of  # noqa: E402

ASKED = ("one", 0.5, 1.5, [], "", 2, 0, 2, "usual", False)


@pytest.fixture(scope="module")
def shown() -> Any:
    models = {"one": nano_model("dit-nano", temperature=True), "two": nano_model("dit-nano", temperature=False)}
    return by_name(models)


@pytest.fixture(scope="module")
def address(shown: Any) -> Iterator[str]:
    page = build(shown, Limits(images=4, steps=4))
    yield serve(page, host="127.0.0.1", port=None, queue=3, block=False).rstrip("/")
    page.close()


def test_a_sheet_is_a_picture_in_the_answer_itself(shown: Any) -> None:
    drawn = sheet_of(shown, Limits(images=4, steps=4))
    found = drawn(*ASKED)
    assert found.count("data:image/png;base64,") == 2 and "1 pass a step" in found  # shown, and to be saved
    assert 'download="one-beta-0.5-seed0.png"' in found
    assert "times as long" in drawn(*ASKED[:-1], True)
    assert "2 passes a step" in drawn("two", *ASKED[1:])
    for place, value, said in ((0, "three", "no model"), (0, ["one"], "no model"), (5, 99, "99 images")):
        with pytest.raises(gradio.Error, match=said):
            drawn(*ASKED[:place], value, *ASKED[place + 1 :])


def status(url: str, data: bytes | None = None, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_no_file_of_this_machine_is_reached_and_none_is_left_on_it(address: str) -> None:
    assert status(address) == 200
    here = Path(__file__).resolve()
    for place in (here, "/etc/passwd", "../../../../../etc/passwd", Path.cwd() / "pyproject.toml", "README.md"):
        for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/"):
            assert status(f"{address}{route}{place}") in (403, 404), (route, place)
    form = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n' + b"y" * 99 + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert status(f"{address}/gradio_api/upload", form, **headers) == 413


@needed
def test_a_moved_slider_changes_its_own_pictures(address: str) -> None:
    with browser() as found:
        page = found.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)  # of a busy machine
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.click("#draw")
        left, right = ("#left-sheet img", "#right-sheet img")
        for sheet in (left, right):
            page.wait_for_selector(sheet)
        before = {sheet: page.get_attribute(sheet, "src") for sheet in (left, right)}
        page.fill("#left-beta input[type=number]", "0.9")
        page.press("#left-beta input[type=number]", "Enter")
        page.wait_for_function("a => document.querySelector(a[0]).src !== a[1]", arg=[left, before[left]])
        assert page.get_attribute(right, "src") == before[right]
        assert "beta 0.9" in page.inner_text("#left-sheet")
        assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]  # nothing from elsewhere


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("gftzoo.cli.refusing.find_spec", lambda name: None)
    assert call("demo", "dit-nano") == 2
    assert "pip install 'gftzoo[demo]'" in capsys.readouterr().err
    assert call("demo", "dit-nanoo") == 2
    assert "did you mean 'dit-nano'?" in capsys.readouterr().err
