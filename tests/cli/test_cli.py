"""The command line: what it prints, its exit codes, and that browsing stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gftzoo.cli import main
from gftzoo.cli.edge import sentence_of
from gftzoo.errors import GftzooError


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "dit*", "--json"], ["train", "--help"]])
def test_browsing_imports_neither_torch_nor_a_plugin(words: list[str]) -> None:
    code = (
        "import sys\nfrom gftzoo.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n"
        "    heavy = {'torch', 'mmengine', 'diffusers', 'transformers', 'datasets', 'gftzoo_diffusion'}\n"
        "    heavy &= set(sys.modules)\n"
        "    print('HEAVY', sorted(heavy), stop.code)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert "HEAVY [] 0" in result.stdout, result.stdout + result.stderr


def test_list_and_its_json_agree(capsys, monkeypatch) -> None:
    assert run("list", "dit*", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert run("list", "dit*") == 0
    text = capsys.readouterr().out
    assert {"dit-s", "dit-b", "dit-l", "dit-xl", "dit-xl-512", "dit-nano"} <= {row["model"] for row in rows}
    assert all(row["model"] in text for row in rows)
    monkeypatch.setattr("gftzoo.cli.listing.terminal_width", lambda: 20)  # folded, by another library
    assert run("list", "dit*") == 0
    assert all(row["model"] in capsys.readouterr().out for row in rows[:1])
    (xl,) = [row for row in rows if row["model"] == "dit-xl"]
    assert xl["parameters"] == 675_129_632 and xl["plugin"] == "gftzoo-diffusion"


def test_a_closed_output_is_no_error(monkeypatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # as `gftzoo list >&-` has it
    assert run("list", "dit-s") == run("info", "dit-nano") == 0


def test_info_shows_options_and_cost(capsys) -> None:
    assert run("info", "dit-nano", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"steps", "sampler"} <= set(facts["sampler_options"])
    assert facts["training_step"]["parameters"] > facts["parameters"]
    assert run("info", "dit-xl") == 0
    assert "675,129,632" in capsys.readouterr().out


def test_plugins_names_what_is_installed(capsys) -> None:
    assert run("plugins", "--json") == 0
    rows = {row["plugin"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["diffusion"]["state"] == "ok" and rows["diffusion"]["models"] > 20


NANO = ("train", "dit-nano", "--gft")
BAD: dict[str, tuple[list[str], int, str]] = {
    "unknown command": (["trian"], 2, "did you mean 'train'"),
    "unknown model": (["train", "dit-xxl", "--gft"], 2, "did you mean 'dit-xl"),
    "no objective": (["train", "dit-nano"], 2, "say what to train for"),
    "unknown objective": (["train", "dit-nano", "--objective", "gtf"], 2, "did you mean 'gft'"),
    "two objectives": ([*NANO, "--objective", "conditional"], 2, "contradict"),
    "misspelt option": ([*NANO, "-o", "batchsize=3"], 2, "did you mean 'batch_size'"),
    "option without value": ([*NANO, "-o", "lr"], 2, "key=value"),
    "option of the wrong type": ([*NANO, "-o", "lr=fast"], 2, "lr = 'fast'"),
    "misspelt network option": ([*NANO, "-o", "network.dept=3"], 2, "did you mean 'depth'"),
    "misspelt objective option": ([*NANO, "-o", "objective.p_dorp=0"], 2, "did you mean 'p_drop'"),
    "option that encoding does not have": (
        ["cache", "digits", "out", "--model", "dit-nano", "-o", "lr=3"],
        2,
        "valid are device,",
    ),
    "drawing options for images": (["evaluate", "images.npz", "--beta", "0.5"], 2, "--beta is for models"),
    "tokenizer that is not there": (
        [*NANO, "-o", "tokenizer=sd-vae-mse", "-o", "tokenizer_path=nowhere", "-o", "resolution=32"],
        2,
        "there is no file or folder 'nowhere'",
    ),
    "negative steps": ([*NANO, "--steps", "-3"], 2, "-3"),
    "unknown recipe": ([*NANO, "--recipe", "fast"], 2, "no recipe 'fast'"),
    "unknown tokenizer": ([*NANO, "-o", "tokenizer=pixel"], 2, "did you mean 'pixels'"),
    "unknown data": ([*NANO, "--data", "digit"], 2, "did you mean 'digits'"),
    "missing image folder": ([*NANO, "--data", "imagefolder:nowhere"], 1, "nowhere"),
    "unknown weights": ([*NANO, "--weights", "missing.pt"], 2, "no checkpoint 'missing.pt'"),
    "resume of nothing": (["train", "--resume", "nowhere"], 1, "is not a run"),
    "resume with options": (["train", "--resume", "x", "-o", "lr=1"], 1, "is not a run"),
    "unavailable device": ([*NANO, "-o", "device=cuda:77"], 2, "not available"),
    "batch that does not divide": ([*NANO, "-o", "batch_size=10", "-o", "accumulate=3"], 2, "accumulate"),
    "sampling an untrained model": (["sample", "dit-nano"], 2, "no weights of its own"),
    "sampling nothing": (["sample", "nowhere/run"], 2, "there is no run or folder 'nowhere/run'"),
    "no such model": (["info", "dit-xxl"], 2, "did you mean"),
    "no such family": (["list", "--family", "ditt"], 2, "valid are"),
    "no such pattern": (["list", "dti*"], 2, "no model matches"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case: str, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words, code, fragment = BAD[case]
    assert run(*words) == code
    error = capsys.readouterr().err
    assert fragment in error
    assert "Traceback" not in error and error.count("Error: ") == 1
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())  # the name stays free


def test_a_sentence_that_a_library_wrapped_is_said() -> None:
    """What ends a command may come while a library imports on demand, which makes an error of its own of it."""
    wrapped = RuntimeError("Failed to import something")
    wrapped.__cause__ = GftzooError("rank 0 was told to stop.")
    assert sentence_of(wrapped) == (GftzooError.exit_code, "Error: rank 0 was told to stop.")
