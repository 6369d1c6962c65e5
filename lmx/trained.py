"""A run's model with the weights of a checkpoint: what is evaluated, or asked to write."""

from lmx.build import build
from lmx.data.corpus import prepare
from lmx.errors import CheckpointError
from lmx.evals.yardstick import Report, Subject
from lmx.experiment import examined, new_learner
from lmx.runs import Run
from lmx.train import checkpoint, device
from lmx.train.state import CHECKPOINTS, same_data


def load(run: Run, step: int | None) -> checkpoint.Loaded:
    """The newest sound checkpoint, or that of a step. Raises CheckpointError."""
    loaded = checkpoint.load(run.path / CHECKPOINTS, step)
    if loaded is None:
        raise CheckpointError(f"RUN must have a checkpoint, got {run.name}, which has none.")
    return loaded


def subject(run: Run, loaded: checkpoint.Loaded, report: Report) -> Subject:
    """Raises CheckpointError when the data are no longer those it was trained on."""
    config = run.config()
    place = device.pick(config["device"])
    corpus = prepare(build(config["data"]), build(config["tokenizer"]), report)
    same_data(loaded, corpus.fingerprint)
    learner = new_learner(config, corpus)
    learner.load_state_dict(loaded.tensors["model"])
    return examined(config, corpus, learner.to(place).eval(), place)
