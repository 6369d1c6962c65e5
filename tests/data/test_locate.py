"""What is not there is said before a run exists: one line, exit code 3, without the machinery of training."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["data=text", "data.path=nowhere.txt"],
            "data.path must be a file, folder or glob that exists, got nowhere.txt",
        ),
        (["data=hub", "data.name=nobody/nothing"], "the Hugging Face hub cannot be reached from here"),
        (["data=jsonl", "data.path=empty"], "holds no"),
    ],
)
def test_before_a_run_exists(tmp_path, arguments, said):
    (tmp_path / "empty").mkdir()
    code = (
        "import sys; from lmx.cli import main; sys.argv = ['lmx', 'train', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: assert not {'torch', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
