"""What a shell is told when somebody presses TAB, through the shells' own protocols."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lmx
from lmx.schema.choices import choices

HERE = Path(lmx.__file__).parents[1]
SHELL = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "PYTHONPATH": str(HERE)}
OBJECTIVES = set(choices("objective"))


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Path:
    """`lmx` as pip installs it."""
    path = tmp_path_factory.mktemp("bin") / "lmx"
    path.write_text(f"#!{sys.executable}\nfrom lmx.cli import main\nmain()\n")
    path.chmod(0o755)
    return path


def split_like_bash(line: str) -> list[str]:
    """bash ends words at blanks and makes `=` a word of its own."""
    return [word for part in line.split(" ") for word in re.findall(r"=|[^=]+", part) or [""]]


def bash(command: Path, line: str) -> list[str]:
    environment = os.environ | SHELL | {"PATH": f"{command.parent}:{os.environ['PATH']}"}
    script = subprocess.run(
        [command, "--show-completion", "bash"], env=environment, capture_output=True, text=True, check=True
    )
    words = " ".join(f"'{word}'" for word in split_like_bash(f"lmx {line}"))
    ask = f"""{script.stdout}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_lmx_completion lmx
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("con", {"config"}),
        ("list optim", {"optim", "optim/schedule"}),
        ("config obj", {"objective=", "objective.z_loss="}),
        ("config objective=mlm_", {"mlm_uniform"}),
        ("config objective=mlm objective.rat", {"objective.rate="}),
        ("config objective=mlm objective.wr", {"objective.wrap=true", "objective.wrap=false"}),
        ("config objective=mlm objective.select=f", {"fixed_round", "fixed_prob_round"}),
        ("config optim/schedule=co", {"cosine"}),
        ("config trainer.precision=", {"auto", "fp32", "bf16"}),
        ("config seed=1,2 wrong=3 objective=", OBJECTIVES),
    ],
)
def test_bash(command, line, some):
    found = bash(command, line)
    assert set(found) >= some
    assert some == OBJECTIVES or line.endswith("=") or len(found) == len(some)


@pytest.mark.parametrize(
    "line",
    ["config zzz", "config =", "config a=b=c", "config objective.rate=", "config +", "config [", "x y"],
)
def test_nothing_to_say(command, line):
    bash(command, line)


def test_keys_of_the_chosen_composition(command):
    assert bash(command, "config objective=clm objective.sel") == []
    found = bash(command, "config objective=mlm objective.sel")
    assert {word.partition("=")[0] for word in found} == {"objective.select"}
    assert "objective.select=whole_word" in found


@pytest.mark.parametrize(("shell", "separator"), [("zsh", '"'), ("fish", "\n")])
def test_shells_that_keep_words_whole(command, shell, separator):
    environment = os.environ | SHELL | {"_LMX_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    for line, some in {
        "objective=m": {"objective=mlm", "objective=modernbert"},
        "objective=mlm objective.sel": {"objective.select=ngram"},
        "trainer.compile=": {"trainer.compile=auto"},
    }.items():
        typed = environment | {"_TYPER_COMPLETE_ARGS": f"lmx config {line}"}
        done = subprocess.run([command], env=typed, capture_output=True, text=True, check=True)
        assert {part.partition("\t")[0] for part in done.stdout.split(separator)} >= some
        assert done.stderr == ""
