"""The guidance table's reading of its records: rows, best values and claims, also where they fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gftzoo.evaluate import ScoreRecord
from gftzoo.evaluate.records import Measure
from gftzoo.evaluate.scoring import Scores
from gftzoo.evaluate.subjects import Subject


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "guidance_table.py"
    spec = importlib.util.spec_from_file_location("guidance_table", path)
    assert spec and spec.loader
    module = sys.modules["guidance_table"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MEASURE = Measure(
    protocol="embedded", distance_name="FD-x", features="x", features_sha256="", reference="held-out",
    reference_sha256="", images=100, class_plan="balanced", kept_features=100,
)  # fmt: skip
SECONDS = {"unguided": 0.01, "cfg": 0.02, "beta": 0.01}
REAL = Scores(frechet=1.0, accuracy=0.99, inception_score=9.0, precision=0.9, recall=0.9)


def record(
    objective: str, guidance: str, strength: float | None, frechet: float, accuracy: float, seed: int
) -> ScoreRecord:
    return ScoreRecord(
        measure=MEASURE,
        subject=Subject(model="m", objective=objective, guidance=guidance, strength=strength, seed=seed, entry="ema"),
        scores=Scores(frechet=frechet, accuracy=accuracy, inception_score=8.0, precision=0.8, recall=0.7),
        passes=2 if guidance == "cfg" else 1,
        seconds_per_image=0.02 if guidance == "cfg" else 0.01,
    )


def records(gft_offset: float) -> list[ScoreRecord]:
    """CFG has 10, 8 and 12 at 80, 90 and 95 % accuracy; GFT has that plus the offset; seeds differ by 2."""
    points = ((0.80, 10.0), (0.90, 8.0), (0.95, 12.0))
    found = []
    for seed in (0, 1):
        for (accuracy, frechet), scale, beta in zip(points, (None, 2.0, 4.0), (1.0, 0.5, 0.25), strict=True):
            kind = "unguided" if scale is None else "cfg"
            shifted = frechet + 2 * seed
            found.append(record("conditional", kind, scale, shifted, accuracy, seed))
            found.append(record("gft", "beta", beta, shifted + gft_offset, accuracy, seed))
    return found


def test_rows_hold_mean_and_spread_and_the_best_is_bold(tool: ModuleType) -> None:
    lines = tool.table(records(-3), REAL, SECONDS).splitlines()
    assert len(lines) == 2 + 6 + 1
    by_label = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in lines[2:]}
    assert "| 11.00 ± 1.41 " in by_label["unguided", ""]
    assert "| **9.00 ± 1.41** | 90.0 ± 0.0 " in by_label["CFG", "w = 2"]
    assert by_label["CFG", "w = 2"].endswith("| 2 | 20.00 | 2.00 |")
    assert "| **6.00 ± 1.41** " in by_label["GFT", "beta = 0.5"]
    assert sum("**" in line for line in lines) == 2
    assert "| 1.00 | 99.0 " in by_label["real images", "train split"]


def test_claims_that_hold(tool: ModuleType) -> None:
    said = "\n".join(tool.claims(records(-3), [0, 1], ["constant"]))
    assert "Best GFT 6.00 against best CFG 9.00: GFT is not above CFG" in said
    assert "0.55x the unguided 11.00" in said
    assert "seed 1, constant (80.0 to 95.0 %): GFT minus CFG is -3.00 on average" in said
    assert "at 100 % of the range" in said


def test_claims_that_fail_say_so(tool: ModuleType) -> None:
    said = "\n".join(tool.claims(records(+1), [0, 1], ["constant"]))
    assert "GFT is ABOVE CFG" in said
    assert "GFT minus CFG is +1.00 on average, at most +1.00; GFT is not above CFG at 0 % of the range" in said


def test_every_row_of_an_objective(tool: ModuleType) -> None:
    from gftzoo.evaluate.sweep import label

    plain = [label(g) for g in tool.guidances("conditional", ["constant"])]
    assert plain == ["unguided", "cfg=1.1", "cfg=1.25", "cfg=1.5", "cfg=2", "cfg=3", "cfg=4"]
    assert [label(g) for g in tool.guidances("lora-from-base", ["constant"])] == ["unguided"]
    steered = [label(g) for g in tool.guidances("gft", ["constant", "linear"])]
    assert steered[:7] == ["beta=1", "beta=0.9", "beta=0.8", "beta=0.66", "beta=0.5", "beta=0.4", "beta=0.33"]
    assert steered[7:] == [
        "beta=0.9-linear",
        "beta=0.8-linear",
        "beta=0.66-linear",
        "beta=0.5-linear",
        "beta=0.4-linear",
        "beta=0.33-linear",
    ]


def test_curves_are_of_the_mean_and_its_spread(tool: ModuleType, tmp_path: Path) -> None:
    tool.write_csv(records(-3), tmp_path / "table.csv")
    curves = sys.modules["results_curves"]
    found = {way.name: curves.curve(rows, curves.axis_of(rows)) for way, _, rows in curves.curves(tmp_path)}
    assert [point.label for point in found["CFG"]] == ["1", "2", "4"]
    assert [point.distance for point in found["GFT, from scratch"]] == [8.0, 6.0, 10.0]
    assert [point.x for point in found["GFT, from scratch"]] == pytest.approx([0.80, 0.90, 0.95])
    assert all(point.spread == pytest.approx(2**0.5) for points in found.values() for point in points)
    assert curves.draw(tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("offset", "told"),
    [
        (-3, "GFT is nowhere above CFG by more than the standard error of the difference."),
        (+1, "GFT is nowhere above CFG by more than the standard error of the difference."),
        (+3, "at 100% of the range, at most by 3.00, where that is 1.41."),
    ],
)
def test_equal_accuracy_is_judged_by_the_standard_error(
    tool: ModuleType, tmp_path: Path, offset: float, told: str
) -> None:
    """Both have a standard deviation of the square root of 2 over two seeds."""
    tool.write_csv(records(offset), tmp_path / "table.csv")
    (said,) = sys.modules["results_curves"].at_equal_x(tmp_path)
    assert said.startswith("At equal accuracy, constant strength, means of 2 seeds: ")
    assert said.endswith(told)


def test_equal_forwards_take_the_setting_and_a_folder_of_their_own(
    tool: ModuleType, tmp_path: Path, monkeypatch
) -> None:
    runs, asked = sys.modules["guidance_runs"], []
    monkeypatch.setattr(runs, "trained", lambda *_: (None, tmp_path))
    monkeypatch.setattr(runs, "open_evaluator", lambda *_: None)

    def sweep(_, __, guided, folder: Path, *, seed: int, settings: dict[str, str], **___) -> list[ScoreRecord]:
        asked.append((folder.name, settings))
        return [record("conditional", "cfg", 2.0, 1.0, 0.9, seed)]

    monkeypatch.setattr(runs, "sweep", sweep)
    job = tool.Job("m", None, [0], None, 9, ["constant"], [], ["spacing=x"], tmp_path, tmp_path, half_steps="steps=12")
    assert len(tool.collect_equal_forwards(job)) == 1 + len(job.scales)
    assert set(map(str, asked)) == {
        str(("records-m-conditional-equal-forwards-seed0", {"spacing": "x", "steps": "12"}))
    }
