"""The example objective of CONTRIBUTING.md does what its docstring shows."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from lmx.batch import IGNORE
from lmx.data.packing import Sample
from tests.conftest import trunk

GUIDE = Path(__file__).parents[1] / "CONTRIBUTING.md"


def test_the_example_is_right(tmp_path):
    code = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    file = tmp_path / "skip.py"
    file.write_text(code[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("skip", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    objective = module.Skip(length=3, model=trunk(), vocabulary=SimpleNamespace(size=16), ahead=2, z_loss=0.0)
    sample = Sample(tokens=np.arange(5, 10), segment=np.zeros(5, dtype=np.int64), documents=np.zeros(1, dtype=np.int64))
    rows = dict(re.findall(r"^    (tokens|targets) +([\d. ]+)$", module.__doc__, re.MULTILINE))
    shown = {name: [IGNORE if cell == "." else int(cell) for cell in row.split()] for name, row in rows.items()}
    posed = objective.pose(sample)
    assert {name: posed[name].tolist() for name in shown} == shown
    assert set(shown) == {"tokens", "targets"}
