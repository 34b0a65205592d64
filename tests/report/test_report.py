"""The report of a run and the comparison of two: whole in one file, in a browser too, and safe whatever is there."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from command import call
from filelock import FileLock
from runs import small

from gftzoo.engine import train
from gftzoo.report.curves import MOST_POINTS, chart, thinned, ticks, written
from gftzoo.report.page import MOST_FRAMES, comparison, report
from gftzoo.report.reading import RunFolder, runs_below

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small("dit-nano", 3, sample_every=1, checkpoint_every=2, log_every=1, sample_grid=(1, 2))
    return train(config, tmp_path_factory.mktemp("runs") / "small")


def record(frechet: float, **subject: object) -> str:
    measure = {"images": 9, "features": "digits", "reference": "held-out"}
    return json.dumps({"measure": measure, "subject": subject, "scores": {"frechet": frechet, "precision": None}})


def test_a_run_leaves_a_report_of_all_that_it_has(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    for heading in ("Curves", "Samples over time", "Samples over the guidance", "Configuration", "Provenance"):
        assert f"<h2>{heading}</h2>" in page
    assert "finished, step 3 of 3" in page and page == report(RunFolder(run))
    assert page.count("<svg") >= 5 and 'data-label="step 2"' in page and 'data-label="beta 0.5"' in page
    assert "batch_size: 8" in page and "Scores" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_report_is_refreshed_with_every_checkpoint(tmp_path: Path, monkeypatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr("gftzoo.engine.record.reporting.write_report", lambda path: steps.append(RunFolder(path).step))
    train(small("dit-nano", 3, checkpoint_every=2, log_every=1), tmp_path / "run")
    assert steps == [2, 3, 3]  # and at the end, when the last pictures are there


PROBE = """<script>
const told = [];
addEventListener("error", event => told.push("error " + event.message));
addEventListener("load", () => {
  for (const box of document.querySelectorAll(".frames")) {
    const slider = box.querySelector("input"), shown = () => [...box.querySelectorAll("figure")]
      .filter(figure => !figure.hidden && figure.querySelector("img").naturalWidth > 0)
      .map(figure => figure.dataset.label);
    const before = shown();
    slider.value = slider.min;
    slider.dispatchEvent(new Event("input"));
    told.push(JSON.stringify([before, shown(), box.querySelector("output").textContent]));
  }
  const asked = performance.getEntriesByType("resource").map(entry => entry.name)
    .filter(name => !name.startsWith("data:"));
  told.push("asked for " + JSON.stringify(asked));
  const result = document.createElement("pre");
  result.id = "told";
  result.textContent = told.join("\\n");
  document.body.append(result);
});
</script>"""


def browse(page: Path, *words: str) -> subprocess.CompletedProcess[str]:
    safe = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [CHROMIUM, *safe, profile, "--virtual-time-budget=5000", *words, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here to open the report with")
def test_in_a_browser_the_sliders_move_and_nothing_is_asked_for(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text((run / "report.html").read_text().replace("<head>", f"<head>{PROBE}"))
    done = browse(page, "--dump-dom")
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:]
    over_time, over_beta, asked = html.unescape(found[1]).split("\n")
    assert json.loads(over_time) == [["at the end"], ["step 1"], "step 1"]
    assert json.loads(over_beta) == [["beta 0.33"], ["beta 1"], "beta 1"]
    assert asked == "asked for []" and "CONSOLE" not in done.stderr


def test_two_runs_are_compared_in_curves_scores_of_one_protocol_and_samples(run: Path, tmp_path: Path) -> None:
    for name, frechet in (("one", 3.25), ("other", 2.5)):
        shutil.copytree(run, tmp_path / name)
        (tmp_path / name / "scores").mkdir()
        (tmp_path / name / "scores" / "a.json").write_text(record(frechet, guidance="beta", strength=0.5))
        (tmp_path / name / "scores" / f"{name}.json").write_text(record(98765.5, guidance="beta", strength=len(name)))
    config = (tmp_path / "other" / "config.yaml").read_text()
    (tmp_path / "other" / "config.yaml").write_text(config.replace("seed: 0", "seed: 7"))
    page = comparison(RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other"))
    assert "3.25" in page and "2.5" in page and "98765" not in page  # other strengths are not set side by side
    assert page.count("<figcaption>step 2</figcaption>") == 2 and '<span class="key">' in page
    assert "<td>seed</td>" in page and "<td>batch_size</td>" not in page
    out = tmp_path / "compare.html"
    assert call("compare", str(tmp_path / "one"), str(tmp_path / "other"), "--out", str(out)) == 0
    assert out.read_text() == page
    (tmp_path / "other" / "scores" / "a.json").write_text(record(2.5).replace("held-out", "train"))
    assert "No two records" in comparison(RunFolder(tmp_path / "one"), RunFolder(tmp_path / "other"))


def test_runs_are_listed_with_their_state(run: Path, tmp_path: Path, capsys) -> None:
    for name in ("a", "deep/b", "broken"):
        shutil.copytree(run, tmp_path / name)
    shutil.rmtree(tmp_path / "a" / "checkpoints" / "step-00000003")
    (tmp_path / "a" / "scores").mkdir()
    (tmp_path / "a" / "scores" / "x.json").write_text(record(1.5))
    (tmp_path / "a" / "scores" / "y.json").write_text("half a reco")
    (tmp_path / "broken" / "config.yaml").write_text("- no\n- configuration")
    shutil.rmtree(tmp_path / "deep" / "b" / "checkpoints" / "step-00000003")
    with FileLock(tmp_path / "deep" / "b" / ".lock"):
        assert call("runs", str(tmp_path), "--json") == 0
    rows = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["a"]["state"], rows["a"]["step"], rows["a"]["best_score"]) == ("stopped", 3, 1.5)
    assert rows["deep/b"]["state"] == "training" and "is no configuration" in rows["broken"]["state"]
    assert call("runs", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "3 of 3" in out and out.count("stopped") == 2
    assert call("runs", str(tmp_path / "none")) == 2 and call("report", str(tmp_path)) == 1


def test_whatever_a_folder_holds_is_shown_and_not_obeyed(run: Path, tmp_path: Path) -> None:
    bad = shutil.copytree(run, tmp_path / "<script>alert(1)<")
    (bad / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n{"step": 2, "lo\n[]\n{"step": 3, "</svg>": 2}\n')
    (bad / "samples" / "step-00000001.png").write_bytes(b"no picture" * 100_000)
    config = (bad / "config.yaml").read_text().replace("data: digits", "data: '<img src=http://a/b>'")
    (bad / "config.yaml").write_text(config)
    page = report(RunFolder(bad))
    assert "<script>alert" not in page and "<img src=http" not in page and "</svg> " not in page
    assert 'data-label="step 1"' not in page and 'data-label="step 2"' in page


def test_a_report_of_a_long_run_stays_small(run: Path, tmp_path: Path) -> None:
    long = shutil.copytree(run, tmp_path / "long")
    for step in range(1000, 50_000, 1000):
        shutil.copy(long / "samples" / "final.png", long / "samples" / f"step-{step:08d}.png")
    time = report(RunFolder(long)).split("Samples over the guidance")[0]
    assert time.count("<figure data-label") == MOST_FRAMES and 'data-label="at the end"' in time
    assert [r.path.name for r in runs_below(tmp_path)] == ["long"]


def test_curves_have_round_numbers_and_few_points() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10] and ticks(3, 3) == [3]
    assert [written(n) for n in (0.0001, 0.25, 1234, 2e7)] == ["0.0001", "0.25", "1,234", "2e+07"]
    line = [(x, 2 * x) for x in range(10_000)]
    few = thinned(line)
    assert len(few) <= MOST_POINTS and few[-1][0] == 9999 and few[0][1] == pytest.approx(16)
    assert chart("a", {"": [(0, float("nan"))]}) == "" and "<circle" in chart("a", {"": [(1, 2)]})
    drawn = chart("loss", {"a": [(0, 0), (1, 1)], "b<": [(0, 1), (1, 0)]})
    assert drawn.count("<polyline") == 2 and "b&lt;" in drawn
