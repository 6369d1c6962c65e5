"""kill -9 at random moments of a run: what is resumed ends as if it had never been interrupted, bit for bit.

LMX_KILLS=200 kills so many times; otherwise a few.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

from lmx.runs import Run
from tests.faults import tiny
from tests.faults.tiny import Server, left
from tests.faults.worker_server import BUGS

KILLS = int(os.environ.get("LMX_KILLS", "8"))
KINDS = list(
    product(["clm", "mlm"], ["fp32", "bf16"], [8, 2], ["muon", "adamw"])
)  # 8 sequences a step: 1 or 4 micro-batches
FEW = [KINDS[number] for number in (0, 7, 10, 13)]  # every value of every knob twice


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    tiny.corpus(path / "text")
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with tiny.serving(folder) as started:
        yield started


def new(folder: Path, kind: tuple) -> Run:
    objective, precision, micro, optimizer = kind
    settings = f"objective={objective} trainer.precision={precision} trainer.micro_batch={micro} optim={optimizer}"
    return tiny.new(folder, *settings.split())


def straight(server: Server, folder: Path, kind: tuple) -> tuple[Run, float]:
    """A run that nobody disturbs; -> it, and the seconds it took."""
    run, begin = new(folder, kind), time.monotonic()
    assert server.work(run) == 0, (run.path / "log.txt").read_text()
    return run, time.monotonic() - begin


def disturbed(server: Server, run: Run, moments: list[float]) -> int:
    """Kill a run at each of these times after it begins or goes on, then let it end; -> how many kills hit it."""
    hits = 0
    for moment in moments:
        pid = server.start(run)
        time.sleep(moment)
        with suppress(ProcessLookupError):  # what goes on from late in a run is done early
            os.kill(pid, signal.SIGKILL)
        hits += server.wait() == -signal.SIGKILL
    assert server.work(run) == 0, (run.path / "log.txt").read_text()
    return hits


def test_killed_runs_end_as_if_they_had_not_been(server, folder):
    seed = int(os.environ.get("LMX_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"LMX_SEED={seed}")
    numbers = random.Random(seed)
    kinds = FEW if KILLS <= 8 else KINDS
    straight(server, folder, kinds[0])  # makes the cache, so that no time is measured with it
    kills = trials = 0
    wrong: list[str] = []
    expected: dict[tuple, tuple[dict, float]] = {}
    while kills < KILLS:
        kind = kinds[trials % len(kinds)]
        if kind not in expected:
            run, seconds = straight(server, folder, kind)
            expected[kind] = left(run), seconds
        reference, seconds = expected[kind]
        run, most = new(folder, kind), min(3, KILLS - kills)
        moments = [numbers.uniform(0, seconds) for _ in range(numbers.randint(1, most))]
        kills += disturbed(server, run, moments)
        trials += 1
        if different := tiny.differences(reference, left(run)):
            wrong.append(f"{kind} killed after {moments}: {different[:5]}")
    print(f"{kills} kills in {trials} runs, {trials - len(wrong)} of them identical")
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def reference(server, folder) -> dict:
    return left(straight(server, folder, KINDS[3])[0])


@pytest.mark.parametrize("step", [1, 13, 20, 39, tiny.STEPS])
def test_killed_right_after_a_step(server, folder, reference, step):
    """Before the first checkpoint, between two, at one, before the last step, and after it."""
    run = new(folder, KINDS[3])
    assert server.work(run, kill_at=step) == -signal.SIGKILL
    assert server.work(run) == 0
    assert tiny.differences(reference, left(run)) == []


@pytest.mark.parametrize(("bug", "step"), [(bug, 40 if bug == "late" else 13) for bug in BUGS])
def test_bugs_are_seen(server, folder, reference, bug, step):
    """The control: the same kill, with a mistake in the worker that a straight run would not show."""
    run = new(folder, KINDS[3])
    assert server.work(run, bug=bug, kill_at=step) == -signal.SIGKILL
    assert server.work(run, bug=bug) == 0
    assert tiny.differences(reference, left(run))


@pytest.mark.parametrize("bug", ["moments", "lines", "ledger", "late"])
def test_bugs_that_a_straight_run_hides(server, folder, reference, bug):
    """So it is resuming that the test above looks at."""
    run = new(folder, KINDS[3])
    assert server.work(run, bug=bug) == 0
    assert tiny.differences(reference, left(run)) == []


def test_half_of_the_samples(server, folder, reference):
    """Killed between two of the last lines: the others follow, none comes twice."""
    run = new(folder, KINDS[3])
    assert server.work(run) == 0
    path = run.path / "evals/samples.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))
    run.set_status(state="running")
    assert server.work(run) == 0
    assert tiny.differences(reference, left(run)) == []


def test_a_torn_line_is_repaired(server, folder, reference):
    run = new(folder, KINDS[3])
    assert server.work(run, kill_at=13) == -signal.SIGKILL
    for name in ("metrics.jsonl", "evals/validation.jsonl"):
        with (run.path / name).open("a") as file:
            file.write('{"step": 14, "lo')
    assert server.work(run) == 0
    assert tiny.differences(reference, left(run)) == []
