"""Every bug of seeded.yaml is noticed, by the test that is named there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Bug:
    name: str
    path: str
    old: str
    new: str
    test: str

    @property
    def text(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")

    def job(self) -> dict:
        module = self.path.removesuffix(".py").replace("/", ".")
        return {
            "name": self.name,
            "tests": [self.test],
            "module": module,
            "source": self.text.replace(self.old, self.new),
        }


def bugs() -> Iterator[Bug]:
    groups = yaml.safe_load(Path(__file__).with_name("seeded.yaml").read_text(encoding="utf-8"))
    for group, listed in groups["bugs"].items():
        for one in listed:
            yield Bug(name=f"{group}: {one['bug']}", path=one["in"], old=one["old"], new=one["new"], test=one["by"])


BUGS = list(bugs())


@pytest.fixture(scope="module")
def fates(request) -> dict[str, dict]:
    """What became of the bugs that are asked for, by name, and of lmx as it is."""
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.module is request.module]
    wanted = [call.params["bug"] for call in calls if call]
    files: dict[str, set[str]] = {}
    for bug in wanted:
        files.setdefault(bug.test.partition("::")[0], set()).add(bug.test)
    whole = [{"name": file, "tests": sorted(tests)} for file, tests in files.items()]
    jobs = "".join(json.dumps(job) + "\n" for job in [*whole, *(bug.job() for bug in wanted)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants.fork"], input=jobs, capture_output=True, text=True, cwd=ROOT, check=True
    )
    found = {fate["name"]: fate for fate in map(json.loads, done.stdout.splitlines())}
    for job in whole:
        assert found[job["name"]]["fate"] == "survived", f"without a bug: {found[job['name']]}"
    return found


def test_names_differ_and_texts_are_there():
    """Once each, so that an entry is never stale and never changes two places."""
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert [(bug.name, bug.text.count(bug.old)) for bug in BUGS if bug.text.count(bug.old) != 1] == []
    assert [bug.name for bug in BUGS if bug.old == bug.new] == []


@pytest.mark.timeout(1200)  # the first one waits for all
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_noticed(bug, fates):
    fate = fates[bug.name]
    assert fate["fate"] == "killed", f"{bug.test} does not notice: {fate}"
    assert all(name.startswith(bug.test.partition("[")[0]) for name in fate["by"]), fate
