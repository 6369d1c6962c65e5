"""A comparison's page: all of it from files, nothing from a network, no text that the page would obey, controls that work."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from lmx.report import charts
from lmx.report.comparison import document
from lmx.report.curves import bits_panel, native_panels, yardstick_panels
from lmx.report.figures import figures
from lmx.report.frontier import ratio, sentences
from tests.report.comparisons import FLOPS, STEPS, make

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
EVIL = "</script><script>document.title='obeyed'</script><img src=x onerror=\"document.title='obeyed'\">"


@pytest.fixture
def toy(tmp_path):
    return make(tmp_path)


def page(table, arms, examples=None) -> str:
    return document(table, arms, figures(table, arms), examples or {})


class Links(HTMLParser):
    """Attributes that could fetch, and the names of elements."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]


def test_native_losses_have_a_panel_each(toy):
    _, arms = toy
    panels = native_panels(arms)
    assert [[one.arm for one in panel.curves] for panel in panels] == [["clm"], ["mlm"], ["span"]]
    assert all(panel.lines == {"best constant": 6.5} for panel in panels)


def test_curves_are_those_of_the_files(toy):
    table, arms = toy
    (panel,) = yardstick_panels(arms, table["rows"])
    assert (panel.title, panel.unit, panel.better, panel.reason) == ("minimal_pairs accuracy", "share", "higher", None)
    assert panel.lines == {"chance": 0.5}
    points = panel.curves[0].points
    assert [point["flops"] for point in points] == [step * FLOPS for step in STEPS]
    assert [point["targets"] for point in points] == [step * 512 for step in STEPS], (
        "the ledger's, not the evaluation's"
    )
    assert points[-1]["low"] < points[-1]["mean"] < points[-1]["high"]
    row = next(row for row in table["rows"] if row["key"] == panel.title)
    assert points[-1]["mean"] == pytest.approx(row["cells"][0]["mean"])
    assert [one.arm for one in bits_panel(arms).curves] == ["clm"], "nobody else's loss measures text"


def test_an_evaluation_that_a_seed_lacks_is_left_out(toy):
    table, arms = toy
    arms[0].runs[1].validation[3]["minimal_pairs/accuracy/pll"] = None
    (panel,) = yardstick_panels(arms, table["rows"])
    assert [len(one.points) for one in panel.curves] == [9, 10, 10]


def test_ratio_of_flops(toy):
    """An arm that is twice as fast needs half; a seed, a flag or a row that is not ranked takes the ratio away."""
    table, arms = toy
    (panel,) = yardstick_panels(arms, table["rows"])
    assert sentences(panel, set())[0].startswith("minimal_pairs accuracy: clm needs 0.50x [0.50, 0.50] of mlm's FLOPs")
    assert sentences(panel, {"clm", "mlm"}) == []
    assert sentences(yardstick_panels(arms, [])[0], set()) == []


def test_ratios_are_of_every_two_arms(toy):
    """So the order of arms decides nothing; span and mlm are equally fast."""
    table, arms = toy
    said = [sorted(sentences(yardstick_panels(order, table["rows"])[0], set())) for order in (arms, arms[::-1])]
    assert said[0] == said[1]
    assert [re.findall(r"clm|mlm's|span's", sentence)[:2] for sentence in said[0]] == [
        ["clm", "mlm's"],
        ["clm", "span's"],
    ]


def test_no_ratio_to_what_anybody_has(toy):
    """FLOPs for a score at chance are FLOPs for nothing."""
    table, arms = toy
    for row in table["rows"]:
        for cell in filter(None, row["cells"]):
            cell["above_floor"] = cell["arm"] != "mlm"
    (note,) = next(figure for figure in figures(table, arms) if figure.part == "frontier").notes
    assert "of span's FLOPs" in note


@pytest.mark.parametrize("flags", [{"A/A": ["clm differs from itself."]}, {"clm": ["a"], "mlm": ["b"], "span": ["c"]}])
def test_no_ratio_where_there_is_no_verdict(toy, flags):
    table, arms = toy
    assert next(figure for figure in figures(table, arms) if figure.part == "frontier").notes
    assert not next(figure for figure in figures(table | {"flags": flags}, arms) if figure.part == "frontier").notes


