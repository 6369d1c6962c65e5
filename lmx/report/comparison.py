"""A comparison as one page: opens from a disk, fetches nothing; charts that can be switched, tables, light, dark and on paper."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lmx.compare.results import Results
from lmx.report import listings
from lmx.report.charts import COLORS, SIGNS, script
from lmx.report.curves import AXES
from lmx.report.figures import Figure
from lmx.report.listings import Listing
from lmx.report.markup import embedded, owner, section, shade, tabulated, word
from lmx.report.page import CSS, article, legend
from lmx.report.sheet import sheet

HERE = Path(__file__).parent
LOOKS = {  # colours of text and axes are the style sheet's; what it says of fonts is what widths are measured with
    "font": "system-ui, sans-serif",
    "axis": {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"},
    "view": {"stroke": None},
}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
SPREAD = (
    "Mean over seeds [lowest, highest], or one seed ± the standard error over items; then how the model was asked. "
    f"{listings.FLOOR}: not clearly better than its floor."
)
BAND = "Lines are means over seeds, bands reach from the lowest to the highest seed."
SWEPT = "Means over seeds, and bands from the lowest to the highest seed; of one seed, the standard error over items."
RATIO = (
    "Ratios are paired by seed, with a 95 % interval of their logarithm. A learning rate that decays later than at the "
    "crossing makes them too large: a run of just that budget would do with less."
)


def document(
    table: Mapping[str, Any],
    arms: Sequence[Results],
    drawn: Sequence[Figure],
    examples: Mapping[str, dict[str, Any] | str],
) -> str:
    """`examples` has, by arm, one corrupted example as lmx.example tells it, or why there is none."""
    page = Page(table, arms, drawn)
    body = "".join([page.head(), page.controls(), "<main>", *page.parts(examples), "</main>"])
    style = f"{CSS}{(HERE / 'comparison.css').read_text(encoding='utf-8')}"
    code = (HERE / "comparison.js").read_text(encoding="utf-8")
    library = f"<script>{script()}</script>" if page.specs else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(table['name'])}</title><style>{style}</style></head><body>\n{body}\n"
        f'<script type="application/json" id="specs">{embedded(page.specs)}</script>'
        f"{library}<script>{code}</script></body></html>\n"
    )


class Page:
    """Its parts; `specs` are the charts that they have asked for."""

    def __init__(self, table: Mapping[str, Any], arms: Sequence[Results], drawn: Sequence[Figure]):
        self.table, self.arms, self.drawn = table, arms, drawn
        self.names = listings.names(table)
        self.specs: list[dict[str, Any]] = []

    def head(self) -> str:
        words = "".join(word(sentence, self.table.get("cautions", ())) for sentence in self.table["words"])
        matched = self.table["matched"]
        told = f"matched by {listings.SHARED.get(matched['by'], matched['by'])} to {matched['mismatch']:.1%}"
        seeds = max(len(arm["seeds"]) for arm in self.table["arms"])
        return (
            f"<header><h1>{escape(self.table['name'])}</h1><p class=faint>{len(self.names)} arms, {seeds} "
            f"seed{'s' * (seeds != 1)}, {told}</p><ul class=words>{words}</ul><pre>{escape(self.table['command'])}</pre></header>"
        )

    def controls(self) -> str:
        arms = "".join(
            f'<label class=arm><input type=checkbox name=arm value="{escape(name)}" data-place="{place}" checked> '
            f'<span class=swatch style="color:{COLORS[place % len(COLORS)]}">{SIGNS[place % len(SIGNS)]}</span> '
            f"{escape(name)}</label>"
            for place, name in enumerate(self.names)
        )
        by = self.table["matched"]["by"]
        axes = "".join(
            f'<label><input type=radio name=axis value="{key}"{" checked" * (key == (by if by in AXES else "flops"))}> '
            f"{escape(name)}</label>"
            for key, name in AXES.items()
        )
        switch = f"<fieldset><legend>x axis</legend>{axes}</fieldset>" if self.arms else ""
        return f"<div class=controls><fieldset><legend>arms</legend>{arms}</fieldset>{switch}</div>"

    def parts(self, examples: Mapping[str, dict[str, Any] | str]) -> list[str]:
        """Sections in their order; those that have nothing are left out."""
        contrasts = listings.contrasts(self.table)
        tested = (
            "Every two arms in every tested row; positive where the arm that is named first is better. Intervals are of "
            "one contrast alone; p after Holm's correction over all of them decides. Detectable is the true difference that so "
            "many pairs find four times in five, at that correction's strictest; seeds needed would find the one that was seen."
        )
        over = (
            "0 is a task's floor, 1 all of it right: the plain mean, or from five seeds on the mean of the middle half (IQM) "
            "with a percentile interval. P: how often a run of the arm is ahead of one of the column's. Looked at, not tested."
        )
        twins = "The first arm under other seeds, in pairs: beyond what is detectable it must not differ from itself."
        whole, aa = listings.overall(self.table), listings.control(self.table)
        spent = [f"<p>{escape(told)}</p>" for told in listings.conventions(self.table)]
        return [
            section(
                "Spent",
                "Means over seeds. What is not marked was not matched.",
                self.listing(listings.ledger(self.table)),
                *spent,
            ),
            self.swept(),
            section("Yardsticks", SPREAD, self.listing(listings.yardsticks(self.table)), *self.part("scores")),
            section("Over tasks", over, self.listing(whole)) if whole.rows else "",
            section("Contrasts", tested, self.listing(contrasts)) if contrasts.rows else "",
            section("A/A control", twins, self.listing(aa)) if aa.rows else "",
            section(
                "Own loss, never ranked",
                "Held-out nats of each objective's own task, each against its own best constant prediction, and shares of "
                f"what is counted beside them. {BAND}",
                *self.part("own"),
                self.listing(listings.native(self.table)),
            ),
            section("Curves", BAND, *self.part("curves", wide=True)) if self.has("curves") else "",
            section("Score against FLOPs", RATIO, *self.part("frontier", wide=True)) if self.has("frontier") else "",
            self.cross(),
            *self.tasks(),
            section("Config differences", "", self.listing(listings.differences(self.table), "differences")),
            self.tuned(),
            self.examples(examples),
            self.samples(),
            self.environment(),
        ]

    def swept(self) -> str:
        if "sweep" not in self.table:
            return ""
        return section(
            "Along the sweep", SWEPT, *self.part("sweep", wide=True), self.listing(listings.swept(self.table))
        )  # fmt: skip

    def has(self, part: str) -> bool:
        return any(figure.part == part for figure in self.drawn)

    def part(self, part: str, title: str | None = None, *, wide: bool = False) -> list[str]:
        """The figures that stand there; `wide`: two beside each other where there is room."""
        found = [self.figure(one) for one in self.drawn if one.part == part and title in (None, one.title)]
        return ["<div class=wide>", *found, "</div>"] if wide else found

    def figure(self, one: Figure) -> str:
        """A chart, or several beside each other, and what is said about it."""
        charts = []
        for title, arm, chart in one.panels:
            place = len(self.specs)
            self.specs.append(chart.to_dict() | {"background": None, "config": LOOKS})
            owner = f' data-arm="{self.names.index(arm)}"' if arm else ""
            fixed = " data-fixed=axis" if one.part in ("frontier", "sweep") else ""
            above = f"<h3>{escape(title)}</h3>" if title else ""
            charts.append(f'<div{owner}>{above}<div class=chart data-chart="{place}"{fixed}></div></div>')
        notes = "".join(f"<p>{escape(note)}</p>" for note in one.notes)
        heading = f"<h3>{escape(one.title)}</h3>" if one.part in ("curves", "frontier", "sweep") else ""
        inner = f"<div class=panels>{''.join(charts)}</div>" if len(charts) > 1 else "".join(charts)
        return f'<figure id="{escape(one.name)}">{heading}{inner}{notes}</figure>'

    def listing(self, one: Listing, style: str = "") -> str:
        return tabulated(one, len(self.names), style)

    def owner(self, place: int) -> str:
        return owner(place, len(self.names))

    def cross(self) -> str:
        """A row a model, so that it is read along a training; shades by column are of what frequencies give."""
        rows = [row for row in self.table["rows"] if row["yardstick"] == "cross"]
        if not rows:
            return ""
        head = "".join(
            f"<th>{escape(row['task'])}<br><small>{escape(listings.floor(row))}</small></th>" for row in rows
        )
        body = "".join(
            f"<tr{self.owner(place)}><td>{escape(name)}</td>{''.join(shade(row['cells'][place]) for row in rows)}</tr>"
            for place, name in enumerate(self.names)
        )
        about = (
            "Nats a token of the same held-out text: which denoisers a training transfers to, read along a row. Never ranked "
            "across models, which are asked in ways of their own. The more colour, the further below what frequencies give."
        )
        drawn = f"<div class='scroll heat'><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        return section("Every model on every denoiser", about, drawn)

    def tasks(self) -> list[str]:
        found = []
        for one in listings.tasks(self.table):
            inner = "".join([self.listing(one), *self.part("tasks", one.title)])
            found.append(
                f"<details><summary>{escape(one.title)} by task ({len(one.rows)} rows)</summary>{inner}</details>"
            )
        return [section("Tasks", SPREAD, *found)] if found else []

    def tuned(self) -> str:
        one = listings.tuned(self.table)
        return (
            section("Tuned", "On a seed of its own, on a share of the budget.", self.listing(one)) if one.rows else ""
        )

    def examples(self, examples: Mapping[str, dict[str, Any] | str]) -> str:
        if not examples:
            return ""
        drawn = []
        for name, one in examples.items():
            owner = self.owner(self.names.index(name))
            if isinstance(one, str):
                inner = f"<article><h2>{escape(name)}</h2><p>{escape(one)}</p></article>"
            else:
                inner = article(sheet({**one, "objective": name}))
            drawn.append(f"<div{owner}>{inner}</div>")
        about = (
            "One text, as each model reads it, is asked, and may attend to. Row looks at column; lines part documents."
        )
        return section("What the models see", about, legend(), f"<div class=examples>{''.join(drawn)}</div>")

    def samples(self) -> str:
        """What the first seed of each arm wrote at its end."""
        found = []
        for place, arm in enumerate(self.arms):
            lines = arm.runs[0].run.lines("evals/samples.jsonl")
            last = [line for line in lines if line["step"] == lines[-1]["step"]]
            texts = "".join(
                f"<blockquote><b>{escape(line['prompt'])}</b>{escape(line['text'])}</blockquote>" for line in last
            )
            found += [f"<div{self.owner(place)}><h3>{escape(arm.name)}</h3>{texts}</div>"] if texts else []
        about = "Held-out beginnings (bold), continued by the first seed of each arm whose objective continues texts."
        return section("Samples", about, *found) if found else ""

    def environment(self) -> str:
        facts = [result.run.read_json("environment.json") for arm in self.arms for result in arm.runs]
        tables = [self.listing(one, "differences") for one in (listings.environment(facts), listings.runs(self.table))]
        return section("Environment and runs", "", *tables)
