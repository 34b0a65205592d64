"""Plugins and distributions that try to take others down, each in its own way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from plugin_site import SAMPLER, Site, source

from gftzoo.plugins.discovery import COMMANDS, FAMILIES, OBJECTIVES, SOURCES, WRAPPERS

MARKUP = "[/usr/lib/x.so] [bold red]\\x1b[31mred\\x07 \\u202egnp"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CARD = "{family: acme, parameters: 5, resolution: 8, tokenizer: pixels}"
WRAPPER = """
from gftzoo.contract.hookspecs import hookimpl
class Family:
    {0}
    @hookimpl(wrapper=True)
    def loss_term(self):
        return (yield)
"""
HOSTILE: dict[str, dict[str, Any]] = {
    "raises": {"code": f"raise RuntimeError('{MARKUP}')"},
    "exits": {"code": "import sys; sys.exit(4)"},
    "interrupts": {"code": "raise KeyboardInterrupt"},
    "base-exception": {"code": "raise GeneratorExit('no')"},
    "group": {"code": "raise BaseExceptionGroup('many', [KeyboardInterrupt(), SystemExit(0)])"},
    "unprintable": {"code": "class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E"},
    "nameless": {
        "code": "class M(type):\n    __name__ = property(lambda cls: 1 / 0)\n"
        "class E(Exception, metaclass=M): ...\nraise E"
    },
    "recursion": {"code": "def f(): f()\nf()"},
    "no-memory": {"code": "raise MemoryError"},
    "no-module": {"code": source(), "attribute": "Missing"},
    "closes": {"code": "import sys\nsys.stdout.close(); sys.stderr.close()\n" + source()},
    "replaces": {"code": "import sys\nsys.stdout = sys.stderr = None\n" + source()},
    "wanders": {"code": "import os, sys\nos.chdir('/'); sys.setrecursionlimit(90)\n" + source()},
    "strict": {"code": "import warnings\nwarnings.simplefilter('error')\n" + source()},
    "contract-text": {"code": source(attributes="contract_version = '1'")},
    "contract-property": {"code": source(attributes="contract_version = property(lambda self: 1 / 0)")},
    "contract-object": {
        "code": "class C:\n    def __eq__(self, other): raise SystemExit(0)\n"
        + source(attributes="contract_version = C()")
    },
    "no-dir": {"code": source(attributes="def __dir__(self): raise SystemExit(0)")},
    "no-getattr": {"code": source(attributes="def __getattribute__(self, name): raise KeyboardInterrupt")},
    "bad-requirement": {"code": source(), "requires": "gftzoo >>> [/b] 1"},
    "bomb": {"code": source(), "registry": BOMB},
    "deep": {"code": source(), "registry": "models: " + "[" * 50_000},
    "large": {"code": source(), "registry": "#" + "x" * 5_000_000},
    "evil-name": {"code": source(), "registry": f"models: {{'[/x]evil': {CARD}}}"},
    "escape-name": {"code": source(), "registry": f'models: {{"\\e[2Jx": {CARD}}}'},
    "shell": {"code": source(), "registry": "families: {ghost: {distribution: 'x; rm -rf ~', nano: ghost-nano}}"},
    "negative": {"code": source(), "registry": "models: {x: " + CARD.replace("5", "-5") + "}"},
    "absurd": {"code": source(), "registry": "models: {x: " + CARD.replace("8", "8" + "0" * 50) + "}"},
    "impostor": {"code": source(), "family": "diffusion"},
    "markup-entry": {"code": source(), "family": "[/b]\x1b[31mevil"},
}
OTHERS: dict[str, dict[str, Any]] = {
    "wrap-contract": {"code": WRAPPER.format("contract_version = None"), "group": WRAPPERS},
    "wrap-dir": {"code": WRAPPER.format("def __dir__(self): raise KeyboardInterrupt"), "group": WRAPPERS},
    "wrap-init": {"code": WRAPPER.format("def __init__(self): raise SystemExit(0)"), "group": WRAPPERS},
    "wrap-require": {"code": WRAPPER.format(""), "requires": "((", "group": WRAPPERS},
    "wrap-takes": {"code": source(), "group": WRAPPERS},
    "wrap-plain": {"code": WRAPPER.format("").replace("(yield)", "1"), "group": WRAPPERS},
    "objective": {
        "code": "class M(type):\n    def __getattribute__(cls, name): raise SystemExit(0)\n"
        "class Family(metaclass=M): ...",
        "group": OBJECTIVES,
    },
    "source": {"code": "raise KeyboardInterrupt", "group": SOURCES},
    "command": {"code": "import os; os.kill(1, 'x')", "group": COMMANDS},
}
# Those that only make a noise, or can do no harm: they are used.
SOUND: dict[str, dict[str, Any]] = {
    "noisy": {
        "code": "import os, sys\nprint('[/x] noise')\nprint('\\x1b[2J', file=sys.stderr)\nos.write(1, b'raw noise')\n"
        + source(last=SAMPLER + "\n    def __eq__(self, other): raise SystemExit(0)\n    __hash__ = None")
    },
    "wrap-equal": {"code": WRAPPER.format("def __eq__(self, other): raise SystemExit(0)"), "group": WRAPPERS},
}
POINTS = f"[{FAMILIES}]\nmal = json:loads\n".encode()
METADATA = b"Metadata-Version: 2.1\nName: mal\nVersion: 1\n"
# Content of METADATA and of entry_points.txt; None for no file, text for another kind of file.
MALFORMED: dict[str, tuple[bytes | str | None, bytes | str | None]] = {
    "no-metadata": (None, POINTS),
    "binary-metadata": (b"Name: \xff\xfe\nVersion: 1\n", POINTS),
    "no-name": (b"Version: 1\n", POINTS),
    "no-version": (b"Name: mal\n", POINTS),
    "markup-in-name": (b"Name: [/b]\x1b[31m\nVersion: 1\n", POINTS),
    "metadata-pipe": ("pipe", POINTS),
    "metadata-folder": ("folder", POINTS),
    "no-equals": (METADATA, f"[{FAMILIES}]\nnothing\n".encode()),
    "binary-points": (METADATA, b"\xff\xfe\x00"),
    "points-pipe": (METADATA, "pipe"),
    "huge-points": (METADATA, "huge"),
    "empty": (None, None),
}


def install_all(site: Site) -> None:
    """Installs everything above at once."""
    for name, arguments in {**HOSTILE, **OTHERS, **SOUND}.items():
        site.install(name, **arguments)
    for name, (metadata, points) in MALFORMED.items():
        folder = site.folder / f"{name}-1.dist-info"
        folder.mkdir()
        write(folder / "METADATA", metadata)
        write(folder / "entry_points.txt", points)


def write(path: Path, content: bytes | str | None) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "pipe":
        os.mkfifo(path)
    elif content == "folder":
        path.mkdir()
    elif content == "huge":
        with path.open("wb") as file:
            file.truncate(2**30)
