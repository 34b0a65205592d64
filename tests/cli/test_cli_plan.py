"""Plans for machines that are not here, and runs that a file describes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from command import call
from tool import load

from gftzoo.cli.train import what_for
from gftzoo.engine import TrainConfig, Wanted, plan, resolve, resolved
from gftzoo.engine.parallel.gpus import GPUS, Gpu, find_gpu, peak_of
from gftzoo.engine.run.elsewhere import TAKEN, outlook
from gftzoo.engine.run.estimate import GIB
from gftzoo.engine.run.fitting import SHARE
from gftzoo.engine.run.utilisation import ASSUMED, Utilisation, measured
from gftzoo.engine.run.written import overridden, read_run
from gftzoo.errors import UsageError

PLAN = ("train", "dit-b", "--gft", "--dry-run")


def lines_of(out: str) -> dict[str, str]:
    return {name.strip(): value for name, _, value in (line.strip().partition("  ") for line in out.splitlines())}


def test_a_plan_says_all_for_gpus_that_are_not_here_and_builds_nothing(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asks for a GPU that is here"))
    monkeypatch.chdir(tmp_path)
    out = ("--out", "run.yaml")
    assert call(*PLAN, "--gpu", "h100", "--gpus", "8", "--price", "2.5", "--utilisation", "0.5", *out) == 0
    told = lines_of(capsys.readouterr().out)
    assert set(told) >= {"memory in all", "micro-batch", "images per second", "time in all", "GPU-hours", "cost"}
    assert told["memory in all"].endswith("GiB of 79.6 on each of 8 h100: fits") and "model:" not in told
    config = TrainConfig.read_file(tmp_path / "run.yaml")
    assert config.card.resolution == 256 and config.data == "imagefolder:YOUR_DATA" and not (tmp_path / "runs").exists()
    rate = float(told["images per second"].split()[0].replace(",", ""))
    hours = float(told["GPU-hours"].replace(",", ""))
    assert hours == pytest.approx(8 * config.steps * config.batch_size / rate / 3600, rel=1e-2)
    assert float(told["cost"].split()[0].replace(",", "")) == pytest.approx(2.5 * hours, rel=1e-3)


def test_a_plan_takes_the_batch_as_the_memory_allows_and_time_goes_with_the_peak() -> None:
    job = plan(Wanted("dit-b", unseen=True))
    large, small = outlook(job, Gpu("l", 80, 100)), outlook(job, Gpu("s", 10, 100))
    assert large.fits and small.fits and small.fit.micro_batch < large.fit.micro_batch
    assert small.fit.cost.step_bytes <= SHARE * (10 - TAKEN) * GIB
    assert small.hours == pytest.approx(large.hours)
    assert outlook(job, Gpu("f", 80, 200)).hours == pytest.approx(large.hours / 2)
    four = outlook(job, Gpu("l", 80, 100), count=4, price=2.0)
    assert four.hours == pytest.approx(large.hours / 4) and four.cost == pytest.approx(2 * large.gpu_hours)
    tiny = outlook(job, Gpu("t", 2, 100))
    assert not tiny.fits and tiny.hours is None and outlook(job, Gpu("?", 80, None)).hours is None
    with pytest.raises(UsageError, match="does not divide by 7 GPUs"):
        outlook(job, GPUS["h100"], count=7)


ROWS = """model,objective,blocks,device,mfu
dit-b,conditional,eager,NVIDIA H100 80GB HBM3,0.9
dit-b,gft,eager,NVIDIA A100-SXM4-80GB,0.8
dit-b,gft,compiled,NVIDIA H100 80GB HBM3,0.7
var-d12,gft,eager,NVIDIA H100 80GB HBM3,0.2
mar-b,gft,eager,NVIDIA H100 80GB HBM3,0.4
"""


def test_rows_that_were_measured_say_the_share_of_the_peak(tmp_path: Path, capsys) -> None:
    rows, config = tmp_path / "training.csv", plan(Wanted("dit-b", unseen=True)).config
    rows.write_text(ROWS)
    assert measured(rows, config, GPUS["h100"]) == Utilisation(pytest.approx(0.3), "measured of 2 other models")
    assert measured(rows, config.model_copy(update={"compile": True}), GPUS["h100"]).share == 0.7
    assert measured(rows, config, GPUS["l40s"]) == measured(rows, config, Gpu("24 GiB", 24, 165)) == ASSUMED
    assert call(*PLAN, "--gpu", "a100-80", "--utilisation", str(rows)) == 0
    assert "80% of 312 TFLOPS, measured of dit-b)" in capsys.readouterr().out
    rows.write_text("model,speed\n")
    assert call(*PLAN, "--gpu", "a100-80", "--utilisation", str(rows)) == 2
    assert "no column 'objective'" in capsys.readouterr().err


def test_gpus_are_found_by_name_or_size() -> None:
    assert find_gpu("H100") is GPUS["h100"] and find_gpu("24,165") == Gpu("24 GiB", 24, 165)
    assert find_gpu("24").teraflops is None
    for wrong in ("h101", "0", "24,", "nan", "24,165,3", "-1", "inf,1"):
        with pytest.raises(UsageError, match="unknown GPU"):
            find_gpu(wrong)
    assert peak_of("NVIDIA H100 80GB HBM3") == peak_of("NVIDIA H800") == 989e12 and peak_of("Tesla T4") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpu", "h100"), "--gpu goes with --dry-run"),
        (("--out", "x.yaml"), "--out goes with --dry-run"),
        (("--dry-run", "--price", "2"), "--price goes with --gpu"),
        (("--dry-run", "--gpu", "h100", "--measure"), "contradict"),
        (("--config", "x.yaml"), "leave MODEL out"),
        (("-o", "steps=3", "--steps", "4"), "contradict each other"),
        (("-o", "objective=conditional"), "contradict each other"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_refused(words: tuple[str, ...], said: str, tmp_path: Path, capsys) -> None:
    assert call("train", "dit-nano", "--gft", "--runs", str(tmp_path), *words) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_table_of_the_documentation_is_what_the_code_says_today() -> None:
    tool = load("plan_table")
    rows = tool.read_rows()
    text = tool.PAGE.read_text(encoding="utf-8")
    assert tool.page(text, rows) == text, "run `python tools/plan_table.py --write`"
    assert len(rows) > 0.8 * len(tool.list_models()), "run `python tools/plan_table.py --trace --write`"
    for name in ("dit-nano", "var-d12"):
        assert tool.trace(name) == rows[name], f"run `python tools/plan_table.py --trace --models {name} --write`"


def test_a_tool_traces_what_has_no_row(tmp_path: Path, monkeypatch) -> None:
    tool = load("plan_table")
    monkeypatch.setattr(tool, "ROWS", tmp_path / "plan.csv")
    monkeypatch.setattr(tool, "list_models", lambda *_: [card for card in CARDS if card.name == "dit-nano"])
    monkeypatch.setattr(sys, "argv", ["plan_table.py", "--trace"])
    assert tool.main() == 0 and list(tool.read_rows()) == ["dit-nano"]
    assert re.match(r"\| model .*\n\|.*\n\| `dit-nano` \| 0.7598 \|", tool.table(tool.read_rows(), tool.list_models()))


CARDS = load("plan_table").list_models()


def test_what_a_run_writes_is_read_back(tmp_path: Path, capsys) -> None:
    assert call("train", "dit-nano", "--gft", "-o", "batch_size=8", "-o", "steps=7", "--print-config") == 0
    printed = capsys.readouterr().out
    (tmp_path / "run.yaml").write_text(printed)
    config = read_run(tmp_path / "run.yaml")
    assert config == resolve("dit-nano", objective="gft", steps=7, options={"batch_size": 8})
    words = ("train", "--config", str(tmp_path / "run.yaml"))
    assert call(*words, "--print-config") == 0 and capsys.readouterr().out == printed
    other = ("-o", "lr=0.5", "-o", "learning_rate.warmup=3", "-o", "accumulate=2", "--steps", "2")
    assert call(*words, *other, "-o", "sample_grid=[1, 1]", "--runs", str(tmp_path), "--name", "run") == 0
    run = TrainConfig.read(tmp_path / "run")
    assert (run.lr, run.learning_rate.warmup, run.steps, run.learning_rate.horizon) == (0.5, 3, 2, 2)
    assert run.accumulate == 2 and run.fits == ("activation_checkpointing",) and run.batch_size == 8


def test_a_file_of_a_few_fields_is_a_run_as_the_options_say_it(tmp_path: Path) -> None:
    fields = {"model": "dit-nano", "objective": "gft", "steps": 5, "batch_size": 8, "network": {"depth": 2}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**fields, "learning_rate": {"warmup": 2}}))
    wanted = overridden(read_run(tmp_path / "a.yaml"), {"lr": 0.5}, steps=6)
    assert isinstance(wanted, Wanted)
    options = {"batch_size": 8, "network.depth": 2, "learning_rate.warmup": 2, "lr": 0.5}
    assert plan(wanted).config == resolve("dit-nano", objective="gft", steps=6, options=options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: 1", "has no `model`"),
        ("[1]", "describes no run"),
        ("model: dit-nano\nbatchsize: 3", "did you mean 'batch_size'"),
        ("model: dit-nano\ncard: {name: x}", "card"),
    ],
)
def test_a_file_that_describes_no_run_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UsageError, match=re.escape(said)):
        read_run(tmp_path / "a.yaml")


def test_the_network_of_a_whole_configuration_is_not_changed_from_outside(tmp_path: Path) -> None:
    config = resolve("dit-nano", objective="gft", steps=2)
    with pytest.raises(UsageError, match=r"'network.depth' changes what the card"):
        overridden(config, {"network.depth": 3})
    broken = config.model_copy(update={"weights": str(tmp_path / "none")})
    with pytest.raises(UsageError, match="no such file"):
        resolved(broken)


RECIPE = {"objective": "conditional", "weights": "runs/a", "steps": 3, "data": "digits", "precision": "fp32"}


@pytest.mark.parametrize("field", RECIPE)
def test_every_field_of_a_recipe_is_an_option(field: str) -> None:
    said = [f"{name}={value}" for name, value in {"objective": "gft", field: RECIPE[field]}.items()]
    left_out = "model objective data background validation name recipe weights steps horizon"
    words: dict[str, object] = dict.fromkeys(left_out.split())
    words |= {"model": "dit-nano", "gft": False, "allow_outside": False, "options": tuple(said), "unseen": False}
    wanted = what_for(None, **words)
    assert isinstance(wanted, Wanted) and wanted.options[field] == RECIPE[field]
