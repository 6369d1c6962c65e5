"""A run as a model of lm-eval: log-probabilities of continuations, of whole texts, and greedy writing. Needs the extra `eval`.

Where context and continuation meet, and what stands before an empty context, is lm-eval's own convention (TemplateLM); every text
follows an end of text, as in training.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lmx.batch import IGNORE, Batch
from lmx.errors import LmxError
from lmx.evals.scoring import Asker, Question, Scorer
from lmx.evals.write import Sampler, write
from lmx.evals.yardstick import Report, Subject
from lmx.objectives.objective import Prediction

MARGIN = 8  # positions for what an objective sets around a text
TOKENS = 256  # written at most, where a task does not say
Pair = tuple[tuple[str, str], list[int], list[int]]  # texts, tokens of the context, tokens of the continuation


def evaluate(
    names: Sequence[str], subject: Subject, scorer: Scorer, shots: int | None, limit: int | None, report: Report
) -> dict[str, Any]:
    """Raises LmxError for tasks that lm-eval does not know, cannot load, or cannot ask of this objective."""
    folders = [path if path.is_dir() else path.parent for path in map(local, names) if path]
    manager = TaskManager(include_path=list(map(str, folders)), include_defaults=len(folders) < len(names))
    tasks = [task for name in names for task in known(name, manager)]
    report("loading tasks", None)
    seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), 0)
    run: Any = simple_evaluate
    try:
        found = run(
            model=Model(subject, scorer, report), tasks=tasks, num_fewshot=shots, limit=limit, task_manager=manager,
            bootstrap_iters=0, log_samples=False, **seeds,
        )  # fmt: skip
    except LmxError:
        raise
    except Exception as error:  # whatever a task's own code and data raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LmxError(f"lm_eval.tasks={','.join(names)} cannot be evaluated: {reason}") from error
    return dict(found)


def known(name: str, manager: TaskManager) -> list[str]:
    """Names of tasks: of a file or folder those that stand in it."""
    path = local(name)
    if path is None:
        if name not in manager.all_tasks:
            raise LmxError(f"lm_eval.tasks must be names that lm-eval knows, or files, got {name!r}.")
        return [name]
    files = [path] if path.is_file() else sorted(path.rglob("*.yaml"))
    found = [
        node["task"] for file in files if isinstance(node := yaml.safe_load(file.read_text()), dict) and "task" in node
    ]
    if not found:
        raise LmxError(f"lm_eval.tasks must name YAML files with a key `task`, got {name}.")
    return found


def local(name: str) -> Path | None:
    """A file or folder of tasks, where that is what a name is."""
    path = Path(name).expanduser()
    return path.resolve() if path.exists() else None


class Model(TemplateLM):
    def __init__(self, subject: Subject, scorer: Scorer, report: Report):
        super().__init__()
        self.subject, self.scorer, self.report = subject, scorer, report
        self.vocabulary = subject.corpus.vocabulary

    @property
    def eot_token_id(self) -> int:
        return self.vocabulary.eos

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        return self.vocabulary.encode(string).tolist()

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        if not self.follows:
            answers = Counter((one.task_name, one.doc_id) for one in requests)  # a choice has several
            alone = [one for one in requests if answers[one.task_name, one.doc_id] == 1]
            self.refuse(alone, "the most likely continuation")
        return super().loglikelihood(requests, disable_tqdm=True)

    @property
    def follows(self) -> bool:
        return bool(self.subject.learner.objective.follows)

    def refuse(self, requests: Sequence[Instance], what: str) -> None:
        if requests:
            name = type(self.subject.learner.objective).__name__
            raise LmxError(f"lm_eval.tasks must not need {what} for {name}, got {requests[0].task_name}, which does.")

    def _loglikelihood_tokens(self, requests: Sequence[Pair], **kwargs: Any) -> list[tuple[float, bool]]:
        """(log p of the continuation, whether each of its tokens is the most likely one)"""
        most = self.subject.length - MARGIN
        texts, contexts = [], []
        for (_, continuation), before, after in requests:
            if len(after) > most:
                raise LmxError(
                    f"lm_eval.tasks must have answers of at most {most} tokens with this model's length, got {len(after)}: "
                    f"{continuation[:40]!r}."
                )
            given = [token for token in before if token != self.vocabulary.eos]
            given = given[max(0, len(given) + len(after) - most) :]
            texts.append(np.array([*given, *after], dtype=np.int64))
            contexts.append(len(given))
        if self.follows:
            return Greedy(self.subject)(texts, contexts, self.report)
        return [(-float(nats), False) for nats in self.scorer.score(texts, contexts, self.report)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """log p of whole texts, in windows of which each but the first sees the last token of the one before"""
        pairs, owners = [], []
        for number, one in enumerate(requests):
            tokens = self.tok_encode(one.args[0])
            windows = get_rolling_token_windows(tokens, self.eot_token_id, self.subject.length - MARGIN - 1, 1)
            made = [make_disjoint_window(window) for window in windows]
            pairs += [(("", ""), before, after) for before, after in made]
            owners += [number] * len(made)
        found = [nats for nats, _ in self._loglikelihood_tokens(pairs)]
        return np.bincount(owners, weights=found, minlength=len(requests)).tolist()

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy, up to the first of the strings at which a task ends, or the end of the text"""
        return [self.written(*one.args) for one in requests]

    @torch.no_grad()
    def written(self, context: str, how: dict[str, Any]) -> str:
        objective, length = self.subject.learner.objective, self.subject.length
        tokens = min(int(how.get("max_gen_toks", TOKENS)), length // 2)
        sampler = Sampler(
            special=torch.from_numpy(self.vocabulary.special), temperature=float(how.get("temperature", 0)), top_k=None,
            top_p=1.0, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        opening = objective.opening([self.vocabulary.encode(context)[-(length - tokens - MARGIN) :]])
        assert isinstance(objective, Prediction)
        text = self.vocabulary.decode(
            write(objective, self.subject.learner.model, opening, sampler, tokens, length).gaps[0]
        )
        ends = how.get("until") or []
        found = [text.find(end) for end in ([ends] if isinstance(ends, str) else ends) if end in text]
        return text[: min(found)] if found else text


class Greedy(Asker):
    """As `Following`, and whether each token is the most likely one."""

    def __call__(
        self, texts: Sequence[np.ndarray], contexts: Sequence[int], report: Report
    ) -> list[tuple[float, bool]]:
        questions = [Question(text=text, context=given) for text, given in zip(texts, contexts, strict=True)]
        return [(-float(row[:, 0].sum()), bool(row[:, 1].all())) for row in self.answers(questions, report)]

    def read(self, batch: Batch) -> list[np.ndarray]:
        both = torch.stack([self.objective.nats(self.model, batch), self.objective.best(self.model, batch)], dim=-1)
        where = batch.targets.cpu() != IGNORE
        return [row[asked].numpy() for row, asked in zip(both.double().cpu(), where, strict=True)]
