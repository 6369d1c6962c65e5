"""A run's state to and from checkpoints: its own newest one, another run's weights (`init_from`), or a branch of another run."""

from collections.abc import Mapping
from typing import Any

from lmx.errors import CheckpointError, LmxError
from lmx.runs import Run, root
from lmx.train import checkpoint, parts
from lmx.train.record import Record, repro
from lmx.train.sharding import spread
from lmx.train.trainer import Trainer

CHECKPOINTS = "checkpoints"


def save(run: Run, trainer: Trainer, fingerprint: str, record: Record) -> None:
    """Commit a checkpoint of the step just done: rank 0 has everything, or every rank its rows."""
    if not record.main and not trainer.sharded:
        return
    record.phase("saving")
    tensors = {"model": trainer.learner.state_dict(), "optim": trainer.optimizer.state()}
    progress = trainer.budget.progress(trainer.ledger)
    state = trainer.state() | {"progress": progress, "data": fingerprint}
    commit = parts.save if trainer.sharded else checkpoint.save
    commit(
        run.path / CHECKPOINTS, trainer.ledger.step, tensors, state,
        keep=trainer.keep, repro=repro(trainer), spare=trainer.branching_step,
    )  # fmt: skip
    record.phase("training")


def restore(run: Run, config: Mapping[str, Any], trainer: Trainer, fingerprint: str, record: Record) -> None:
    """Continue this run if it has a checkpoint; otherwise begin as `init_from` and `branch` say."""
    if record.main:
        checkpoint.clean(run.path / CHECKPOINTS)
    own = checkpoint.load(run.path / CHECKPOINTS)
    if own is not None:
        for message in own.damaged:
            record.note(message)
        resume(trainer, own, fingerprint)
        exact = own.repro == repro(trainer)
        if not exact:
            record.note(f"resumed under other conditions, so not bit for bit: {differences(own.repro, repro(trainer))}")
        record.status(exact=exact)
    elif config["init_from"]:
        begin(config, trainer, fingerprint, record)
    if record.main:
        run.truncate(trainer.ledger.step)
    record.resume(trainer)


def resume(trainer: Trainer, loaded: checkpoint.Loaded, fingerprint: str) -> None:
    """Weights, moments, ledger: all that a run is, since data and noise follow from the step."""
    same_data(loaded, fingerprint)
    trainer.learner.load_state_dict(spread(loaded.tensors["model"], trainer.learner))
    trainer.optimizer.load(spread(loaded.tensors["optim"], trainer.learner, moments=True))
    trainer.load(loaded.state)


def begin(config: Mapping[str, Any], trainer: Trainer, fingerprint: str, record: Record) -> None:
    """From another run: as a branch (everything, towards a new budget) or with its weights alone."""
    name, step = place(str(config["init_from"]))
    source = Run.open(name, root(dict(config)))
    loaded = checkpoint.load(source.path / CHECKPOINTS, step)
    if loaded is None:
        raise CheckpointError(f"init_from must name a run with checkpoints, got {name}, which has none.")
    if config["branch"]:
        stable(source.config(), loaded, name)
        resume(trainer, loaded, fingerprint)
        trainer.budget.frozen_steps = trainer.branching_step = None
        stays(trainer)
        return
    own = trainer.learner.state_dict()
    fitting = {
        key: value for key, value in loaded.tensors["model"].items() if key in own and own[key].shape == value.shape
    }
    if "model.embedding.weight" not in fitting or len([key for key in fitting if ".blocks." in key]) == 0:
        raise LmxError(
            f"init_from must name a run with the same model and tokenizer sizes, got {name}. Compare lmx runs."
        )
    same_vocabulary(loaded, fingerprint, name)
    trainer.learner.load_state_dict(spread(fitting, trainer.learner), strict=False)
    record.note(f"weights of {name} at step {loaded.step}: {len(fitting)} of {len(own)} tensors; the others start anew")


def place(name: str) -> tuple[str, int | None]:
    """`RUN@STEP` or `RUN`, which may be a path -> run, step"""
    run, _, step = name.rpartition("@")
    if not run or "/" in step:
        return name, None
    if not step.isdigit():
        raise LmxError(f"init_from must be RUN or RUN@STEP, got {name}.")
    return run, int(step)


def same_data(loaded: checkpoint.Loaded, fingerprint: str) -> None:
    then, now = loaded.state["data"].split("/"), fingerprint.split("/")
    if then != now:
        what = "tokenizer, or the text it learned from," if then[0] != now[0] else "data"
        raise CheckpointError(
            f"the {what} changed since {loaded.path.name} was saved ({'/'.join(part[:6] for part in then)}, now "
            f"{'/'.join(part[:6] for part in now)}). Restore the files, or start a new run with init_from=."
        )


def same_vocabulary(loaded: checkpoint.Loaded, fingerprint: str, name: str) -> None:
    if loaded.state["data"].partition("/")[0] != fingerprint.partition("/")[0]:
        raise LmxError(
            f"init_from must name a run with the same tokenizer, got {name}. Type tokenizer=pretrained tokenizer.path=… for both."
        )


def stable(config: Mapping[str, Any], loaded: checkpoint.Loaded, name: str) -> None:
    """A branch must leave before the old run's rate began to fall, or the decay would happen twice."""
    decay = config["optim"]["schedule"].get("decay")
    if decay is None:
        raise LmxError(f"--branch must leave a run with optim/schedule=wsd, got {name}: its rate falls from the start.")
    if loaded.state["progress"] > 1 - decay:
        raise LmxError(
            f"--branch must leave {name} before its decay at {1 - decay:.0%} of the budget, got step {loaded.step} at "
            f"{loaded.state['progress']:.0%}. Choose an earlier step."
        )


def stays(trainer: Trainer) -> None:
    """Under the new budget, too, the rate must be neither rising nor falling, or it would jump."""
    progress = trainer.budget.progress(trainer.ledger)
    schedule = trainer.optimizer.schedule
    if schedule(progress) < 1.0:
        raise LmxError(
            f"budget must put step {trainer.ledger.step} between warm-up and decay, got {progress:.0%} of it. Type a "
            f"{'larger' if progress > schedule.warmup else 'smaller'} budget."
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {old.get(key)} -> {new.get(key)}" for key in new if old.get(key) != new.get(key))