def test_a_control_has_a_section(toy):
    table, arms = toy
    row = {"row": "cloze & so on", "n": 5, "mean": 0.1, "interval": {"low": -0.1, "high": 0.3}, "detectable": 0.4}
    text = page(table | {"control": {"arm": "clm", "seeds": [20000], "runs": ["a-run"], "rows": [row]}}, arms)
    assert "<h2>A/A control</h2>" in text
    assert "<td>cloze &amp; so on</td><td>5</td><td>+0.100</td><td>[-0.100, +0.300]</td><td>0.400</td>" in text
    assert "<td>clm again</td><td>a-run</td>" in text


def test_no_ratio_of_one_seed(tmp_path):
    table, arms = make(tmp_path, seeds=1)
    assert sentences(yardstick_panels(arms, table["rows"])[0], set()) == []


def test_ratio_waits_until_a_score_stays():
    flops = np.array([1.0, 2.0, 4.0, 8.0])
    theirs = np.stack([flops, np.array([0.0, 0.1, 0.2, 0.4])], axis=-1)

    def of(*values: float) -> float | None:
        return ratio(np.stack([flops, np.array(values)], axis=-1), theirs, 1.0)

    assert of(0.0, 0.5, 0.3, 0.5) == pytest.approx(np.sqrt(32) / 8), "not when a noisy curve first touched it"
    assert of(0.5, 0.5, 0.5, 0.5) is None, "reached before anybody looked"
    assert of(0.0, 0.1, 0.2, 0.3) is None


def test_nothing_is_fetched(toy):
    text = page(*toy)
    assert not Links(text).found
    assert "default-src 'none'" in text
    own = text.replace(charts.script(), "")
    assert not re.search(r"https?://(?!vega\.github\.io/schema/)", own.replace("http://www.w3.org/2000/svg", ""))
    assert "@import" not in own
    assert "url(" not in own


def test_text_is_not_obeyed(toy):
    table, arms = toy
    text = json.dumps(table).replace('"mlm"', json.dumps("mlm " + EVIL)).replace("minimal_pairs", "pairs <b>")
    table = json.loads(text) | {"words": [EVIL], "command": EVIL, "name": EVIL, "failed": {EVIL: EVIL}}
    plain, hostile = Links(page(*toy)), Links(page(table, arms[:1], {"clm": EVIL}))
    assert "img" not in hostile.tags
    assert hostile.tags.count("script") == plain.tags.count("script")
    assert "citizens </script>" not in page(*toy), "a sample"


def test_all_parts(toy):
    table, arms = toy
    text = page(table, arms)
    titles = re.findall("<section><h2>(.*?)</h2>", text)
    assert titles == [
        "Spent", "Yardsticks", "Contrasts", "Own loss, never ranked", "Curves", "Score against FLOPs",
        "Every model on every denoiser", "Tasks", "Config differences", "Samples", "Environment and runs",
    ]  # fmt: skip
    for sentence in [*table["words"], table["command"]]:
        assert sentence in text


def test_what_takes_something_back_looks_like_it(toy):
    table, _ = toy
    table |= {"cautions": ["One seed & no verdict."], "words": ["One seed & no verdict.", "Seen with model=tiny."]}
    text = page(table, [])
    assert "<li class=flag><b>⚠</b> One seed &amp; no verdict.</li><li>Seen with model=tiny.</li>" in text
    del table["cautions"]
    assert "<li class=flag>" not in page(table, []), "tables of before had no such list"


def test_long_keys_break_between_words(toy):
    """On a phone `objective.selec t` cannot be read."""
    table, _ = toy
    table |= {"differences": {"objective.generator_width": [1, None, None], "objective._target_": ["a.b", "<c", None]}}
    text = page(table, [])
    assert "<td>objective.<wbr>generator_<wbr>width</td>" in text
    assert "<td>objective._target_</td>" in text
    assert "<td>minimal_pairs accuracy</td>" in text


