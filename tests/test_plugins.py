"""An objective in a package of its own is two files there; what a run directory names is never a reason to import it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmx import config
from lmx.build import build
from lmx.compare.arms import identity
from lmx.errors import LmxError
from lmx.runs import Run, find
from lmx.schema import plugins
from lmx.schema.constructors import Constructors

GUIDE = Path(__file__).parents[1] / "CONTRIBUTING.md"
COMMAND = "import sys; sys.argv[0] = 'lmx'; from lmx.cli import main; main()"
TINY = [
    "model=nano",
    "tokenizer=bytes",
    "trainer.compile=false",
    "trainer.batch_tokens=512",
    "eval.tokens=1024",
    "track=none",
]
YAML = "# Skip LM: predict the token a few places on.\n_target_: {}.skip.Skip\nahead: 2 # places\nz_loss: 0.0\n"


def package(folder: Path, name: str, code: str | None = None) -> Path:
    """The example of CONTRIBUTING as a package: two files. It leaves a trace where it is imported."""
    example = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert example
    objectives = folder / name / "conf" / "objective"
    objectives.mkdir(parents=True)
    (objectives / "skip.yaml").write_text(YAML.format(name), encoding="utf-8")
    trace = "\n\nfrom pathlib import Path\n\n(Path(__file__).parent / 'imported').touch()\n"
    (folder / name / "skip.py").write_text((code or example[1]) + trace, encoding="utf-8")
    return folder / name


def lmx(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != plugins.VARIABLE}
    environment |= {"PYTHONPATH": f"{folder}:{GUIDE.parent}", "LMX_RUNS": str(folder / "runs"), **more}
    return subprocess.run(
        [sys.executable, "-P", "-c", COMMAND, *arguments], env=environment, cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


def one_line(told: subprocess.CompletedProcess[str], words: str) -> None:
    assert told.returncode == 2, told.stderr
    assert told.stderr.startswith("lmx: ")
    assert told.stderr.count("\n") == 1
    assert words in told.stderr


def test_listed_checked_and_shown(tmp_path):
    mine = package(tmp_path, "mine")
    assert "skip" not in lmx(tmp_path, "list", "objective").stdout
    told = json.loads(lmx(tmp_path, "list", "objective", "--plugin", "mine", "--json").stdout)
    assert told["choices"]["skip"] == "Skip LM: predict the token a few places on."
    wrong = lmx(tmp_path, "config", "--plugin", "mine", "objective=skip", "objective.ahead=0")
    one_line(wrong, "objective.ahead must be at least 1, got 0.")
    assert not (mine / "imported").exists(), "types and ranges are read, not run"
    text = ["--text", "one two three four five six", "--json"]
    shown = json.loads(lmx(tmp_path, "show", "skip", "--plugin", "mine", *text).stdout)
    (row,) = shown["rows"]
    asked = [token["asked"] for token in row["tokens"]]
    assert (shown["class"], asked) == ("Skip", [True] * 5 + [False] * 2)


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("lmx config --plugin mine objective=sk", {"objective=skip"}),
        ("lmx config --plugin mine objective=skip objective.ah", {"objective.ahead="}),
        ("lmx config objective=sk", set()),
        ("lmx config --plugin nothing objective=sk", set()),
    ],
)
def test_completed(tmp_path, line, some):
    mine = package(tmp_path, "mine")
    asking = {"_LMX_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": line}
    told = lmx(tmp_path, **asking)
    assert {row.partition("\t")[0] for row in told.stdout.splitlines() if row} == some
    assert not (mine / "imported").exists()


def test_trained_resumed_and_evaluated(tmp_path):
    """The worker and the evaluation know the plug-in; without it nothing starts, and the run stays what it was."""
    package(tmp_path, "mine")
    settings = [*TINY, "objective=skip", "budget.steps=4", "trainer.checkpoint_every=2", "trainer.log_every=1"]
    trained = lmx(tmp_path, "train", "--plugin", "mine", *settings)
    assert trained.returncode == 0, trained.stderr
    (run,) = find(tmp_path / "runs")
    assert list(run.config()["plugins"]) == ["mine"]
    shutil.rmtree(run.path / "checkpoints" / "step-00000004")
    run.set_status(state="preempted")
    one_line(lmx(tmp_path, "train", "--resume", run.name), "--plugin must name mine, which this run was made with.")
    assert run.status()["state"] == "preempted"
    resumed = lmx(tmp_path, "train", "--plugin", "mine", "--resume", run.name)
    assert resumed.returncode == 0, resumed.stderr
    assert run.status()["state"] == "done"
    assert [line["step"] for line in run.lines("metrics.jsonl")] == [1, 2, 3, 4]
    missing = lmx(tmp_path, "evaluate", run.name, "induction")
    one_line(
        missing, "_target_ must be a class defined in lmx, got 'mine.skip.Skip'. If you trust the package mine, add"
    )
    assert lmx(tmp_path, "evaluate", run.name, "induction", "--plugin", "mine").returncode == 0


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_directory_imports_nothing(tmp_path, recorded):
    """Also where the directory hides that it needs a package."""
    evil = package(tmp_path, "evil")
    told = json.loads(lmx(tmp_path, "config", "--plugin", "evil", *TINY, "objective=skip", "--json").stdout)
    run = Run.create(told | ({} if recorded else {"plugins": {}}), [], tmp_path / "runs")
    for command in (
        ["train", "--resume", run.name],
        ["generate", run.name, "--prompt", "a"],
        ["evaluate", run.name, "induction"],
    ):
        done = lmx(tmp_path, *command)
        assert done.returncode in (2, 4), done.stderr  # 4: there is no checkpoint, which is seen first
        assert done.stderr.count("Traceback") == 0
    assert not (evil / "imported").exists()
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "--plugin must be a package that Python finds, got nothing. Install it"),
        ("json", "--plugin must be a package with a folder conf, got json"),
        ("os.path", "--plugin must be the name of a package"),
        ("../evil", "--plugin must be the name of a package"),
        ("lmx", "--plugin must be the name of a package"),
    ],
)
def test_what_is_no_plugin(tmp_path, name, words):
    one_line(lmx(tmp_path, "list", "--plugin", name), words)


@pytest.fixture
def named(tmp_path, monkeypatch):
    """named("ours") makes the package and lets this process use it."""

    def make(name: str, code: str | None = None) -> Path:
        monkeypatch.setenv(plugins.VARIABLE, name)
        return package(tmp_path, name, code)

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    plugins.folder.cache_clear()


def test_a_name_that_is_taken(named):
    folder = named("taken")
    (folder / "conf" / "objective" / "clm.yaml").write_text(YAML.format("taken"), encoding="utf-8")
    with pytest.raises(LmxError, match=r"taken/conf/objective/clm.yaml must have a name of its own"):
        config.load()


def test_imports_within_the_package(named):
    """Ranges and ancestors in other files, by relative and absolute imports, also of a package's own __init__."""
    folder = named(
        "within",
        "from ._ranges import Few\nfrom within import Base\nclass Skip(Base):\n    def __init__(self, *, ahead: Few): ...",
    )
    (folder / "_ranges.py").write_text(
        "from typing import Annotated\nfrom annotated_types import Le\nFew = Annotated[int, Le(3)]"
    )
    (folder / "__init__.py").write_text("from lmx.objectives.objective import Objective\nclass Base(Objective): ...")
    constructors = Constructors()
    form = constructors.target("within.skip.Skip").knobs["ahead"].form
    assert form.__metadata__[0].le == 3
    assert constructors.descends("within.skip.Skip", "lmx.objectives.objective.Objective")


