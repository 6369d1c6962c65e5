"""Every objective for a number of steps of the nano model on the embedded corpus: does each term beat its best constant?

    python -m tests.bench.every_objective [--steps 200] [--only mlm,electra] [--keep FOLDER] [overrides]

One line of JSON an objective, as validation says at the end; FOLDER keeps the runs. Native losses of different objectives do not
compare. Where a row asks one question, as segment pairs do, 65536 tokens are 512 questions: fewer would not tell a small gain
from luck.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from lmx import config
from lmx.compare.results import native_terms, unit


def train(choice: str, steps: int, keep: Path | None, more: list[str]) -> dict:
    """The last validation of one run."""
    with TemporaryDirectory() as passing:
        folder = keep / choice if keep else Path(passing)
        settings = [f"objective={choice}", "model=nano", f"budget.steps={steps}", "eval.every=1.0"]
        command = [sys.executable, "-m", "lmx", "train", *settings, "track=none", f"runs={folder}", *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"objective": choice, "failed": (done.stderr or done.stdout).strip().splitlines()[-1:]}
        (run,) = folder.iterdir()
        last = json.loads((run / "evals/validation.jsonl").read_text().splitlines()[-1])
    terms = {term: last[key] for term, key in native_terms(last).items()}
    constants = {key.removeprefix("constant/"): value for key, value in last.items() if key.startswith("constant/")}
    losses = [term for term, key in native_terms(last).items() if unit(key) == "nats" and term != "chance"]
    constants = dict.fromkeys(losses, last["unigram_nats"]) | constants
    beaten = {term: terms[term] < constant for term, constant in constants.items() if terms.get(term) is not None}
    return {
        "objective": choice,
        "steps": steps,
        **({"typed": " ".join(more)} if more else {}),
        "tokens": last["tokens"],
        "terms": terms,
        "constants": constants,
        "beaten": beaten,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", default=",".join(sorted(config.choices("objective"))))
    known, more = parser.parse_known_args()
    for choice in known.only.split(","):
        print(json.dumps(train(choice, known.steps, known.keep, more)), flush=True)


if __name__ == "__main__":
    main()
