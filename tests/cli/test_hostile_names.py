"""Every command that prints a name, given one that a terminal or rich would obey: it is shown, and nothing is done."""

from __future__ import annotations

import json
import logging
import shlex

import numpy as np
import pytest
from PIL import Image

from gftzoo.cli import check_plugin, main
from gftzoo.engine import resolve, train
from gftzoo.evaluate import embedded
from gftzoo.testing import Finding

NAME, SHOWN = "[red]\x1b[2J\u202ex$\\no$", r"[red]\x1b[2J\u202ex$\no$"
SMALL = "--steps 1 -o batch_size=2 -o sample_grid=[1,1]"
SCORING = "--features embedded:digits --reference {pictures} -n 4 --few"

# What it is, the words, and what is shown of them. Those of a later row may read what an earlier one wrote.
ROWS = {
    "train": (f"train dit-nano --gft {SMALL} --runs {{base}} --name {{name}}-new", f"{SHOWN}-new"),
    "train on classes": (f"train dit-nano --gft {SMALL} --runs {{base}} --data imagefolder:{{broken}}", SHOWN),
    "resume": ("train --resume {run} --steps 2", SHOWN),
    "cost": ("train --resume {run} --steps 9 --dry-run", SHOWN),
    "sample a picture": ("sample {run} -n 1 --steps 1 --out {out}.png", f"{SHOWN}.png"),
    "sample a folder": ("sample {run} -n 1 --steps 1 --out {out}-samples", f"{SHOWN}-samples"),
    "sample an npz": ("sample {run} -n 1 --steps 1 --out {out}.npz", f"{SHOWN}.npz"),
    "evaluate a run": (f"evaluate {{run}} --steps 1 {SCORING} --out {{out}}.json", f"{SHOWN}.json"),
    "evaluate pictures": ("evaluate {pictures} --features embedded:digits --reference {pictures} --few", SHOWN),
    "sweep": (f"sweep {{run}} --beta 1 --steps 1 {SCORING} --out {{out}}-sweep", f"{SHOWN}-sweep"),
    "cache": ("cache imagefolder:{broken} {out}-cache --model dit-nano", f"{SHOWN}.png"),
    "check of a cache": ("cache --check {out}-cache", SHOWN),
    "export": ("export {run} {out}-export --to safetensors", f"{SHOWN}-export"),
    "import": ("import dit-nano {out}-export {out}-import", f"{SHOWN}-import"),
    "sample a class": ("sample {named} --class 0 -n 1 --steps 1 --out {out}-class.png", f"0 ({SHOWN})"),
    "new-plugin": ("new-plugin my-flow --out {out}-plugins", f"{SHOWN}-plugins"),
    "check-plugin": ("check-plugin dit-nano", SHOWN),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A run, pictures of a class and a model whose class has the name; a picture that cannot be read has it too."""
    base = tmp_path_factory.mktemp("hostile")
    options = {"batch_size": 2, "sample_grid": (1, 1)}
    run = train(resolve("dit-nano", data="digits", steps=1, options=options), base / NAME)
    pictures, broken = base / f"pictures-{NAME}", base / f"broken-{NAME}"
    for folder in (pictures, broken):
        (folder / NAME).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(np.full((8, 8, 3), 60 * index, np.uint8)).save(folder / NAME / f"{index}.png")
    (broken / NAME / f"{NAME}.png").write_text("no picture")
    with pytest.raises(SystemExit):
        main(["export", str(run), str(base / "named"), "--to", "safetensors"])
    card = json.loads((base / "named" / "card.json").read_text())
    _rename_classes(card)
    (base / "named" / "card.json").write_text(json.dumps(card))
    found = {"base": base, "run": run, "pictures": pictures, "broken": broken, "named": base / "named"}
    return {"name": NAME, "out": str(base / f"out-{NAME}")} | {key: str(path) for key, path in found.items()}


def _rename_classes(value: object) -> None:
    for key, inside in value.items() if isinstance(value, dict) else ():
        if key == "class_names":
            value[key] = [NAME, *inside[1:]]
        _rename_classes(inside)


@pytest.mark.parametrize("row", ROWS)
def test_a_hostile_name_is_shown_and_not_obeyed(
    row: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(embedded, "FEWEST_STEPS", 2)
    monkeypatch.setattr(embedded, "EPOCHS", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", places["base"] + "/home")
    monkeypatch.setenv("COLUMNS", "500")
    finding = Finding(NAME, NAME, False, NAME, NAME, NAME, 0.0)
    monkeypatch.setattr(check_plugin, "examine_model", lambda *_: [finding])
    text, shown = ROWS[row]
    with pytest.raises(SystemExit) as stop:
        main([word.format(**places) for word in shlex.split(text)])
    out, err = capsys.readouterr()
    assert stop.value.code == (3 if row == "check-plugin" else 0), err
    assert shown in out + err
    obeyed = {character for character in out + err if not character.isprintable()}
    assert obeyed <= {"\n"}, out + err


def test_json_is_never_cut(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    finding = Finding(NAME, NAME, True, NAME, NAME, "x" * 1_100_000, 0.0)
    monkeypatch.setattr(check_plugin, "examine_model", lambda *_: [finding])
    with pytest.raises(SystemExit):
        main(["check-plugin", "dit-nano", "--json"])
    out, _ = capsys.readouterr()
    assert out.replace("\n", "").isprintable()
    (record,) = json.loads(out)
    assert len(record["numbers"]) == 1_100_000 and record["check"] == NAME


def test_what_is_logged_outside_of_a_run_is_shown_too() -> None:
    with pytest.raises(SystemExit):
        main(["list"])
    assert logging.lastResort is not None
    assert logging.lastResort.format(logging.makeLogRecord({"msg": NAME})) == SHOWN


def test_an_error_of_the_zoo_is_not_a_plugins(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("gftzoo.cli.listing.list_models", lambda *_: 1 / 0)
    with pytest.raises(SystemExit) as stop:
        main(["list"])
    assert stop.value.code == 1
    assert "Error: unexpected ZeroDivisionError" in capsys.readouterr().err
