"""Charts of a comparison in Vega-Lite: the same for the page, which redraws them, and for files for papers."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from lmx.report.curves import AXES, Panel
from lmx.report.listings import label

COLORS = ("#3b78c4", "#d9722b", "#2f9e62", "#b04fb5", "#b8901f", "#1aa3a3", "#d64550", "#7a6fd0", "#8c6d46", "#6b7c93")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
SIGNS = ("●", "■", "▲", "◆", "✚", "▼")  # the shapes in a legend of text
GRAY = "#7d828a"  # readable on white and on black
HEIGHT, WIDTH = 190, 280  # pixels; of a page's charts the width is that of their place
VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
SCALE = 2.0  # pixels of a PNG a unit
Drawing = alt.LayerChart | alt.FacetChart


class Look:
    """One colour and one shape an arm, the same in every chart. `axis` is on x; where `static` is not set it can be switched."""

    def __init__(self, names: Sequence[str], axis: str, *, static: bool):
        self.names, self.axis, self.static = list(names), axis, static
        self.colors = [COLORS[place % len(COLORS)] for place in range(len(names))]
        shapes = [SHAPES[place % len(SHAPES)] for place in range(len(names))]
        legend = alt.Legend(title=None, orient="top", labelLimit=400, symbolOpacity=1) if static else None
        self.color = alt.Color("arm:N").scale(domain=self.names, range=self.colors).legend(legend)
        self.shape = alt.Shape("arm:N").scale(domain=self.names, range=shapes).legend(legend)
        self.params = [alt.param(name="axis", value=axis), alt.param(name="shown", value=self.names)]


def curves(panel: Panel, look: Look, *, log: bool = False) -> Drawing:
    """Lines with points at evaluations, a band from the lowest to the highest seed, dashed lines to beat."""
    rows = [
        {**point, "arm": one.arm, "scorer": one.scorer or "own loss"} for one in panel.curves for point in one.points
    ]
    data = alt.Chart(alt.Data(values=rows)).transform_filter("indexof(shown, datum.arm) >= 0")
    data = data.transform_calculate(x="datum[axis]")
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(nice=False)
    title = AXES[look.axis] if look.static else None
    x = alt.X("x:Q", scale=scale).axis(title=title, format="~s", tickCount=5, labelOverlap=True)
    y = alt.Y("mean:Q").scale(zero=False).axis(title=panel.unit or None, tickCount=5)
    tooltip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("scorer:N"),
        alt.Tooltip("mean:Q", format=".4f"),
        alt.Tooltip("low:Q", format=".4f", title="lowest seed"),
        alt.Tooltip("high:Q", format=".4f", title="highest seed"),
        *(alt.Tooltip(f"{key}:Q", format=".3s", title=name) for key, name in AXES.items()),
    ]
    layers = [
        data.mark_area(opacity=0.2).encode(x=x, y=alt.Y("low:Q").scale(zero=False), y2="high:Q", color=look.color),
        data.mark_line(strokeWidth=2).encode(x=x, y=y, color=look.color),
        data.mark_point(size=38, filled=True, opacity=1).encode(
            x=x, y=y, color=look.color, shape=look.shape, tooltip=tooltip
        ),
        *lines(panel.lines),
    ]
    chart = alt.layer(*layers).add_params(*look.params)
    if look.static:
        return chart.properties(width=WIDTH, height=HEIGHT, title=panel.title)
    names = ",".join(f"{key}:'{name}'" for key, name in AXES.items())
    below = alt.TitleParams(
        text=alt.ExprRef(expr=f"{{{names}}}[axis]"), orient="bottom", fontSize=11, fontWeight="normal"
    )
    return chart.properties(width="container", height=HEIGHT, title=below)


def lines(heights: Mapping[str, float]) -> list[alt.Chart]:
    if not heights:
        return []
    rows = [{"y": value, "name": f"{name} {value:.3f}"} for name, value in heights.items()]
    data = alt.Chart(alt.Data(values=rows))
    y = alt.Y("y:Q").scale(zero=False)
    return [
        data.mark_rule(strokeDash=[5, 4], color=GRAY).encode(y=y),
        data.mark_text(align="right", baseline="bottom", dy=-2, color=GRAY, fontSize=11).encode(
            y=y, x=alt.value("width"), text="name:N"
        ),
    ]


def scores(rows: Sequence[Mapping[str, Any]], unit: str, look: Look) -> Drawing:
    """Ranked rows of one unit: a point an arm, its range over seeds or error over items, a tick at each floor."""
    points = [
        {"row": label(row), "arm": cell["arm"], "scorer": cell["scorer"], "mean": cell["mean"], **ends(cell)}
        for row in rows
        for cell in filter(None, row["cells"])
    ]
    ticks = [
        {"row": label(row), "arm": cell["arm"], "floor": cell["floor"], "name": cell["floor_name"]}
        for row in rows
        for cell in filter(None, row["cells"])
        if cell["floor"] is not None
    ]
    only = "indexof(shown, datum.arm) >= 0"
    narrow = alt.Axis(title=None, labelLimit=260 if look.static else 170, grid=True)
    band = alt.Scale(type="band", paddingInner=0.2)
    y = alt.Y("row:N", sort=[label(row) for row in rows], axis=narrow, scale=band)
    offset = alt.YOffset("arm:N", sort=look.names)
    data = alt.Chart(alt.Data(values=points)).transform_filter(only)
    x = alt.X("mean:Q").scale(zero=False).axis(title=unit, tickCount=5)
    tooltip = [
        "row:N",
        "arm:N",
        "scorer:N",
        *(alt.Tooltip(f"{key}:Q", format=".3f") for key in ("mean", "low", "high")),
    ]
    layers = [
        alt.Chart(alt.Data(values=ticks))
        .mark_tick(color=GRAY, thickness=2)
        .encode(x="floor:Q", y=y, tooltip=["row:N", "name:N", alt.Tooltip("floor:Q", format=".3f")]),
        data.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q").scale(zero=False), x2="high:Q", y=y, yOffset=offset, color=look.color
        ),
        data.mark_point(size=55, filled=True, opacity=1).encode(
            x=x, y=y, yOffset=offset, color=look.color, shape=look.shape, tooltip=tooltip
        ),
    ]
    width = 2 * WIDTH if look.static else "container"
    height = len(rows) * (9 * len(look.names) + 12)
    return alt.layer(*layers).add_params(*look.params).properties(width=width, height=height)


def ends(cell: Mapping[str, Any]) -> dict[str, float]:
    if len(cell["values"]) > 1:
        return {"low": min(cell["values"]), "high": max(cell["values"])}
    error = cell["error"] or 0.0
    return {"low": cell["mean"] - error, "high": cell["mean"] + error}


def heat(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Drawing:
    """Models by denoisers: nats, coloured by their share of what frequencies give, so that columns are alike."""
    cells = [
        {"task": row["task"], "arm": cell["arm"], "nats": cell["mean"], "share": cell["mean"] / cell["floor"]}
        for row in rows
        for cell in filter(None, row["cells"])
        if cell["floor"]
    ]
    tasks = [row["task"] for row in rows]
    x = alt.X("task:N", sort=tasks).axis(title="asked", orient="top", labelAngle=0)
    data = alt.Chart(alt.Data(values=cells)).encode(x=x, y=alt.Y("arm:N", sort=list(names)).axis(title="trained"))
    colored = (
        alt.Color("share:Q")
        .scale(scheme="blues", reverse=True, domain=[0.4, 1], clamp=True)
        .legend(title="share of unigram", format=".0%")
    )
    return alt.layer(
        data.mark_rect().encode(color=colored),
        data.mark_text(fontSize=11).encode(
            text=alt.Text("nats:Q", format=".3f"),
            color=alt.condition("datum.share < 0.7", alt.value("white"), alt.value("black")),
        ),
    ).properties(width=alt.Step(84), height=alt.Step(30))


def beside(charts: Sequence[Drawing], columns: int = 3) -> alt.ConcatChart:
    """Small multiples, each with its own scales: nothing here invites to compare heights."""
    return alt.concat(*charts, columns=columns).resolve_scale(y="independent", x="independent")


def save(chart: alt.TopLevelMixin, path: Path) -> None:
    """path.svg and path.png"""
    spec = chart.to_dict() | {"background": "white"}
    path.with_name(f"{path.name}.svg").write_text(
        vl_convert.vegalite_to_svg(spec, vl_version=VERSION), encoding="utf-8"
    )
    path.with_name(f"{path.name}.png").write_bytes(vl_convert.vegalite_to_png(spec, vl_version=VERSION, scale=SCALE))


@cache
def script() -> str:
    """Vega, Vega-Lite and their embedding as one script that fetches nothing."""
    library = vl_convert.javascript_bundle(vl_version=VERSION)  # pyright: ignore[reportCallIssue]: its stub has no default
    return library.replace("</script", "<\\/script")
