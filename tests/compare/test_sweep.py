"""A sweep's table: values of each point, where the best lies, and what may not be said."""

import csv
import io

from lmx.compare.sweep import Sweep, swept
from lmx.report.listings import swept as listed
from lmx.report.swept import swept_figures
from lmx.report.tables import as_csv
from tests.compare.directories import arm, row, table

RATE = Sweep(["objective.rate"], {})
ROW = "minimal_pairs accuracy"


def made(tmp_path, scores, sweep=RATE, **changes):
    arms = [
        arm(tmp_path, f"mlm objective.rate={rate}", values, **changes) for rate, values in scores.items()
    ]  # fmt: skip
    return swept(table(*arms), arms, sweep)


def test_where_the_best_lies(tmp_path):
    """0.4 is as good as 0.3 as far as three seeds tell; 0.1 is clearly worse."""
    found = made(
        tmp_path, {0.1: [0.600, 0.601, 0.602], 0.3: [0.790, 0.800, 0.815], 0.4: [0.785, 0.805, 0.800], 0.6: [0.60, 0.61, 0.60]}
    )  # fmt: skip
    (best,) = found["sweep"]["best"]
    assert (best["row"], best["arm"], best["possible"], best["between"]) == (
        ROW, "mlm objective.rate=0.3", ["mlm objective.rate=0.4"], [0.3, 0.4],
    )  # fmt: skip
    said = next(sentence for sentence in found["words"] if sentence.startswith(ROW))
    assert said.endswith("The best objective.rate lies between 0.3 and 0.4 as far as this shows.")
    (tested,) = [one for one in found["rows"] if one["key"] == ROW]
    assert len(tested["contrasts"]) == 3, "those with the best alone"
    (of_all,) = [one["p_holm"] for one in tested["contrasts"] if one["against"].endswith("0.1")]
    assert of_all > 3 * next(one["p"] for one in tested["contrasts"] if one["against"].endswith("0.1")), "of six tests"


def test_at_the_edge_a_better_one_may_lie_beyond(tmp_path):
    found = made(tmp_path, {0.1: [0.70, 0.71], 0.2: [0.80, 0.79], 0.3: [0.90, 0.91]})
    assert "objective.rate=0.3 is the last that was tried, a better one may lie beyond" in " ".join(found["words"])


def test_one_seed_has_no_verdict(tmp_path):
    found = made(tmp_path, {0.1: [0.6], 0.3: [0.8]})
    assert f"{ROW}: highest at mlm objective.rate=0.3, 0.800; one seed, so no verdict." in found["words"]


def test_what_is_at_its_floor_is_no_best(tmp_path):
    found = made(tmp_path, {0.1: [0.50, 0.51], 0.3: [0.51, 0.50]})
    assert found["sweep"]["best"] == []


def test_other_tasks_have_no_common_loss(tmp_path):
    """A higher mask rate is a harder task: its loss says nothing. The same task at other learning rates is one."""
    assert made(tmp_path, {0.1: [0.6, 0.6], 0.3: [0.8, 0.8]})["sweep"]["own"] == []
    arms = [arm(tmp_path, f"clm optim.lr={rate}", [0.8, 0.8]) for rate in (0.01, 0.02)]
    found = swept(table(*arms), arms, Sweep(["optim.lr"], {}))
    assert [one["key"] for one in found["sweep"]["own"]] == ["validation loss"]


def test_points_that_cannot_be_have_failed(tmp_path):
    found = made(tmp_path, {0.1: [0.6], 0.3: [0.8]}, Sweep(["objective.rate"], {"mlm rate=2": "too much."}))
    assert found["failed"] == {"mlm rate=2": "too much."}
    assert found["words"][0] == "mlm rate=2 cannot be: too much."


def test_swept_values_are_columns(tmp_path):
    found = made(tmp_path, {0.1: [0.6, 0.61], 0.3: [0.8, 0.81]})
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [(line["objective.rate"], line["seed"], line["value"]) for line in lines] == [
        ("0.1", "0", "0.6"), ("0.1", "1", "0.61"), ("0.3", "0", "0.8"), ("0.3", "1", "0.81"),
    ]  # fmt: skip
    assert listed(found).head[:2] == ["objective.rate", "minimal_pairs accuracy (share)"]
    assert [line[0] for line in listed(found).rows] == ["0.1", "0.3"]


def test_charts(tmp_path):
    """A line with the floor for one key, a heat map for two, lines through all for three; each survives its own schema."""
    one = made(tmp_path, {0.1: [0.6, 0.61], 0.3: [0.8, 0.81]})
    (line,) = swept_figures(one)
    assert line.notes == [one["sweep"]["best"][0]["words"]]
    marks = [layer["mark"]["type"] for layer in line.paper.to_dict()["layer"]]
    assert marks == ["area", "line", "rule", "point", "rule"]
    arms = [
        arm(tmp_path, f"mlm objective.rate={rate} optim.lr={lr} model.depth={depth}", [0.8 + lr, 0.9])
        for rate in (0.1, 0.3) for lr in (0.01, 0.02) for depth in (2, 4)
    ]  # fmt: skip
    for keys, marks in (
        (["objective.rate", "optim.lr"], ["rect", "text"]),
        (["objective.rate", "optim.lr", "model.depth"], ["line", "text"]),
        (["objective"], ["rule", "point", "rule"]),
    ):
        (figure,) = swept_figures(swept(table(*arms), arms, Sweep(keys, {})))
        assert [layer["mark"]["type"] for layer in figure.paper.to_dict()["layer"]] == marks
        assert figure.panels[0][2].to_dict()["width"] == "container"


def test_rows_stay_as_a_comparison_has_them(tmp_path):
    arms = [arm(tmp_path, f"mlm objective.rate={rate}", [0.6, 0.7]) for rate in (0.1, 0.3)]
    plain = table(*arms)
    found = swept(table(*arms), arms, RATE)
    assert [one["cells"] for one in found["rows"]] == [one["cells"] for one in plain["rows"]]
    assert row()["value"] == 0.8
