"""The report of a run, and the comparison of two, each one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import yaml
from PIL import Image

from gftzoo.atomic import written_whole
from gftzoo.printing import plain, plain_lines
from gftzoo.report.curves import chart, written
from gftzoo.report.reading import RunFolder

REPORT_FILE = "report.html"
MOST_FRAMES = 16  # of a slider; of more pictures evenly spread ones are shown
WIDEST = 1340  # pixels of a picture in the page
LARGEST = 400_000  # bytes of a PNG that is taken as it is
# In this order, and every other number behind them.
NAMES = {
    "loss": "loss",
    "validation": "validation loss",
    "score": "score, lower is better",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "images_per_second": "images per second",
    "peak_memory_gib": "peak memory, GiB",
    "teraflops_per_device": "TFLOPS per device",
    "mfu": "share of the peak",
}


def write_report(folder: Path) -> Path:
    """Writes `report.html` into a run's folder and returns it; DiskError where the disk does not take it."""
    return _written(report(RunFolder(folder)), folder / REPORT_FILE)


def report(run: RunFolder) -> str:
    """The page of one run."""
    config = run.config
    lead = (
        f"{config.get('model')} ({config.get('objective')}) on {config.get('data')}: {run.state}, "
        f"step {run.step:,} of {run.steps:,}"
    )
    body = [
        section("Curves", charts({"": run})),
        section("Samples over time", frames(run.over_time(), "step")),
        section("Samples over the guidance", frames(run.over_strength(), "guidance")),
        section("Scores", scores(run)),
        section("Configuration", _text(config)),
        section("Provenance", _text(run.made_of)),
    ]
    return _page(run.path.name, lead, body)


def write_comparison(first: Path, second: Path, out: Path) -> Path:
    """Writes the comparison of two runs; DiskError where the disk does not take it."""
    return _written(comparison(RunFolder(first), RunFolder(second)), out)


def comparison(first: RunFolder, second: RunFolder) -> str:
    """Two runs beside each other: curves in one, scores of the same protocol, samples of the same seeds."""
    names = _told_apart(first, second)
    runs = dict(zip(names, (first, second), strict=True))
    lead = "; ".join(f"{name}: {run.state}, step {run.step:,} of {run.steps:,}" for name, run in runs.items())
    beside = "".join(_beside(*both) for both in _same_pictures(first, second))
    body = [
        section("Curves", charts(runs)),
        section("Scores", _scores_of_both(first, second, names)),
        section("Samples of the same seeds", beside and f'<div class="beside">{beside}</div>'),
        section("What differs", _differences(first, second, names)),
    ]
    return _page(" and ".join(names), lead, body)


def section(name: str, content: str) -> str:
    """A part of the page; nothing where there is nothing in it."""
    return f"<section><h2>{escape(name)}</h2>{content}</section>" if content else ""


def charts(runs: Mapping[str, RunFolder]) -> str:
    """A chart for every number that the runs told of; those of one name with dots, as `validation.0.5`, together."""
    keys = dict.fromkeys(key for run in runs.values() for row in run.rows for key in row if key != "step")
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key.partition(".")[0], []).append(key)
    ordered = [*(name for name in NAMES if name in groups), *(name for name in groups if name not in NAMES)]
    drawn = [
        chart(
            NAMES.get(group, group),
            {_label(run, key): _points(runs[run], key) for run in runs for key in groups[group]},
        )
        for group in ordered
    ]
    return f'<div class="charts">{"".join(drawn)}</div>' if any(drawn) else ""


def _label(run: str, key: str) -> str:
    return f"{run} {key.partition('.')[2]}".strip()


def _points(run: RunFolder, key: str) -> list[tuple[float, float]]:
    return [(row["step"], row[key]) for row in run.rows if key in row]