def test_what_is_not_python(named):
    named("unfinished", "class Skip(")
    with pytest.raises(LmxError, match=r"unfinished/skip.py must be Python, got"):
        config.load(["objective=skip"])


def test_other_code_is_another_run(named):
    """A comparison does not take a run of last week's code for one of today's."""
    folder = named("changing")
    first = config.plain(["objective=skip"])
    with (folder / "skip.py").open("a") as file:
        file.write("# changed\n")
    second = config.plain(["objective=skip"])
    assert identity(first) != identity(second)
    assert identity(config.plain()) == identity(
        {key: value for key, value in config.plain().items() if key != "plugins"}
    )


def test_only_what_is_named_is_built(named, monkeypatch):
    folder = named(
        "built",
        "class Skip:\n    def __init__(self, *, ahead): self.ahead = ahead\nimport collections\nCounter = collections.Counter",
    )
    monkeypatch.delenv(plugins.VARIABLE)
    with pytest.raises(LmxError, match="If you trust the package built, add --plugin built"):
        build({"_target_": "built.skip.Skip", "ahead": 1})
    assert not (folder / "imported").exists()
    monkeypatch.setenv(plugins.VARIABLE, "built")
    assert build({"_target_": "built.skip.Skip", "ahead": 1}).ahead == 1
    with pytest.raises(LmxError, match="must be a class defined in lmx or built"):
        build({"_target_": "built.skip.Counter"})
