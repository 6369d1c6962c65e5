"""The commands as a user types them, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lmx
from lmx import cli
from lmx.errors import DataError, LmxError

HERE = Path(lmx.__file__).parents[1]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lmx", *arguments]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False, **options)


def imported_by(arguments: list[str]) -> set[str]:
    """The top-level modules that a command has loaded when it ends."""
    code = f"""
import sys
from lmx import cli
sys.argv = ["lmx", *{arguments!r}]
try:
    cli.main()
except SystemExit:
    pass
print("\\n" + " ".join({{name.partition(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_is_light():
    assert not imported_by(["--help"]) & {
        "torch",
        "hydra",
        "omegaconf",
        "rich",
        "wandb",
        "datasets",
        "numpy",
        "scipy",
        "yaml",
    }


@pytest.mark.parametrize(
    "arguments", [["config"], ["config", "objective=mlm", "--json"], ["config", "x=1"], ["list", "objective"]]
)
def test_no_torch(arguments):
    assert not imported_by(arguments) & {"torch", "wandb", "datasets", "numpy", "scipy"}


def test_mistake_is_one_line_with_exit_code_2():
    done = run("config", "objective=mlm", "objective.rate=1.5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lmx: objective.rate must lie in (0, 1), got 1.5.\n"


def test_config_as_yaml_and_json():
    as_json = json.loads(run("config", "objective=mlm", "--json", "seed=3").stdout)
    assert (as_json["seed"], as_json["objective"]["_target_"]) == (3, "lmx.objectives.mlm.MLM")
    assert "objective:\n  _target_: lmx.objectives.mlm.MLM\n" in run("config", "objective=mlm").stdout


def test_list():
    assert [row.split()[0] for row in run("list").stdout.splitlines()][:3] == ["group", "data", "eval"]
    rows = run("list", "objective").stdout.splitlines()
    assert [row.split(maxsplit=2) for row in rows if row.startswith("clm")] == [
        ["clm", "default", "Causal LM (Radford et al. 2018): predict each token from the ones before it."]
    ]
    told = json.loads(run("list", "objective", "--json").stdout)
    assert (told["group"], told["default"]) == ("objective", "clm")
    assert {item["group"] for item in json.loads(run("list", "--json").stdout)} > {
        "objective",
        "optim/schedule",
    }
    assert run("list", "objectives").stdout == run("list", "objective").stdout
    assert run("list", "objectivs").stderr.endswith("got 'objectivs'. Did you mean 'objective'?\n")


def test_usage():
    assert run("--version").stdout == f"lmx {lmx.__version__}\n"
    assert run().stdout == run("--help").stdout
    for mistake, told in {
        ("confg",): "No such command 'confg'. Did you mean 'config'? Type",
        ("config", "--jsn"): "No such option: --jsn",
        ("compare", "clm", "mlm", "seeds=0"): "seeds must be a whole number from 1 to 1000, got 0.",
        ("sweep", "--sampler", "rnd"): "'rnd' is not one of 'grid', 'random', 'tpe'. Type",
    }.items():
        done = run(*mistake)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert told in done.stderr


def test_hostile_working_directory(tmp_path):
    """The installed script does not import from where it is called."""
    for name in ("torch", "typer", "yaml", "hydra", "omegaconf", "conf", "lmx", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    script = tmp_path / "bin" / "lmx"
    script.parent.mkdir()
    script.write_text("from lmx.cli import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, script, "config", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["seed"] == 0
    assert not (tmp_path / "canary").exists()


def test_reader_that_goes_away():
    command = f"{sys.executable} -m lmx config | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=HERE, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("model:")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (LmxError("a\nb [red]c[/red]"), 2, "lmx: a b [red]c[/red]\n"),
        (DataError("x"), 3, "lmx: x\n"),
        (RuntimeError("a bug"), 70, "RuntimeError: a bug\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code, said):
    def fail(*_) -> None:
        raise error

    monkeypatch.setattr("lmx.schema.choices.groups", fail)
    monkeypatch.setattr(sys, "argv", ["lmx", "list"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    assert capsys.readouterr().err.endswith(said)
