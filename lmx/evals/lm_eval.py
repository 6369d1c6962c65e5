"""Tasks of lm-eval (EleutherAI's evaluation harness) on a run: its prompts, its metrics, its numbers.

The questions come from lm-eval; how a model is asked, see lm_eval_model.py. A task that needs the most likely continuation is
refused for objectives that do not predict from left to right.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from annotated_types import Ge

from lmx.errors import LmxError
from lmx.evals.lm_eval_model import evaluate
from lmx.evals.scoring import scorers
from lmx.evals.yardstick import Comparability, Report, Row, Subject, Yardstick

SHARES = ("acc", "acc_norm", "acc_mutual_info", "exact_match", "f1")


class LMEval(Yardstick):
    def __init__(self, *, tasks: str, shots: Annotated[int, Ge(0)] | None, limit: Annotated[int, Ge(1)] | None):
        self.names = [name.strip() for name in tasks.split(",") if name.strip()]
        self.shots, self.limit = shots, limit
        if not self.names:
            raise LmxError("lm_eval.tasks must name a task of lm-eval or a file, got none.")

    def __call__(self, subject: Subject, report: Report) -> Sequence[Row]:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        asked = scorers(subject, whole=False)
        if not asked:
            return []
        found = evaluate(self.names, subject, asked[0], self.shots, self.limit, report)
        return [
            row for task in sorted(found["results"]) for row in rows(task, found, asked[0].name, asked[0].comparability)
        ]


def rows(task: str, found: Mapping[str, Any], scorer: str, comparability: Comparability) -> list[Row]:
    """What lm-eval says of a task, a row for each metric; `metric,filter` is how it names them."""
    results, numbers = found["results"][task], found["n-samples"].get(task)
    made = []
    for key, value in results.items():
        metric, comma, chosen = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = results.get(f"{metric}_stderr,{chosen}")
        higher = found["higher_is_better"].get(task, {}).get(metric)
        made.append(
            Row(
                task=task,
                metric=metric if chosen == "none" else f"{metric} {chosen}",
                scorer=scorer,
                value=float(value),
                error=float(error) if isinstance(error, int | float) else None,
                items=int(numbers["effective"]) if numbers else 0,
                unit="share" if metric in SHARES else metric,
                better="neither" if higher is None else "higher" if higher else "lower",
                comparability="D" if metric in SHARES else comparability,
            )
        )
    return made
