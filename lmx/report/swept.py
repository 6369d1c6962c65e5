"""Charts of a sweep: score against one swept key, a heat map of two, lines through all axes where there are more."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from lmx.compare.points import numeric, seen
from lmx.report.charts import COLORS, HEIGHT, WIDTH, Drawing
from lmx.report.figures import Figure, file_name
from lmx.report.listings import label, plain

DECADES = 8.0  # from the least to the largest, from where on an axis is logarithmic
ONLY = "indexof(shown, datum.arm) >= 0"


def swept_figures(table: Mapping[str, Any]) -> list[Figure]:
    """One for each score that is tested; none where nothing was swept."""
    if "sweep" not in table:
        return []
    sweep, names = table["sweep"], [arm["name"] for arm in table["arms"]]
    draw = {1: line, 2: heat}.get(len(sweep["keys"]), parallel)
    found = []
    for row in [row for row in [*table["rows"], *sweep["own"]] if row["primary"]]:
        notes = [one["words"] for one in sweep["best"] if one["row"] == row["key"]]
        live, paper = (draw(row, sweep, names, static=static) for static in (False, True))
        title = f"{label(row)}, {row['unit']}"
        name, panels = file_name("sweep", row["key"]), [("", None, live)]
        found.append(Figure(name=name, part="sweep", title=title, notes=notes, panels=panels, paper=paper))
    return found


def points(row: Mapping[str, Any], sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line a point, with short names of the keys, which may have dots and slashes: k0, k1, …"""
    return [
        {
            "arm": cell["arm"], "mean": cell["mean"], "seeds": len(cell["values"]), **ends(cell),
            **{f"k{place}": sweep["points"][cell["arm"]][key] for place, key in enumerate(sweep["keys"])},
        }
        for cell in row["cells"]
        if cell and cell["arm"] in sweep["points"]
    ]  # fmt: skip


def ends(cell: Mapping[str, Any]) -> dict[str, float]:
    """Over seeds; of one seed the standard error over items."""
    error = cell["error"] or 0.0
    single = {"low": cell["mean"] - error, "high": cell["mean"] + error}
    return {"low": min(cell["values"]), "high": max(cell["values"])} if len(cell["values"]) > 1 else single


def line(row: Mapping[str, Any], sweep: Mapping[str, Any], names: Sequence[str], *, static: bool) -> Drawing:
    """The mean over seeds with the range of seeds around it, and the floor."""
    (key,) = sweep["keys"]
    tried = list(seen(sweep["points"], key))
    data = alt.Chart(alt.Data(values=points(row, sweep))).transform_filter(ONLY)
    x, y = along(key, tried), alt.Y("mean:Q").scale(zero=False).axis(title=row["unit"], tickCount=5)
    low, high = alt.Y("low:Q").scale(zero=False), alt.Y2("high:Q")
    tooltip = ["arm:N", *(alt.Tooltip(f"{name}:Q", format=".4f") for name in ("mean", "low", "high")), "seeds:Q"]
    color = COLORS[0]
    layers: list[alt.Chart] = []
    if numeric(tried):
        layers += [data.mark_area(opacity=0.2, color=color).encode(x=x, y=low, y2=high)]
        layers += [data.mark_line(strokeWidth=2, color=color).encode(x=x, y=y)]
    layers += [data.mark_rule(strokeWidth=2, color=color).encode(x=x, y=low, y2=high)]
    layers += [data.mark_point(size=55, filled=True, opacity=1, color=color).encode(x=x, y=y, tooltip=tooltip)]
    floors = {cell["floor"]: cell["floor_name"] for cell in row["cells"] if cell and cell["floor"] is not None}
    if len(floors) == 1:
        ((floor, name),) = floors.items()
        rule = alt.Chart(alt.Data(values=[{"y": floor, "name": f"{name} {floor:.3f}"}]))
        layers += [rule.mark_rule(strokeDash=[5, 4], color="#7d828a").encode(y="y:Q", tooltip="name:N")]
    return placed(alt.layer(*layers), names, label(row), static=static)


def along(key: str, tried: Sequence[Any], channel: type = alt.X, name: str = "k0") -> Any:
    """A numeric key as a scale, logarithmic where it reaches far; any other as names in the order of the sweep."""
    if not numeric(tried):
        return channel(f"{name}:N", sort=list(tried)).axis(title=key, labelAngle=0)
    far = min(tried) > 0 and max(tried) / min(tried) > DECADES
    scale = alt.Scale(type="log", nice=False, padding=12) if far else alt.Scale(zero=False, nice=False, padding=12)
    return channel(f"{name}:Q", scale=scale).axis(title=key, values=sorted(tried), labelOverlap=True, format="~g")