def test_without_runs(toy):
    table, _ = toy
    assert "Own loss" in page(table, [])


def test_numbers_that_are_none(toy):
    table, arms = toy
    cell = next(row for row in table["rows"] if row["ranked"])["cells"][0]
    cell |= {"error": float("nan"), "values": [0.5], "seeds": [0]}
    specs = re.search('id="specs">(.*?)</script>', page(table, arms))
    assert json.loads(specs[1], parse_constant=pytest.fail)


def test_figures_for_papers(toy, tmp_path):
    table, arms = toy
    drawn = figures(table, arms)
    assert len({one.name for one in drawn}) == len(drawn)
    assert all(re.fullmatch(r"[\w-]+", one.name) for one in drawn)
    charts.save(drawn[0].paper, tmp_path / "figure")
    assert (tmp_path / "figure.svg").read_text().startswith("<svg")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


CLICKS = """
const told = { errors: [] };
window.addEventListener("error", (event) => told.errors.push(String(event.message)));
window.addEventListener("unhandledrejection", (event) => told.errors.push(String(event.reason)));
window.addEventListener("securitypolicyviolation", (event) => told.errors.push(event.blockedURI));
const wait = () => new Promise((go) => setTimeout(go, 300));
const marks = (place) => place.querySelectorAll(".mark-line path").length;
const ticks = (place) => [...place.querySelectorAll(".role-axis-label text")].map((one) => one.textContent).join();
(async () => {
  for (let turn = 0; turn < 100 && !document.documentElement.dataset.drawn; turn++) await wait();
  const curve = document.getElementById("curve-minimal_pairs-accuracy");
  const frontier = document.querySelector("[data-fixed=axis]");
  told.charts = document.querySelectorAll(".chart svg").length;
  told.places = document.querySelectorAll("[data-chart]").length;
  told.lines = [marks(curve)];
  told.ticks = [ticks(curve)];
  told.frontier = [ticks(frontier)];
  for (const axis of document.querySelectorAll("input[name=axis]")) {
    axis.click();
    await wait();
    told.ticks.push(ticks(curve));
  }
  told.frontier.push(ticks(frontier));
  document.querySelector("input[name=arm]").click();
  await wait();
  told.lines.push(marks(curve));
  told.hidden = [...document.querySelectorAll("[data-arm='0']")].every((one) => one.hidden);
  told.wide = document.documentElement.scrollWidth - window.innerWidth;
  told.fetched = performance.getEntriesByType("resource").length;
  for (const one of document.querySelectorAll("details")) one.open = true;
  await wait();
  const inside = [...document.querySelectorAll("details .chart")];
  told.open = Math.min(...inside.map((one) => one.querySelector("svg").clientWidth / one.clientWidth));
  document.title = "told " + JSON.stringify(told);
})();
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no browser")
@pytest.mark.parametrize("width", [1300, 420])
def test_controls_in_a_browser(toy, tmp_path, width):
    path = tmp_path / "clicked.html"
    path.write_text(page(*toy).replace("<script>", f"<script>{CLICKS}</script><script>", 1), encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},2000", "--dump-dom",
        "--virtual-time-budget=30000", f"--user-data-dir={tmp_path / 'browser'}", f"file://{path}",
    ]  # fmt: skip
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    title = re.search("<title>told (.*?)</title>", seen)
    assert title, seen[:300]
    told = json.loads(title[1])
    assert told["errors"] == []
    assert told["charts"] == told["places"] == 8
    assert told["lines"] == [3, 2], "one arm less"
    assert told["hidden"]
    assert told["ticks"][0] == told["ticks"][1]
    assert len(set(told["ticks"])) == 4, "four axes"
    assert told["frontier"][0] == told["frontier"][1], "always FLOPs"
    assert told["fetched"] == 0
    assert told["wide"] <= 0, "nothing sticks out"
    assert told["open"] > 0.9, "drawn as wide as its place, which had no width before"
