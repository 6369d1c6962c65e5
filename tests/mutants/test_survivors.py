"""The mutants that survivors.md explains are still mutants of lmx."""

from tests.mutants.machine import ROOT, explained


def test_what_is_explained_is_there():
    """A line that has changed since needs another look: does a test notice the mutant now?"""
    found = sorted(explained())
    assert found
    for path, *diff in map(str.splitlines, found):
        source = (ROOT / path).read_text(encoding="utf-8")
        before = "\n".join(line[1:] for line in diff if line.startswith("-"))
        assert before + "\n" in source, f"{path}: {before}"
        assert any(line.startswith("+") for line in diff)
