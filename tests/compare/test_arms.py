"""Which run is which, which arms there are, and that what is there is neither made nor measured again."""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmx.cli import comparing
from lmx.compare.arms import arms, existing, flatten, identity, named
from lmx.compare.conventions import convention, with_both
from lmx.compare.tuning import SEED, grid, trials
from lmx.compare.twins import OTHER
from lmx.config import plain
from lmx.errors import FAILED_ARM, INTERRUPTED, PREEMPTED, LmxError
from lmx.launch.jobs import Fleet, Job
from lmx.launch.local import Local
from lmx.runs import Run, find
from tests.compare.directories import BUDGET, KNOBS, measured, row, run

FREE = ("eval", "launcher", "track", "device", "name", "group", "runs", "choices")  # of numbers
FREE_OF_TRAINER = (
    "trainer.log_every",
    "trainer.checkpoint_every",
    "trainer.keep",
    "trainer.recompute",
    "trainer.offload",
)


def changed(value: Any) -> Any:
    """Another value, of whatever type."""
    if isinstance(value, bool) or value is None:
        return "other"
    return (
        value + 1 if isinstance(value, int | float) else [*value, "x"] if isinstance(value, list) else f"{value}-other"
    )


def replaced(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    copy = json.loads(json.dumps(config))
    *path, last = key.split(".")
    node = copy
    for name in path:
        node = node[name]
    node[last] = {"more": 1} if node[last] == {} else changed(node[last])
    return copy


@pytest.mark.parametrize(
    "typed",
    [
        ["objective=clm"],
        ["objective=ul2", "data=mixture", "data.sources.second.path=x", "model=nano"],
        ["objective=electra", "optim=adamw", "optim/schedule=cosine", "data=text", "data.path=x", "track=none"],
        ["objective=mlm", "eval.yardsticks.probe=probe", "tokenizer=bytes"],
    ],
)
def test_identity_walks_every_key(typed):
    """A key that is not on the list of those that change no number, a new one too, makes another run."""
    config = plain(typed)
    own = identity(config)
    keys = list(flatten(config))
    assert len(keys) > 50
    for key in keys:
        free = key.startswith(tuple(f"{name}." for name in FREE)) or key in (*FREE, *FREE_OF_TRAINER)
        assert (identity(replaced(config, key)) == own) == free, key
    assert identity(config | {"brand_new": 1}) != own
    assert identity(config | {"brand_new": None}) == own, "an option that is off, of a later version"


def test_a_run_of_before_a_key_is_todays_run_at_what_all_runs_had():
    config = plain(["objective=mlm"])
    old = config | {
        "trainer": {key: value for key, value in config["trainer"].items() if key not in ("parallel", "gather")}
    }
    assert identity(old) == identity(config)
    assert identity(old) != identity(plain(["objective=mlm", "trainer.parallel=fsdp"]))


def test_identity_survives_the_file(tmp_path):
    config = plain(["objective=mlm", "budget.flops=1.2e13", "optim.lr=0.003"])
    assert identity(Run.create(config, [], tmp_path).config()) == identity(config)


def test_arms_are_paired_by_seed():
    found = arms(["clm", "mlm objective.rate=0.4"], [BUDGET], range(3))
    assert [arm.name for arm in found] == ["clm", "mlm rate=0.4"]
    assert [[config["seed"] for config in arm.configs] for arm in found] == [[0, 1, 2]] * 2
    assert found[1].configs[0]["objective"]["rate"] == 0.4
    assert plain(found[1].overrides[2]) == found[1].configs[2], "what is written down makes the same run"
    assert len({key for arm in found for key in arm.identities}) == 6


@pytest.mark.parametrize(
    ("words", "shared", "why"),
    [
        (["clm"], [], "at least two arms, got 1"),
        (["clm", "clm"], [], "arms must differ, got clm and clm"),
        (["clm", "clm model=tiny"], [], "arms must differ"),
        (["clm", "objective.rate=0.4 mlm"], [], "an arm must begin with an objective"),
        (["clm", "mlm seed=3"], [], "seeds must be typed as --seeds"),
        (["clm", "mlm"], ["seed=3"], "seeds must be typed as --seeds"),
        (["clm", "mlm tokenizer.size=512"], [], "same tokenizer.size, got null of clm and 512 of mlm"),
        (["clm", "mlm data.validation=0.3"], [], "same data.validation, got 0.05 of clm and 0.3 of mlm"),
        (["clm", "mlm length=64"], [], "same length, got 128 of clm and 64 of mlm"),
        (["clm", "sft"], [], 'same data, got "sotu" of clm and "instructions" of sft'),
        (["clm", f"mlm {BUDGET}9"], [], "same budget"),
    ],
)
def test_arms_that_are_none(words, shared, why):
    with pytest.raises(LmxError, match=why):
        arms(words, [BUDGET, *shared], range(1))


def test_runs_as_they_are_become_arms(tmp_path):
    """Grouped by what changes their numbers, not by the name of their objective."""
    runs = [run(tmp_path, "mlm", seed, f"objective.rate={rate}") for rate in (0.15, 0.4) for seed in (0, 1)]
    found = named([run(tmp_path), *runs])
    assert {name: len(group) for name, group in found.items()} == {
        "clm": 1,
        "mlm rate=0.15": 2,
        "mlm rate=0.4": 2,
    }
    with pytest.raises(LmxError, match="--runs must differ"):
        named([runs[0], run(tmp_path, "mlm", 0, "objective.rate=0.15", "track=none")])


def test_a_run_that_is_done_comes_before_one_that_is_not(tmp_path):
    done = run(tmp_path)
    run(tmp_path, state="failed")
    assert [one.name for one in existing(tmp_path).values()] == [done.name]


def test_an_encoder_decoder_is_shown_at_both_sizes():
    both = with_both(["clm", "span", "prefix_lm"], [BUDGET])
    assert both == ["clm", "span", "span objective.decoder=half", "prefix_lm"]
    assert [convention(arm.configs[0]) is None for arm in arms(both, [BUDGET], [0])] == [True, False, False, True]
    for word, shared in [
        ("span objective.decoder=full", []), ("span", ["objective.decoder=shared"]), ("span objective.layout=prefix", []),
        ("span", ["model.depth=3"]),
    ]:  # fmt: skip
        assert with_both([word], [BUDGET, *shared]) == [word]


def test_trials_have_a_seed_and_a_share_of_their_own():
    key, values = grid("optim.lr=0.02,0.005")
    assert (key, values) == ("optim.lr", [0.005, 0.02])
    found = trials("mlm", ["budget.tokens=15000000", "model=nano"], key, values)
    assert [arm.configs[0]["seed"] for arm in found] == [SEED, SEED]
    assert [arm.configs[0]["budget"]["tokens"] for arm in found] == [3750000, 3750000]
    assert [arm.configs[0]["optim"]["lr"] for arm in found] == values


@pytest.mark.parametrize(
    "typed", ["optim.lr=0.1", "optim.lr", "optim.lr=a,b", "objective.rate=0.15,0.4", "length=64,128"]
)
def test_grids_that_are_none(typed):
    with pytest.raises(LmxError, match="--tune must be a key"):
        grid(typed)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """`lmx compare` where training and measuring are noted, and done in no time."""
    monkeypatch.setenv("LMX_RUNS", str(tmp_path))
    signals = {INTERRUPTED: signal.SIGINT, PREEMPTED: signal.SIGTERM}
    done = {"trained": [], "measured": [], "codes": {}, "signals": signals, "unmeasurable": ()}

    class Desk(Fleet):
        """Jobs that end as they begin."""

        width = 1

        def __init__(self) -> None:
            self.over: list[tuple[Job, int]] = []

        def add(self, jobs: Sequence[Job]) -> None:
            for job in jobs:
                self.over.append((job, trained(job.run)))
                measure(job.run, None, KNOBS)

        def active(self) -> list[Job]:
            return [job for job, _ in self.over]

        def ended(self) -> list[tuple[Job, int]]:
            found, self.over = self.over, []
            return found

        def end(self, job: Job, number: int) -> None:
            pass

    def trained(one: Run) -> int:
        if one.status()["state"] == "done":
            return 0
        place = len(done["trained"])
        done["trained"].append(one.label())
        code = done["codes"].get(place, 0)
        if code in done["signals"]:
            os.kill(os.getpid(), done["signals"][code])
        if code == 0:
            source = run(tmp_path / "elsewhere", "clm")
            for name in ("metrics.jsonl", "evals/validation.jsonl"):
                (one.path / name).write_bytes((source.path / name).read_bytes())
            (one.path / "checkpoints/step-00000100").mkdir()
            manifest = "checkpoints/step-00000100/manifest.json"
            (one.path / manifest).write_bytes((source.path / manifest).read_bytes())
        state = {0: "done", INTERRUPTED: "preempted", PREEMPTED: "preempted"}.get(code, "failed")
        one.set_status(state=state, exit_code=code, reason=None if code == 0 else "stopped by the test")
        return code

    def measure(one: Run, step: int | None, nodes: Any) -> dict[str, LmxError]:
        if one.status()["state"] != "done":
            return {}
        if one.label() in done["unmeasurable"]:
            return {"minimal_pairs": LmxError("broken.")}
        if not one.lines("evals/minimal_pairs.jsonl"):
            done["measured"].append(one.label())
            measured(one, [row(0.8 if "clm" in one.label() else 0.7)], knobs=nodes["minimal_pairs"])
        return {}

    monkeypatch.setattr(Local, "fleet", lambda self: Desk())
    monkeypatch.setattr("lmx.cli.fleet.EVERY", 0)
    monkeypatch.setattr(comparing, "measure", measure)
    monkeypatch.setattr(comparing, "yardsticks", lambda words: KNOBS)
    monkeypatch.setattr(comparing, "show_plan", lambda *arguments, **knobs: None)
    monkeypatch.setattr(comparing, "send_comparison", lambda folder, runs: "")
    monkeypatch.setattr(
        "lmx.cli.reporting.write", lambda folder, table, arms: (folder / "table.json").write_text(json.dumps(table))
    )
    return done


def compare(folder: Path, *words: str, seeds: int = 2, **changes: Any):
    asked = {"name": None, "chosen": "", "evaluations": [], "plan": False, "tune": None, "aa": False} | changes
    found = comparing.compare([*words, BUDGET, f"runs={folder}"], seeds=seeds, **asked)
    assert found is not None
    return found


def test_what_is_there_is_neither_made_nor_measured_again(tmp_path, desk):
    first = compare(tmp_path, "clm", "mlm")
    assert desk["trained"] == ["clm-tiny-s0", "mlm-tiny-s0", "clm-tiny-s1", "mlm-tiny-s1"], "seed after seed"
    assert len(desk["measured"]) == 4
    again = compare(tmp_path, "clm", "mlm")
    assert again == first
    assert len(desk["trained"]) == len(desk["measured"]) == 4
    compare(tmp_path, "mlm", "clm", "launcher.threads=1", "track=none", "trainer.log_every=3")
    assert len(desk["trained"]) == 4, "nothing of that changes a number"
    compare(tmp_path, "clm", "mlm", seeds=3)
    assert desk["trained"][4:] == ["clm-tiny-s2", "mlm-tiny-s2"]
    compare(tmp_path, "clm", "mlm objective.rate=0.4")
    assert desk["trained"][6:] == ["mlm-tiny-s0", "mlm-tiny-s1"]


def test_comparisons_of_other_settings_have_other_folders(tmp_path, desk):
    folders = {
        compare(tmp_path, *words)["name"]
        for words in (("clm", "mlm"), ("clm", "mlm objective.rate=0.4"), ("clm", "mlm", "optim.lr=0.001"))
    }
    assert len(folders) == 3
    assert all(name.startswith("compare-clm-mlm-") for name in folders)
    assert compare(tmp_path, "clm", "mlm", seeds=1)["name"] in folders, "more seeds make no other comparison"


@pytest.mark.parametrize("code", [INTERRUPTED, PREEMPTED])
def test_an_interrupted_comparison_goes_on(tmp_path, desk, code):
    desk["codes"] = {2: code}
    with pytest.raises(LmxError, match="The same command goes on from here") as error:
        compare(tmp_path, "clm", "mlm")
    assert error.value.exit_code == code
    assert desk["trained"] == ["clm-tiny-s0", "mlm-tiny-s0", "clm-tiny-s1"]
    compare(tmp_path, "clm", "mlm")
    assert desk["trained"][3:] == ["clm-tiny-s1", "mlm-tiny-s1"], "the run that was stopped, then the rest"
    assert len(find(tmp_path)) == 4, "the run that was stopped goes on in its folder"


def test_a_failed_arm_is_left_behind(tmp_path, desk):
    desk["codes"] = {1: 6, 4: 6}  # mlm, seeds 0 and 1
    found = compare(tmp_path, "clm", "mlm", "electra")
    assert [arm["name"] for arm in found["arms"]] == ["clm", "electra"]
    assert found["failed"] == {"mlm seed 0": "stopped by the test", "mlm seed 1": "stopped by the test"}
    assert comparing.code(found) == FAILED_ARM


def test_an_arm_that_cannot_be_measured_is_told_and_tried_again(tmp_path, desk):
    desk["unmeasurable"] = ["mlm-tiny-s0", "mlm-tiny-s1"]
    found = compare(tmp_path, "clm", "mlm", "electra")
    assert [arm["name"] for arm in found["arms"]] == ["clm", "mlm", "electra"]
    assert found["failed"] == {f"mlm seed {seed} minimal_pairs": "broken." for seed in (0, 1)}
    assert comparing.code(found) == FAILED_ARM
    assert found["cautions"][0] == "mlm could not be measured by minimal_pairs (seeds 0, 1): broken."
    assert [cell and cell["arm"] for cell in found["rows"][0]["cells"]] == ["clm", None, "electra"]
    desk["unmeasurable"] = ()
    assert comparing.code(compare(tmp_path, "clm", "mlm", "electra")) == 0
    assert desk["measured"][4:] == ["mlm-tiny-s0", "mlm-tiny-s1"]
    assert len(desk["trained"]) == 6


def test_runs_that_exist_are_measured_and_compared(tmp_path, desk):
    runs = [run(tmp_path, name, seed) for name in ("clm", "mlm") for seed in (0, 1)]
    lost = run(tmp_path, "mlm", 2, state="failed")
    chosen = ",".join(str(one.path) for one in [*runs, lost])
    asked = {"seeds": 1, "name": None, "evaluations": [], "plan": False, "tune": None, "aa": False}
    found = comparing.compare([], chosen=chosen, **asked)
    assert found is not None
    assert [(arm["name"], arm["seeds"]) for arm in found["arms"]] == [("clm", [0, 1]), ("mlm", [0, 1])]
    assert found["failed"] == {"mlm seed 2": "not finite"}
    first, *others = chosen.split(",")
    again = comparing.compare(others, chosen=first, **asked)
    assert again is not None
    assert again["arms"] == found["arms"]
    with pytest.raises(LmxError, match="--runs must go without settings, got length=64"):
        comparing.compare(["length=64"], chosen=chosen, **asked)


def test_a_control_is_made_beside_the_arms(tmp_path, desk):
    plain_name = compare(tmp_path, "clm", "mlm")["name"]
    found = compare(tmp_path, "clm", "mlm", aa=True)
    assert desk["trained"][4:] == [f"clm-tiny-s{OTHER}", f"clm-tiny-s{OTHER + 1}"]
    assert found["name"] == plain_name
    assert [arm["name"] for arm in found["arms"]] == ["clm", "mlm"]
    assert found["control"]["seeds"] == [OTHER, OTHER + 1]
    assert compare(tmp_path, "clm", "mlm", aa=True) == found
    assert len(desk["trained"]) == 6
    desk["codes"] = {len(desk["trained"]) + 2: 6}  # of other runs, the first of the control
    lost = compare(tmp_path, "clm", "mlm", "optim.lr=0.001", aa=True)
    assert lost["failed"] == {f"clm again seed {OTHER}": "stopped by the test"}
    assert lost["control"]["seeds"] == [OTHER + 1]
    with pytest.raises(LmxError, match="--aa must go with --seeds 2 or more"):
        compare(tmp_path, "clm", "mlm", aa=True, seeds=1)
