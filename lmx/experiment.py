"""The parts of one run, built from its config: what the worker trains and what a preview looks at."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from lmx.batch import fill
from lmx.build import build
from lmx.data.corpus import Corpus, prepare
from lmx.data.loader import Loader
from lmx.data.noise import torch_seed
from lmx.data.packing import Samples
from lmx.errors import LmxError
from lmx.evals.validation import Validation
from lmx.evals.yardstick import Subject
from lmx.nn.block import Block
from lmx.train import distributed
from lmx.train.device import deterministic
from lmx.train.flops import Flops
from lmx.train.learner import Learner
from lmx.train.sharding import gathered, shard
from lmx.train.trainer import Trainer

Report = Callable[[str, float | None], None]  # what is being done, and how far it is in [0, 1]
VALIDATION_SEED = 0  # the same noise for every run


@dataclass(frozen=True, kw_only=True)
class Experiment:
    corpus: Corpus
    learner: Learner
    whole: Learner  # the learner, or where ranks share its parameters a copy, up to date inside `evaluable`
    trainer: Trainer
    validation: Validation

    @contextmanager
    def evaluable(self) -> Iterator[None]:
        """Inside, rank 0 can evaluate. All ranks enter."""
        if not self.trainer.sharded:
            yield
            return
        with gathered(self.learner, self.whole if self.whole is not self.learner else None, self.trainer.device):
            yield


def assemble(config: Mapping[str, Any], device: torch.device, report: Report) -> Experiment:
    """Build corpus, learner, trainer and validation. Raises LmxError for what a user can fix."""
    sequences = config["trainer"]["batch_tokens"] // config["length"]
    strict = config["trainer"]["determinism"] == "strict"
    if strict:
        deterministic()
    corpus = prepare(build(config["data"]), build(config["tokenizer"]), report)
    learner = new_learner(config, corpus)
    samples = stream(config, corpus, learner, "train")
    if strict and learner.objective.indivisible:
        raise LmxError(
            "trainer.determinism must be null with an objective whose rows are each other's candidates, got strict: no part of a "
            "step has a gradient of its own that could be added up. Type trainer.determinism=null: then ranks agree to rounding."
        )
    micro = 1 if strict else config["trainer"]["micro_batch"]
    loader = Loader(
        samples, learner.objective.collate, sequences=sequences, micro=micro,
        rank=distributed.rank(), world_size=distributed.world_size(),
    )  # fmt: skip
    if learner.objective.indivisible and loader.micro < loader.share:
        raise LmxError(
            f"trainer.micro_batch must be null with an objective whose rows are each other's candidates, got {micro}. "
            "Type trainer.micro_batch=null, and objective.sub_batch to save memory."
        )
    flops = Flops(learner)  # of the model: before it is cut, and what is computed twice counts once
    learner, twin = placed(config["trainer"], learner, device)
    trainer = build(
        config["trainer"],
        learner=learner,
        optimizer=build(config["optim"], module=learner),
        budget=build(config["budget"]),
        flops=flops,
        loader=loader,
        device=device,
        seed=config["seed"],
    )
    report("reading validation", None)
    whole = twin or learner
    validation = new_validation(config, corpus, whole, device, loader.micro)
    return Experiment(corpus=corpus, learner=learner, whole=whole, trainer=trainer, validation=validation)


def placed(node: Mapping[str, Any], learner: Learner, device: torch.device) -> tuple[Learner, Learner | None]:
    """The learner on its device, or this rank's share of it, and then on rank 0 a whole copy that is evaluated."""
    if node["recompute"]:
        blocks = [module for module in learner.modules() if isinstance(module, Block) and not module.opened]
        if not blocks:
            name = type(learner.objective).__name__
            raise LmxError(f"trainer.recompute must be false with {name}, which calls parts of blocks, got true.")
        for block in blocks:
            block.recomputes = True
    if node["parallel"] == "fsdp" and distributed.world_size() > 1:
        twin = shard(learner, device, gather=node["gather"], offload=node["offload"])
        return learner, twin
    return learner.to(device), None


def new_learner(config: Mapping[str, Any], corpus: Corpus) -> Learner:
    """Model and objective with initial weights that depend on the seed alone: the same trunk under every objective."""
    torch.manual_seed(torch_seed(config["seed"], "model"))
    model = build(config["model"], vocabulary_size=corpus.vocabulary.size)
    torch.manual_seed(torch_seed(config["seed"], "objective"))
    objective = build(
        config["objective"], length=config["length"], model=model, vocabulary=corpus.vocabulary, corpus=corpus
    )
    return Learner(model, objective)


def stream(config: Mapping[str, Any], corpus: Corpus, learner: Learner, purpose: str) -> Samples:
    """The samples of a split: training shuffled by epoch, validation as it is, with noise of its own."""
    train = purpose == "train"
    return Samples(
        corpus.train if train else corpus.validation,
        learner.objective.raw_lengths,
        learner.objective.lookahead,
        seed=config["seed"] if train else VALIDATION_SEED,
        packing=config["packing"],
        purpose=purpose,
        shuffle=train,
    )


def examined(config: Mapping[str, Any], corpus: Corpus, learner: Learner, device: torch.device) -> Subject:
    """What yardsticks are applied to."""

    def untrained() -> Learner:
        with torch.random.fork_rng(devices=[]):
            return new_learner(config, corpus).to(device).eval()

    return Subject(
        learner=learner,
        corpus=corpus,
        device=device,
        length=config["length"],
        seed=config["seed"],
        untrained=untrained,
    )


def new_validation(
    config: Mapping[str, Any], corpus: Corpus, learner: Learner, device: torch.device, rows: int
) -> Validation:
    samples = stream(config, corpus, learner, "validation")
    wanted = max(1, config["eval"]["tokens"] // config["length"])
    number = min(len(samples), wanted)
    reader = Loader(samples, learner.objective.collate, sequences=rows, micro=rows)
    batches = [fill(reader.read(first, min(rows, number - first)).batch, rows) for first in range(0, number, rows)]
    precision = config["trainer"]["precision"]
    subject = examined(config, corpus, learner, device)
    return build(config["eval"], subject=subject, precision=precision, batches=batches)
