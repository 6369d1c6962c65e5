"""Imports go downward, the command line never loads torch, and nothing in lmx can run code that it reads."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmx

PACKAGE = Path(lmx.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# part -> the parts it may import, besides itself
PAPER = {
    "errors": [],
    "schema": ["errors"],
    "overrides": ["schema", "errors"],
    "config": ["overrides", "schema", "errors"],
    "build": ["schema", "errors"],
    "recipes": ["schema", "errors"],
    "compare": ["runs", "config", "errors"],
    "runs": ["config", "errors"],
    "launch": ["runs", "config", "errors"],
    "track": ["runs", "config", "errors"],
    "report": ["compare", "track", "runs", "errors"],
    "cli": ["recipes", "compare", "launch", "track", "report", "runs", "config", "build", "schema", "errors"],
}
TENSOR = {
    "batch": [],
    "data": ["batch", "errors"],
    "nn": ["batch", "errors"],
    "optim": ["errors"],
    "objectives": ["nn", "data", "batch", "errors"],
    "train": ["objectives", "nn", "optim", "data", "batch", "errors", "runs"],
    "evals": ["train", "objectives", "nn", "data", "batch", "errors"],
    "experiment": ["evals", "train", "objectives", "nn", "optim", "data", "batch", "build", "errors"],
    "trained": ["experiment", "evals", "train", "data", "build", "runs", "errors"],
    "evaluate": ["trained", "evals", "build", "runs", "errors"],
    "generate": ["trained", "evals", "objectives", "runs", "errors"],
    "example": ["experiment", "train", "objectives", "data", "batch", "build", "errors"],
    "preview": ["experiment", "train", "data", "batch", "build", "errors"],
    "ledger": ["experiment", "train", "data", "build", "errors"],
    "worker": ["experiment", "evals", "train", "build", "runs", "errors"],
}
LAYERS = PAPER | TENSOR
NEVER = {  # third-party packages that a part must not import
    **{name: {"torch"} for name in PAPER},
    **{name: {"typer", "hydra", "wandb", "rich"} for name in TENSOR},
    "data": {"torch", "typer", "hydra", "wandb", "rich"},
    "build": {"torch", "hydra", "typer"},
    "schema": {"torch", "hydra", "typer"},
    "launch": {"torch", "typer", "hydra"},
}
LATE = {  # they take a second, which most runs do not need, or are optional
    ("lmx.data.readers", "datasets"),
    ("lmx.launch.ray", "ray"),
    ("lmx.train.sharding", "torch.distributed.device_mesh"),
    ("lmx.train.sharding", "torch.distributed.fsdp"),
    ("lmx.train.sharding", "torch.distributed.tensor"),
    ("lmx.optim.muon", "torch.distributed.tensor"),
}


def part(module: str) -> str:
    """lmx.data.noise -> data"""
    return module.split(".")[1] if "." in module else ""


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (
                f"{node.module}.{alias.name}" if node.module == "lmx" else str(node.module) for alias in node.names
            )


def parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", [name for name in MODULES if part(name) not in ("", "__main__")])
def test_imports_go_downward(module):
    here = part(module)
    for name in imports(parse(module)):
        top = name.partition(".")[0]
        if top == "lmx":
            assert part(name) in {here, *LAYERS[here], "__version__"}, f"{module} imports {name}"
        else:
            assert top not in NEVER[here], f"{module} imports {name}"


def test_no_cycles():
    """Also within a part."""
    graph = {
        module: {name if name in MODULES else name.rpartition(".")[0] for name in imports(parse(module))} & set(MODULES)
        for module in MODULES
    }
    done: set[str] = set()
    while ready := {module for module in graph if module not in done and graph[module] - {module} <= done}:
        done |= ready
    assert set(graph) == done, f"cycle among {set(graph) - done}"


@pytest.mark.parametrize("module", [name for name in MODULES if part(name) != "cli"])
def test_imports_stand_at_the_top(module):
    tree = parse(module)
    inner = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) and node not in tree.body]
    late = {(module, name) for node in inner for name in imports(node)}
    assert late <= LATE, "function-level imports only in lmx/cli"
    assert "TYPE_CHECKING" not in MODULES[module].read_text(encoding="utf-8")


@pytest.mark.parametrize("module", MODULES)
def test_no_way_to_run_what_is_read(module):
    tree = parse(module)
    banned = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "runpy", "code"}
    assert not {name.partition(".")[0] for name in imports(tree)} & banned
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {
                "eval",
                "exec",
                "compile",
                "__import__",
                "os.system",
                "os.popen",
                "instantiate",
            }, called
            assert not called.endswith((".instantiate", "torch.load", "torch.save", "hydra.main", "yaml.load")), called
            assert not any(word.arg == "shell" for word in node.keywords), called
            pickled = [
                word for word in node.keywords if word.arg in ("allow_pickle", "weights_only", "trust_remote_code")
            ]
            safe = {"allow_pickle": False, "weights_only": True, "trust_remote_code": False}
            assert all(ast.unparse(word.value) == str(safe[str(word.arg)]) for word in pickled), called
            assert not called.endswith("np.load") or pickled, called
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert "hydra.main" not in {ast.unparse(item) for item in node.decorator_list}


def test_only_build_imports_by_name():
    """`importlib.import_module` takes a name from a config: in one place, behind the allow-list."""
    assert [name for name in MODULES if "import_module" in MODULES[name].read_text(encoding="utf-8")] == ["lmx.build"]


def test_paper_leg_without_torch():
    names = [name for name in MODULES if part(name) in PAPER and not name.endswith("__main__")]
    code = f"import importlib, sys; [importlib.import_module(name) for name in {names!r}]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


@pytest.mark.parametrize("folder", ["train", "nn", "optim", "evals"])
def test_no_objective_is_known_by_name(folder):
    """The trainer and the trunk serve every objective, so they know none."""
    objectives = {name.rpartition(".")[2] for name in MODULES if part(name) == "objectives"} - {
        "objectives",
        "objective",
    }
    for path in (PACKAGE / folder).rglob("*.py"):
        code = ast.parse(path.read_text(encoding="utf-8"))
        words = {
            str(getattr(node, name)).lower()
            for node in ast.walk(code)
            for name in ("id", "attr", "name")
            if hasattr(node, name)
        }
        assert not words & objectives, f"{path} knows {words & objectives}"
