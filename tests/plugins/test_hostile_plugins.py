"""Hostile plugins and malformed distributions, all installed at once: what is built in works, and all are named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import hostile_plugins as hostile
import pytest
from plugin_site import Site

from gftzoo.cli import main
from gftzoo.plugins.guard import ForeignError, attempt

SMALL = ("--steps", "1", "-obatch_size=4", "-oema_decay=null", "-osample_grid=[1, 1]")


@pytest.fixture
def crowd(site: Site) -> Site:
    hostile.install_all(site)
    return site


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def is_harmless(text: str) -> bool:
    return not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]


def test_there_are_enough_of_them() -> None:
    assert len(hostile.HOSTILE | hostile.OTHERS) >= 30 and len(hostile.MALFORMED) >= 10


def test_all_of_them_are_named(crowd: Site, capfd) -> None:
    assert call("plugins", "--json") == 0
    out, err = capfd.readouterr()
    rows = {row["distribution"]: row for row in json.loads(out)}
    broken = {name for name, row in rows.items() if row["state"] == "broken"}
    named = {*hostile.HOSTILE, *hostile.OTHERS, *(f"{name}-1.dist-info" for name in hostile.MALFORMED)}
    assert broken == named - {"closes", "replaces", "wanders", "strict"}  # what those did is undone
    assert all(rows[name]["reason"] for name in broken)
    assert all(rows[name]["state"] == "ok" for name in ("gftzoo-diffusion", *hostile.SOUND))
    assert "belongs to gftzoo-diffusion" in rows["impostor"]["reason"]
    assert r"RuntimeError: [/usr/lib/x.so] [bold red]\x1b[31mred\x07 \u202egnp" in rows["raises"]["reason"]
    assert "plugin 'noisy' (noisy 1.2) printed: [/x] noise" in err and "raw noise" in err and is_harmless(err)
    assert call("plugins") == 0
    out, err = capfd.readouterr()
    assert is_harmless(out + err) and all(name in out for name in named)


def test_what_is_built_in_works_beside_them(crowd: Site, tmp_path: Path, capfd) -> None:
    here, run = Path.cwd(), tmp_path / "runs" / "run"
    with pytest.warns(UserWarning, match="It is left out") as warned:
        for words in (("list",), ("list", "--json"), ("info", "dit-nano"), ("--help",)):
            assert call(*words) == 0
            out, err = capfd.readouterr()
            assert is_harmless(out) and not err and "evil" not in out
        assert call("train", "dit-nano", "--gft", *SMALL, "--runs", str(run.parent), "--name", "run") == 0
    left_out = {name for name in hostile.OTHERS if any(f"({name} 1.2)" in str(w.message) for w in warned)}
    assert left_out == {name for name in hostile.OTHERS if name.startswith("wrap-")}
    assert call("sample", str(run), "-n", "1", "--steps", "2", "--out", str(tmp_path / "x.png")) == 0
    assert (tmp_path / "x.png").is_file() and Path.cwd() == here and is_harmless("".join(capfd.readouterr()))


def test_a_process_of_its_own_prints_nothing_but_what_it_is_asked_for(crowd: Site, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(crowd.folder), "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "gftzoo", "list", "dit-nano", "--json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert [row["model"] for row in json.loads(result.stdout)] == ["dit-nano"] and not result.stderr


def test_the_users_interrupt_is_no_plugins(tmp_path: Path) -> None:
    def fake() -> None:
        raise KeyboardInterrupt

    with pytest.raises(ForeignError, match="KeyboardInterrupt"):
        attempt(fake)
    with pytest.raises(KeyboardInterrupt):
        attempt(lambda: signal.raise_signal(signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


WRAPS = """
from gftzoo.contract.hookspecs import hookimpl
class Family:
    @hookimpl(wrapper=True)
    def build_network(self, card):
        {0}
        return (yield)
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('[/b] no')", "ValueError: [/b] no"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "E: (cannot be printed)"),
    ],
)
def test_a_hook_that_throws_is_blamed_on_its_plugin(site: Site, tmp_path: Path, capsys, body: str, reason: str) -> None:
    site.install("acme", WRAPS.format(body), group="gftzoo.wrappers")
    assert call("train", "dit-nano", "--gft", *SMALL, "--runs", str(tmp_path / "runs"), "--name", "run") == 3
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"Error: plugin 'acme' (acme 1.2) failed ({reason})") and "GFTZOO_BLOCK=acme" in last