def frames(pictures: Sequence[tuple[str, Path]], name: str) -> str:
    """Pictures of which a slider shows one; nothing where there is none."""
    if len(pictures) > MOST_FRAMES:
        last = len(pictures) - 1
        pictures = [pictures[index * last // (MOST_FRAMES - 1)] for index in range(MOST_FRAMES)]
    shown = [(label, found) for label, path in pictures if (found := embedded(path))]
    if not shown:
        return ""
    last = len(shown) - 1
    figures = "".join(
        f'<figure data-label="{escape(label)}"{"" if index == last else " hidden"}>'
        f'<img alt="samples, {escape(label)}" src="{source}"></figure>'
        for index, (label, source) in enumerate(shown)
    )
    slider = f'<input type="range" min="0" max="{last}" value="{last}" aria-label="{escape(name)}">'
    return f'<div class="frames">{slider}<output>{escape(shown[last][0])}</output>{figures}</div>'


def embedded(path: Path) -> str:
    """A picture as a data URL, a large one smaller and as JPEG; nothing where it cannot be read."""
    try:
        raw = path.read_bytes()
        if len(raw) <= LARGEST:
            return f"data:image/png;base64,{base64.b64encode(raw).decode()}"
        with Image.open(io.BytesIO(raw)) as picture:
            picture.thumbnail((WIDEST, 100 * WIDEST))
            smaller = io.BytesIO()
            picture.convert("RGB").save(smaller, "JPEG", quality=85)
        return f"data:image/jpeg;base64,{base64.b64encode(smaller.getvalue()).decode()}"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""


def scores(run: RunFolder) -> str:
    """A table of the run's score records; nothing where there is none."""
    rows = [
        [plain(record["name"], 80), _how(record), *(_number(record["scores"].get(key)) for key in _score_keys([run]))]
        for record in run.scores
    ]
    return table(["record", "measured", *_score_keys([run])], rows) if rows else ""


def _score_keys(runs: Sequence[RunFolder]) -> list[str]:
    found = (record["scores"] for run in runs for record in run.scores)
    return list(
        dict.fromkeys(key for scores in found for key, value in scores.items() if isinstance(value, int | float))
    )


def _how(record: Mapping[str, Any]) -> str:
    measure, subject = record["measure"], record["subject"]
    steered = f"{subject.get('guidance', '')} {subject.get('strength') or ''}".strip()
    return plain(
        f"{steered}; {measure.get('images')} images, {measure.get('features')}, {measure.get('reference')}", 200
    )


def _number(value: Any) -> str:
    return written(round(float(value), 4)) if isinstance(value, int | float) else ""


def _scores_of_both(first: RunFolder, second: RunFolder, names: Sequence[str]) -> str:
    """Records of both runs that were measured alike and steered alike, in rows under each other."""
    keys, rows = _score_keys([first, second]), []
    for one in first.scores:
        for other in second.scores:
            if one["measure"] == other["measure"] and _steering(one) == _steering(other):
                for name, record in zip(names, (one, other), strict=True):
                    rows.append([name, _how(record), *(_number(record["scores"].get(key)) for key in keys)])
    if rows:
        return table(["run", "measured", *keys], rows)
    both = first.scores and second.scores
    return "<p>No two records of theirs are of the same protocol and guidance.</p>" if both else ""


def _steering(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record["subject"].get(key) for key in ("guidance", "strength", "schedule"))


def _same_pictures(first: RunFolder, second: RunFolder) -> list[tuple[str, Path, Path]]:
    """Pictures of the same step or strength, whose seeds are the same in every run."""
    found = []
    for kind in ("over_time", "over_strength"):
        others = dict(getattr(second, kind)())
        found += [(label, path, others[label]) for label, path in getattr(first, kind)() if label in others]
    return found[-MOST_FRAMES:]


def _beside(label: str, one: Path, other: Path) -> str:
    head = f'<figure><figcaption>{escape(label)}</figcaption><img width="100%" alt="{escape(label)}"'
    return "".join(f'{head} src="{source}"></figure>' for source in (embedded(one), embedded(other)))


def _differences(first: RunFolder, second: RunFolder, names: Sequence[str]) -> str:
    keys = dict.fromkeys([*first.config, *second.config])
    rows = [
        [str(key), *(plain(run.config.get(key), 120) for run in (first, second))]
        for key in keys
        if first.config.get(key) != second.config.get(key)
    ]
    return table(["setting", *names], rows) if rows else "<p>Nothing in their configuration.</p>"


def _told_apart(first: RunFolder, second: RunFolder) -> tuple[str, str]:
    """Their names, or their paths where those are the same."""
    if first.path.name != second.path.name:
        return plain(first.path.name, 80), plain(second.path.name, 80)
    return plain(first.path, 80), plain(second.path, 80)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; numbers to the right."""
    lines = ["".join(f"<th>{escape(name)}</th>" for name in head)]
    lines += ["".join(f"<td{_class(cell)}>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _class(cell: str) -> str:
    return ' class="number"' if cell.replace(",", "").replace(".", "").replace("-", "").isdigit() else ""


def _text(what: Mapping[str, Any]) -> str:
    if not what:
        return ""
    return f"<pre>{escape(plain_lines(yaml.safe_dump(dict(what), sort_keys=False, allow_unicode=True)))}</pre>"


def _page(title: str, lead: str, body: Sequence[str]) -> str:
    template = Template((Path(__file__).parent / "template.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(plain(title, 200)), lead=escape(plain(lead)), body="\n".join(body))


def _written(page: str, path: Path) -> Path:
    with written_whole(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")
    return path
