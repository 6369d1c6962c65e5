"""Ask a trained model to write: `python -m lmx.generate` reads a request as JSON and prints one.

The request has `run`, a path; `step`, or null for the newest checkpoint; `prompts`; and how to sample. It is a process of its own
because the command line does not import torch.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lmx.errors import LmxError
from lmx.evals.write import Sampler, fill, speculate, write
from lmx.evals.yardstick import Subject
from lmx.objectives.objective import Prediction
from lmx.runs import Run
from lmx.trained import load, subject

GAP = "[MASK]"


class Author:
    """One model, and how it is sampled."""

    def __init__(self, subject: Subject, how: Mapping[str, Any]):
        self.subject, self.how = subject, how
        self.objective, self.model = subject.learner.objective, subject.learner.model
        self.vocabulary = subject.corpus.vocabulary

    def answer(self, prompt: str, sample: int) -> dict[str, Any]:
        """Pieces of text, each from the prompt or written; what is suspicious of a detector. Raises LmxError."""
        began = time.monotonic()
        texts = prompt.split(GAP)
        for place in range(max(1, len(texts) - 1)):
            texts[place] = texts[place].rstrip(" ")  # the space before what is written belongs to its first word
        parts = [self.vocabulary.encode(text) for text in texts]
        if not prompt.strip():
            raise LmxError("--prompt must have a word, got an empty text.")
        size, most = sum(map(len, parts)), self.subject.length - 4
        if size > most:
            raise LmxError(f"--prompt must have at most {most} tokens with this model's length, got {size}.")
        told = self.told(parts, self.sampler(sample))
        return told | {"prompt": prompt, "seconds": round(time.monotonic() - began, 4)}

    def sampler(self, sample: int) -> Sampler:
        how = self.how
        return Sampler(
            special=torch.from_numpy(self.vocabulary.special),
            temperature=how["temperature"],
            top_k=how["top_k"],
            top_p=how["top_p"],
            generator=torch.Generator().manual_seed(how["seed"] + sample),
        )

    def told(self, parts: Sequence[np.ndarray], sampler: Sampler) -> dict[str, Any]:
        objective = self.objective
        if objective.detects:
            return self.suspicious(parts)
        if self.how["speculative"]:
            return self.speculated(objective, parts, sampler)
        if isinstance(objective, Prediction) and objective.fills and len(parts) > 1:
            return self.filled(objective, parts, sampler)
        opening = objective.opening(parts)
        assert isinstance(objective, Prediction)
        done = write(objective, self.model, opening, sampler, self.how["tokens"], self.subject.length)
        texts = [self.vocabulary.decode(gap) for gap in done.gaps]
        found = [piece(texts[0], "written")] if opening.whole else interleaved(self.texts(parts), texts)
        kind = "answer" if opening.answers else "text"
        return {"kind": kind, "pieces": found, "tokens": sum(map(len, done.gaps)), "forwards": done.forwards}

    def speculated(self, objective: Any, parts: Sequence[np.ndarray], sampler: Sampler) -> dict[str, Any]:
        if not hasattr(objective, "drafts"):
            raise LmxError(
                f"--speculative must go with an objective that drafts, such as mtp, got {type(objective).__name__}."
            )
        if self.how["temperature"]:
            raise LmxError(f"--speculative must go with --temperature 0, got {self.how['temperature']:g}.")
        objective.opening(parts)  # refuses gaps
        (text,) = parts
        read = np.append(self.vocabulary.eos, text)
        stops, most, length = [self.vocabulary.eos], self.how["tokens"], self.subject.length
        written, forwards = speculate(objective, self.model, read, stops, sampler, most, length)
        found = interleaved(self.texts(parts), [self.vocabulary.decode(written)])
        return {"kind": "text", "pieces": found, "tokens": len(written), "forwards": forwards}

    def filled(self, objective: Prediction, parts: Sequence[np.ndarray], sampler: Sampler) -> dict[str, Any]:
        """One token for each gap, with what else might stand there."""
        ids = self.vocabulary
        text = np.concatenate([parts[0], *(np.append(ids.mask, part) for part in parts[1:])]).astype(np.int64)
        places = np.cumsum([len(part) + 1 for part in parts])[:-1] - 1
        hidden = np.isin(np.arange(len(text)), places)
        text, candidates, forwards = fill(objective, self.model, text, hidden, sampler)
        found = interleaved(self.texts(parts), [ids.decode(text[[place]].tolist()) for place in places])
        others = [
            [{"piece": ids.piece(one.token), "share": round(one.share, 4)} for one in each] for each in candidates
        ]
        return {"kind": "fill", "pieces": found, "candidates": others, "tokens": len(places), "forwards": forwards}

    @torch.no_grad()
    def suspicious(self, parts: Sequence[np.ndarray]) -> dict[str, Any]:
        """How likely each token has been replaced."""
        if len(parts) > 1:
            raise LmxError(
                f"--prompt must have no gap for a detector, which marks what is there, got {len(parts) - 1}."
            )
        (text,) = parts
        batch = self.objective.hiding([text], [np.zeros(len(text), dtype=bool)]).to(self.subject.device)
        shares = self.objective.suspicion(self.model, batch)[0].sigmoid().cpu()
        real = ~torch.from_numpy(self.vocabulary.special)[batch.tokens[0].cpu()]
        found = [
            piece(self.vocabulary.decode([token]), "prompt") | {"replaced": round(share, 4)}
            for token, share in zip(text.tolist(), shares[real].tolist(), strict=True)
        ]
        return {"kind": "marks", "pieces": found, "tokens": 0, "forwards": 1}

    def texts(self, parts: Sequence[np.ndarray]) -> list[str]:
        return [self.vocabulary.decode(part) for part in parts]


def interleaved(parts: Sequence[str], gaps: Sequence[str]) -> list[dict[str, Any]]:
    """part gap part gap …"""
    found = []
    for number, part in enumerate(parts):
        found += [piece(part, "prompt")]
        found += [piece(gaps[number], "written")] if number < len(gaps) else []
    return [one for one in found if one["text"]]


def piece(text: str, kind: str) -> dict[str, Any]:
    return {"text": text, "kind": kind}


def quiet(phase: str, share: float | None = None) -> None:
    """The command line shows that it waits."""


def main() -> int:
    asked = json.load(sys.stdin)
    try:
        run = Run.open(asked["run"])
        author = Author(subject(run, load(run, asked["step"]), quiet), asked["how"])
        answers = [author.answer(prompt, sample) for prompt in asked["prompts"] for sample in range(asked["samples"])]
    except LmxError as error:
        print(f"lmx: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps({"objective": type(author.objective).__name__, "answers": answers}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