def heat(row: Mapping[str, Any], sweep: Mapping[str, Any], names: Sequence[str], *, static: bool) -> Drawing:
    """The first key down, the second across; what does not exist stays empty."""
    down, across = sweep["keys"]
    cells = points(row, sweep)
    for cell in cells:
        cell |= {name: plain(cell[name]) for name in ("k0", "k1")}
    order = [[plain(value) for value in ordered(sweep, key)] for key in (down, across)]
    middle = sorted(cell["mean"] for cell in cells)[len(cells) // 2] if cells else 0.0
    dark = f"datum.mean {'>' if row['better'] == 'higher' else '<'} {middle}"
    data = alt.Chart(alt.Data(values=cells)).transform_filter(ONLY)
    data = data.encode(
        x=alt.X("k1:N", sort=[*order[1], "–"]).axis(title=across, labelAngle=0),
        y=alt.Y("k0:N", sort=[*order[0], "–"]).axis(title=down),
    )
    scheme = alt.Scale(scheme="blues", reverse=row["better"] == "lower")
    tooltip = ["arm:N", *(alt.Tooltip(f"{name}:Q", format=".4f") for name in ("mean", "low", "high")), "seeds:Q"]
    chart = alt.layer(
        data.mark_rect().encode(color=alt.Color("mean:Q", scale=scheme).legend(title=row["unit"]), tooltip=tooltip),
        data.mark_text(fontSize=11).encode(
            text=alt.Text("mean:Q", format=".3f"), color=alt.condition(dark, alt.value("white"), alt.value("black"))
        ),
    )
    return placed(chart, names, label(row), static=static, height=30 * max(2, len(order[0])))


def ordered(sweep: Mapping[str, Any], key: str) -> list[Any]:
    tried = list(seen(sweep["points"], key))
    return sorted(tried) if numeric(tried) else tried


def parallel(row: Mapping[str, Any], sweep: Mapping[str, Any], names: Sequence[str], *, static: bool) -> Drawing:
    """A line a point through all keys, each from its least to its largest, and the score at the end, which colours it."""
    cells = points(row, sweep)
    keys = [*sweep["keys"], label(row)]
    scores = [cell["mean"] for cell in cells]
    spots = []
    for cell in cells:
        heights = [height(sweep["points"][cell["arm"]][key], ordered(sweep, key)) for key in sweep["keys"]]
        told = [plain(sweep["points"][cell["arm"]][key]) for key in sweep["keys"]]
        ends = zip(keys, [*heights, height(cell["mean"], sorted(scores))], [*told, f"{cell['mean']:.3f}"], strict=True)
        spots += [
            {"arm": cell["arm"], "mean": cell["mean"], "key": key, "at": at, "is": value} for key, at, value in ends
        ]
    data = alt.Chart(alt.Data(values=spots)).transform_filter(ONLY)
    data = data.encode(
        x=alt.X("key:N", sort=keys).axis(title=None, labelAngle=0),
        y=alt.Y("at:Q").scale(domain=[0, 1]).axis(None),
        color=alt.Color("mean:Q", scale=alt.Scale(scheme="viridis", reverse=row["better"] == "lower")).legend(
            title=row["unit"]
        ),
        tooltip=["arm:N", alt.Tooltip("mean:Q", format=".4f")],
    )
    chart = alt.layer(
        data.mark_line(strokeWidth=2, opacity=0.8).encode(detail="arm:N"),
        data.mark_text(dx=6, align="left", fontSize=10).encode(text="is:N"),
    )
    return placed(chart, names, label(row), static=static, width=2 * WIDTH)


def height(value: Any, tried: Sequence[Any]) -> float:
    """Where a value stands between the first and the last: by its amount if it is a number, else by its place."""
    if value is None or len(tried) < 2:
        return 0.5
    if numeric(tried):
        return (value - min(tried)) / ((max(tried) - min(tried)) or 1)
    return tried.index(value) / (len(tried) - 1)


def placed(
    chart: Drawing, names: Sequence[str], title: str, *, static: bool, width: int = WIDTH, height: int = HEIGHT
) -> Drawing:
    chart = chart.add_params(alt.param(name="shown", value=list(names)))
    if static:
        return chart.properties(width=width, height=height, title=title)
    return chart.properties(width="container", height=height)
