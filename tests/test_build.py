"""Only classes that lmx defines are built, and a hostile config has no effect at all."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lmx import build as building
from lmx.build import build
from lmx.errors import LmxError
from lmx.optim.schedule import WSD
from lmx.train.budget import Budget

SCHEDULE = {"_target_": "lmx.optim.schedule.WSD", "warmup": 0.1, "decay": 0.2}
BUDGET = {
    "_target_": "lmx.train.budget.Budget",
    "tokens": None,
    "flops": None,
    "targets": None,
    "seconds": None,
    "steps": 3,
}
TARGETS = [
    "os.system", "posix.system", "subprocess.Popen", "subprocess.run", "builtins.eval", "builtins.exec", "builtins.open",
    "builtins.__import__", "torch.load", "torch.hub.load", "torch.ops.load_library", "torch.utils.cpp_extension.load",
    "torch.nn.Linear", "numpy.load", "pandas.read_pickle", "pickle.loads", "joblib.load", "runpy.run_path", "pathlib.Path",
    "importlib.import_module", "hydra.utils.instantiate", "hydra.utils.get_method", "shutil.rmtree", "ctypes.CDLL",
    "lmx.something.os.system", "lmx.worker.os.system", "lmx.worker.sys.exit", "lmx.train.budget.dataclass", "lmx",
    "lmx.os.Popen", "lmx.errors.subprocess.Popen", "lmx.train.trainer.Budget", "lmx.train.trainer.Tensor", "lmx.worker.Run",
    "lmx.train.trainer.Callable", "lmx.preview.Path", "lmx.preview.main", "lmx.worker.main", "lmx.batch.torch.load",
    "lmx.train.budget.Budget.freeze", "lmx.train.budget.Budget.__init__", "lmx..Budget", ".Budget", "lmx/../os.system", "",
    "LMX.train.budget.Budget", " lmx.train.budget.Budget", "lmx.train.budget.Budget ", "lmx.train.budget.Budget\n", "evil.Evil",
    "Lmx.evil.Evil", "lmxevil.Evil", "lmx.train.budget.", "antigravity.X", "this.X", "sitecustomize.X",
]  # fmt: skip


def test_builds_children_first_and_hands_over():
    made = build({"a": [SCHEDULE], "b": {"c": BUDGET}})
    assert isinstance(made["a"][0], WSD)
    assert made["a"][0].decay == 0.2
    assert isinstance(made["b"]["c"], Budget)
    assert made["b"]["c"].steps == 3
    assert isinstance(build(OmegaConf.create(SCHEDULE)), WSD)
    assert build(SCHEDULE | {"decay": 0.3}, decay=0.9, other=object()).decay == 0.3, (
        "what the config says is not replaced"
    )
    assert build({key: value for key, value in SCHEDULE.items() if key != "decay"}, decay=0.9).decay == 0.9


def test_the_caller_s_node_is_not_touched():
    node = {"_target_": SCHEDULE["_target_"], "warmup": 0.1}
    build(node, decay=0.5)
    assert node == {"_target_": SCHEDULE["_target_"], "warmup": 0.1}


def test_rules_and_constructor_errors_are_one_line():
    with pytest.raises(LmxError, match=r"optim.schedule.warmup \+ optim.schedule.decay must be at most 1, got"):
        build(SCHEDULE | {"decay": 0.95})
    with pytest.raises(LmxError, match="budget must have exactly one key"):
        build(BUDGET | {"seconds": 3})


def test_config_of_another_version():
    with pytest.raises(LmxError, match="WSD must be given 'decay', which the config lacks"):
        build({"_target_": SCHEDULE["_target_"], "warmup": 0.1})
    with pytest.raises(LmxError, match="WSD must not be given 'cooldown': it takes warmup, decay"):
        build(SCHEDULE | {"cooldown": 0.1})


@pytest.fixture
def no_effects(tmp_path, monkeypatch):
    """Fails the test when anything is imported from outside of lmx, opened for writing, started or connected to."""
    (tmp_path / "evil.py").write_text("open('canary', 'w')\nclass Evil: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)
    effects = []
    watching = [True]

    def hook(event: str, arguments: tuple) -> None:
        write = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if watching[0] and (
            write or event.startswith(("subprocess", "os.system", "os.exec", "socket", "shutil", "ctypes"))
        ):
            effects.append((event, arguments))

    sys.addaudithook(hook)  # cannot be removed, only silenced
    yield
    watching[0] = False
    assert not effects
    assert not (tmp_path / "canary").exists()
    assert not [
        name for name in set(sys.modules) - modules if name.partition(".")[0] in ("evil", "this", "antigravity")
    ]


def hostile(target: str) -> list[object]:
    """The same node in every place where one can stand."""
    node = {
        "_target_": target,
        "command": "touch canary",
        "args": ["touch canary"],
        "path": "canary",
        "mode": "w",
    }
    return [
        node,
        SCHEDULE | {"decay": node},
        SCHEDULE | {"decay": [[node]]},
        {"a": [1, {"b": node}]},
        OmegaConf.create({"x": node}),
        {"_target_": target},
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_target(no_effects, target):
    for node in hostile(target):
        with pytest.raises(LmxError):
            build(node)


@pytest.mark.parametrize(
    "extra",
    [
        {"_args_": ["touch canary"]},
        {"_partial_": True},
        {"_recursive_": False},
        {"_convert_": "all"},
        {"__class__": "x"},
        {"_target": "os.system"},
        {"_Target_": "os.system"},
        {1: 2},
        {"decay": {"_partial_": True, "x": 1}},
        {"decay": [{"_args_": [1]}]},
        {"decay": "${oc.env:HOME}"},
        {"_target_": ["lmx.optim.schedule.WSD"]},
        {"_target_": {"_target_": "os.system"}},
        {"_target_": None},
        {"_target_": 3},
    ],
)
def test_special_keys(no_effects, extra):
    with pytest.raises(LmxError):
        build(SCHEDULE | extra)


def test_a_bad_node_is_found_before_a_good_one_is_built(no_effects, monkeypatch):
    monkeypatch.setattr(WSD, "__init__", lambda self, **values: pytest.fail("built"))
    with pytest.raises(LmxError):
        build({"a": SCHEDULE, "b": {"_target_": "os.system"}})


def test_environment_stays_outside(monkeypatch):
    monkeypatch.setenv("LMX_CANARY", "canary-value")
    with pytest.raises(LmxError) as caught:
        build(OmegaConf.create(SCHEDULE | {"decay": "${oc.env:LMX_CANARY}"}))
    assert "canary-value" not in str(caught.value)


def test_too_deep():
    node: dict = {}
    for _ in range(2000):
        node = {"a": node}
    with pytest.raises(LmxError, match="must not be deeper"):
        build(node)


@given(st.from_regex(r"(lmx\.)?[a-z._]{0,12}\.[A-Za-z._]{0,12}", fullmatch=True))
def test_fuzzed_targets(target):
    with pytest.raises(LmxError):
        build({"_target_": target, "x": 1})


def test_nothing_of_another_package_is_allowed_yet():
    assert building.ALLOWED == ()


def test_no_torch_and_no_hydra():
    code = "import sys, lmx.build; assert not {'torch', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(building.__file__).parents[1])
