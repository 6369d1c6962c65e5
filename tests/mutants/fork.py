"""Forks a process for each change of lmx, and runs tests there: `python -m tests.mutants.fork [AT_ONCE]`.

A line of JSON on stdin is one job: "name", "tests", and, unless lmx is to be as it is, "module" and its changed "source". A
line on stdout, as each ends, adds "fate", "by" (the tests that failed), "seconds" and, for an error, what was said.

    killed      a test failed
    import      the changed module cannot be imported
    survived    all tests passed
    error       anything else: no such test, a crash of pytest

Importing torch and pytest takes longer than most tests, so that is done once; lmx is imported only after the fork. One thread
and no parallel work before it: OpenMP does not survive a fork.
"""

import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import sys
import tempfile
import time

import hypothesis
import pytest
import torch

# What tests and lmx import of others: once, before the forks.
OTHERS = (
    "hydra", "numpy", "omegaconf", "rich.console", "scipy.stats", "tokenizers", "torch._dynamo", "torch.utils.checkpoint",
    "torch.nn.attention.flex_attention", "torch.utils.flop_counter", "transformers", "yaml",
)  # fmt: skip

AT_ONCE = 2
CPU_SECONDS = 300  # of a child; pytest-timeout comes first, and ends the process, unless it is C that does not end
TEST_SECONDS = 60
MEMORY = 8 * 2**30
WANTED, UNWANTED = (
    ("pytest_timeout", "_hypothesis_pytestplugin"),
    ("cacheprovider", "unraisableexception", "threadexception"),
)
PLUGINS = [
    part for name in (*WANTED, *(f"no:{name}" for name in UNWANTED)) for part in ("-p", name)
]  # half of the time is theirs


class Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds one module, with other source than its file has."""

    def __init__(self, module: str, source: str):
        spec = importlib.machinery.PathFinder.find_spec(module, parents(module))
        assert spec is not None, module
        assert spec.origin is not None, module
        super().__init__(module, spec.origin)
        self.source = source

    def find_spec(self, fullname, path, target=None):
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def get_code(self, fullname):
        return compile(self.source, self.path, "exec", dont_inherit=True)


def parents(module: str) -> list[str]:
    """Where to look for a module, without importing what it is in."""
    return [os.path.join(os.getcwd(), *module.split(".")[:-1])]


class Watch:
    """Which tests failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append(f"collecting {report.nodeid}")


def run(job: dict) -> dict:
    """What became of the job; in the child."""
    if "module" in job:
        sys.meta_path.insert(0, Changed(job["module"], job["source"]))
        try:
            importlib.import_module(job["module"])
        except Exception as error:
            return {"fate": "import", "by": [f"{type(error).__name__}: {error}"[:200]]}
    watch = Watch()
    options = [*PLUGINS, "-q", "--tb=short", f"--timeout={TEST_SECONDS}", "--timeout-method=thread"]
    options += ["-x"] if "module" in job else []
    code = pytest.main([*options, *job["tests"]], plugins=[watch])
    fate = "killed" if watch.failed else "survived" if code == 0 else "error"
    return {"fate": fate, "by": watch.failed}


def child(job: dict, answer: int) -> None:
    """Never returns."""
    said = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115
    os.dup2(said.fileno(), 1), os.dup2(said.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS * (1 if "module" in job else 10),) * 2)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    try:
        found = run(job)
    except BaseException as error:
        found = {"fate": "error", "by": [repr(error)]}
    sys.stdout.flush()
    if found["fate"] == "error" or "module" not in job:
        said.seek(0)
        found["said"] = said.read()[-3000:]
    os.write(answer, json.dumps(found).encode())
    os._exit(0)


def main() -> None:
    torch.set_num_threads(1)
    for module in OTHERS:
        importlib.import_module(module)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)  # may be of plugins that are off here
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )  # fmt: skip
    hypothesis.settings.load_profile("mutants")
    gc.freeze()
    most = int(sys.argv[1]) if len(sys.argv) > 1 else AT_ONCE
    jobs = [json.loads(line) for line in sys.stdin]
    running: dict[int, tuple[dict, int, float]] = {}
    while jobs or running:
        while jobs and len(running) < most:
            job, (reading, writing) = jobs.pop(0), os.pipe()
            pid = os.fork()
            if pid == 0:
                child(job, writing)
            os.close(writing)
            running[pid] = (job, reading, time.monotonic())
        pid, _ = os.wait()
        job, reading, start = running.pop(pid)
        with open(reading, "rb") as file:
            text = file.read()
        found = json.loads(text) if text else {"fate": "killed", "by": ["no answer in time"]}
        print(json.dumps({"name": job["name"], **found, "seconds": round(time.monotonic() - start, 2)}), flush=True)


if __name__ == "__main__":
    main()
