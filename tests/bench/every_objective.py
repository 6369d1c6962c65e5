"""Every objective for a number of steps of the nano model on the embedded corpus: does each term beat its best constant?

    python -m tests.bench.every_objective [--steps 200] [--only mlm,electra] [overrides]

One line of JSON an objective, as validation says at the end. Native losses of different objectives do not compare. Where a
row asks one question, as segment pairs do, 65536 tokens are 512 questions: fewer would not tell a small gain from luck.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from lmx import config

COUNTS = {"chance"}  # what a constant follows from: no loss


def train(choice: str, steps: int, more: list[str]) -> dict:
    """The last validation of one run."""
    with TemporaryDirectory() as folder:
        settings = [f"objective={choice}", "model=nano", f"budget.steps={steps}", "eval.every=1.0"]
        command = [sys.executable, "-m", "lmx", "train", *settings, "track=none", f"runs={folder}", *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"objective": choice, "failed": (done.stderr or done.stdout).strip().splitlines()[-1:]}
        (run,) = Path(folder).iterdir()
        last = json.loads((run / "evals/validation.jsonl").read_text().splitlines()[-1])
    terms = {key.removeprefix("loss/"): value for key, value in last.items() if key.startswith("loss/")}
    constants = {key.removeprefix("constant/"): value for key, value in last.items() if key.startswith("constant/")}
    constants = dict.fromkeys((term for term in terms if term not in COUNTS), last["unigram_nats"]) | constants
    beaten = {term: terms[term] < constant for term, constant in constants.items() if terms.get(term) is not None}
    return {
        "objective": choice,
        "steps": steps,
        "tokens": last["tokens"],
        "terms": terms,
        "constants": constants,
        "beaten": beaten,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", default=",".join(sorted(config.choices("objective"))))
    known, more = parser.parse_known_args()
    for choice in known.only.split(","):
        print(json.dumps(train(choice, known.steps, more)), flush=True)


if __name__ == "__main__":
    main()
