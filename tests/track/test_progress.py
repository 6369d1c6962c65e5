"""What a terminal, and a file, show of a run."""

import io
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from lmx.runs import Run
from lmx.track.figures import clock, curve, flat, short
from lmx.track.progress import Progress, follow, panel, summary
from lmx.track.tail import Tail
from tests.track.directories import end, finished, make, start, train


def screen(width: int, *, terminal: bool) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        height=30,
        force_terminal=terminal,
        color_system=None,
        highlight=False,
    )


def show(run: Run, running: Callable[[], bool], console: Console) -> None:
    summary(follow(run, running, console), console)


def text(console: Console) -> str:
    return console.file.getvalue()


def test_plain_lines_tell_everything_once(tmp_path):
    run = finished(tmp_path)
    console = screen(80, terminal=False)
    show(run, lambda: False, console)
    lines = text(console).splitlines()
    assert len([line for line in lines if "· loss " in line and line.startswith("step ")]) == 10
    assert len([line for line in lines if "· validation " in line]) == 4
    assert "step 50/100 · validation 3.189 nats · 1.063 bits/byte (unigram 2.300, bigram 1.600)" in lines
    assert "clm-tiny-s0 done" in lines
    assert lines[-2:] == ["  The state of the union", f"  {run.path}"]
    assert "\x1b" not in text(console)


def test_resumed_run_tells_only_what_is_new(tmp_path):
    run = make(tmp_path)
    start(run)
    train(run, 1, 60)
    run.set_status(state="queued")
    looks = iter([True, True, False])

    def running() -> bool:
        if next(looks, False):
            return True
        run.truncate(40)
        train(run, 41, 100, pace=0.2)
        end(run)
        return False

    console = screen(80, terminal=False)
    show(run, running, console)
    told = [line for line in text(console).splitlines() if line.startswith("step ") and "· loss " in line]
    assert [int(line.split("/")[0].removeprefix("step ")) for line in told] == [50, 60, 70, 80, 90, 100]


@pytest.mark.parametrize("width", [60, 120])
def test_panel_fits(tmp_path, width):
    run = make(tmp_path, "name=" + "n" * 30)
    start(run)
    for last in (0, 10, 100):
        train(run, max(1, last - 9), last)
        progress = Progress(run)
        progress.update()
        console = screen(width, terminal=True)
        console.print(panel(progress))
        lines = text(console).splitlines()
        assert max(map(cell_len, lines)) <= width
        assert len(lines) <= (2 if last == 0 else 7)
    run.unlock()


def test_live_view_ends_with_the_summary(tmp_path):
    run = finished(tmp_path)
    console = screen(100, terminal=True)
    show(run, lambda: False, console)
    assert "validation" in text(console)
    assert "".join(text(console).split()).endswith(str(run.path))  # it may be longer than a line


def test_how_to_continue_is_said(tmp_path):
    run = make(tmp_path)
    start(run)
    train(run, 1, 20)
    end(run, "preempted", 130)
    console = screen(80, terminal=False)
    show(run, lambda: False, console)
    assert text(console).splitlines()[-1] == f"  continue it with: lmx train --resume {run.name}"


@pytest.mark.parametrize("name", ["[/x]", "[red]", "[link=x]y", "\\[", "日本語" * 10, "[bold"])
@pytest.mark.parametrize("terminal", [False, True])
def test_markup_is_text(tmp_path, name, terminal):
    run = finished(tmp_path)
    config = run.config() | {"name": name}
    run.config = lambda: config
    run.append("evals/samples.jsonl", {"step": 100, "prompt": name, "text": "\x1b[31m" + name})
    console = screen(200, terminal=terminal)
    show(run, lambda: False, console)
    assert f"{name} done" in text(console)
    assert "\x1b[31m" not in text(console)


def test_loss_that_is_not_finite(tmp_path):
    run = make(tmp_path)
    start(run)
    train(run, 1, 10)
    run.append("metrics.jsonl", run.lines("metrics.jsonl")[-1] | {"step": 20, "loss": float("nan")})
    run.unlock()
    for terminal in (False, True):
        console = screen(100, terminal=terminal)
        show(run, lambda: False, console)
        assert "not finite" in text(console)


def test_tail_reads_whole_lines_and_starts_again_when_the_file_is_replaced(tmp_path):
    path = tmp_path / "a.jsonl"
    tail = Tail(path)
    assert tail.new() == []
    path.write_text('{"a": 1}\n{"a": ')
    assert tail.new() == [{"a": 1}]
    with path.open("a") as file:
        file.write("2}\n")
    assert tail.new() == [{"a": 2}]
    other = tmp_path / "b"
    other.write_text('{"a": 1}\n{"a": 3, "longer": "than before"}\n')
    other.replace(path)
    assert tail.new() == [{"a": 1}, {"a": 3, "longer": "than before"}]


def test_figures():
    assert [clock(seconds) for seconds in (0, 59.6, 3599, 36000)] == ["0:00", "1:00", "59:59", "10:00:00"]
    assert [short(value) for value in (0, 999, 1234, 5.6e9, 2e15)] == ["0", "999", "1.23 k", "5.6 G", "2 P"]
    assert curve([]) == curve([1.0]) == ""
    assert curve([3.0, 2.0, 1.0]) == "█▅▁"
    assert curve([2.0] * 100) == "▁" * 24
    assert len(curve([0.0, 1.0] * 99)) == 24
    assert flat("a\n\tb\x1b") == "a b\\x1b"
