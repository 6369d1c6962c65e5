"""One rank of one run: `python -m lmx.worker RUN_DIR`, alone or under torchrun.

It reads the run's resolved config, trains, and writes what happened into the run directory; whoever wants to see it reads
there. A run that has checkpoints goes on from the newest. Exit codes are in lmx/errors.py.
"""

import errno
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from lmx.errors import INTERNAL, DiskFull, LmxError
from lmx.evals.samples import samples
from lmx.experiment import Experiment, Report, assemble
from lmx.runs import Run
from lmx.train import device, distributed
from lmx.train.record import Record
from lmx.train.state import restore, save
from lmx.train.stop import Stop, Stopped
from lmx.train.watch import Watch

VALIDATION, SAMPLES = "evals/validation.jsonl", "evals/samples.jsonl"


def main(path: str) -> int:
    """-> the exit code, which is also in status.json."""
    run = Run.open(path)
    if distributed.leads():
        run.lock()
    stop, watch = Stop(), Watch(run)
    try:
        code = train(run, stop, watch)
    except LmxError as error:
        code = fail(run, error.exit_code, str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        code = fail(run, DiskFull.exit_code, f"the disk of {run.path} is full: {error}. Make room and resume.")
    except Exception as error:
        traceback.print_exc()
        watch.gone()
        code = fail(run, INTERNAL, f"internal error, see log.txt: {type(error).__name__}: {error}")
    finally:
        watch.stop()
        distributed.stop()
    settled = distributed.under_torchrun() and code != INTERNAL
    return 0 if settled else code  # or torchrun would begin again


def fail(run: Run, code: int, reason: str) -> int:
    """Say why, unless another rank has: the others then fail because it is gone."""
    if distributed.world_size() > 1:
        status = run.read_json("status.json")
        if code == INTERNAL and status["state"] != "running":
            return status.get("exit_code") or code
        if code == INTERNAL:
            reason = f"rank {distributed.rank()}, after step {distributed.PULSE.step}: {reason}"
    print(f"lmx: {reason}", file=sys.stderr, flush=True)
    run.set_status(state="failed", exit_code=code, reason=reason)
    return code


def train(run: Run, stop: Stop, watch: Watch) -> int:
    config = run.config()
    place = device.pick(config["device"])
    distributed.start(place, offload=config["trainer"]["offload"])
    record = Record(run, main=distributed.rank() == 0)
    record.status(state="running", pid=os.getpid(), exit_code=None, reason=None, note=None)
    watch.start(place)
    if distributed.restarts():
        record.note(f"begun again after a failure, time {distributed.restarts()}")
    try:
        parts = assemble(config, place, preparing(record, stop))
    except Stopped:
        return preempted(record, stop)
    trainer, fingerprint = parts.trainer, parts.corpus.fingerprint
    restore(run, config, trainer, fingerprint, record)
    record.environment(trainer)
    record.phase("compiling" if trainer.compiled else "warming up")
    wanted = trainer.compiled
    trainer.warm_up()
    if wanted and not trainer.compiled:
        record.note("compiled, the gradient was not finite: trained uncompiled")
        record.environment(trainer)
    record.phase("training")
    if not loop(run, parts, record, stop):
        save(run, trainer, fingerprint, record)
        return preempted(record, stop)
    finish(run, config, parts, record)
    return 0


def preparing(record: Record, stop: Stop) -> Report:
    """Reading and tokenizing may take long: a signal does not wait for it."""

    def report(phase: str, share: float | None) -> None:
        record.phase(phase, share)
        stop.check()

    return report


def preempted(record: Record, stop: Stop) -> int:
    record.status(state="preempted", exit_code=stop.code, reason=stop.reason, phase=None)
    return stop.code


def loop(run: Run, parts: Experiment, record: Record, stop: Stop) -> bool:
    """Train until the budget is spent (True) or a signal asks to stop (False)."""
    trainer = parts.trainer
    if stop.agreed(trainer.device):
        return False
    after = trainer.budget.progress(trainer.ledger)
    for step in trainer.run():
        distributed.PULSE.step = step.number
        before, after = after, trainer.budget.progress(trainer.ledger)
        if step.last or step.number % trainer.log_every == 0:  # before its checkpoint, or a kill could lose it
            record.metrics(step, trainer)
        if passed(parts.validation.every, before, after):
            evaluate(parts, record)
        if step.number % trainer.checkpoint_every == 0 or step.branches or trainer.budget.frozen_at == step.number:
            save(run, trainer, parts.corpus.fingerprint, record)
        if stop.agreed(trainer.device):
            return False
    return True


def passed(every: float, before: float, after: float) -> bool:
    """Whether progress has reached another multiple of `every`; 0.3 counts as three times 0.1."""
    return int(after / every + 1e-9) > int(before / every + 1e-9)


def evaluate(parts: Experiment, record: Record) -> None:
    """One line of evals/validation.jsonl for the step just done."""
    ledger = parts.trainer.ledger
    wanted = record.main and not record.count(VALIDATION, ledger.step)
    if not (distributed.largest(wanted, parts.trainer.device) if parts.trainer.sharded else wanted):
        return
    record.phase("evaluating")
    where = {key: getattr(ledger, key) for key in ("step", "tokens", "flops", "seconds")}
    with parts.evaluable():
        if record.main:
            known = set(parts.validation.failed)
            record.line(VALIDATION, where | {"progress": parts.trainer.budget.progress(ledger)} | parts.validation())
            for name in parts.validation.failed.keys() - known:
                record.note(
                    f"{name} failed at step {ledger.step}, and is not asked again: {parts.validation.failed[name]}"
                )
    record.phase("training")


def finish(run: Run, config: Mapping[str, Any], parts: Experiment, record: Record) -> None:
    """The last evaluation, sample texts, the last checkpoint; then the run is done."""
    trainer, step = parts.trainer, parts.trainer.ledger.step
    evaluate(parts, record)
    save(run, trainer, parts.corpus.fingerprint, record)
    record.phase("writing samples")
    with parts.evaluable():
        if record.main:
            texts = samples(
                parts.whole, parts.corpus, number=parts.validation.samples, tokens=parts.validation.sample_tokens,
                length=config["length"], seed=config["seed"],
            )  # fmt: skip
            for text in texts[record.count(SAMPLES, step) :]:  # the others were written before an interruption
                record.line(SAMPLES, {"step": step, **text})
    record.status(state="done", exit_code=0, phase=None, progress=1.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
