"""Supervised fine-tuning (Ouyang et al. 2022, arXiv:2203.02155): predict what the assistant says, read what others say.

A document is a conversation, written as in lmx/data/conversations.py. With the user's 10 11 12, the assistant's 20 21, end of
document 1, and the vocabulary's user = U, assistant = A and end of turn = T (. is not asked):

    tokens      U 10 11 12 T A 20 21 T 1
    targets     . .  .  .  . 20 21 T 1 .      ask=completions

What is asked is known by its place, never by its id. Conversations do not see each other, under any packing, and each belongs
to the sample in which it begins: from there it goes on as far as the row does, and the pieces that later samples have of it
are passed over. A document that does not begin with a speaker is one turn of the assistant, which nobody asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge
from torch import Tensor

from lmx.batch import IGNORE, Batch, Details
from lmx.data.conversations import read
from lmx.data.corpus import Corpus, Documents
from lmx.data.noise import Keys
from lmx.data.packing import Sample
from lmx.data.tokenizer import Vocabulary
from lmx.errors import LmxError
from lmx.nn.cross_entropy import VocabularyLoss
from lmx.nn.transformer import Transformer
from lmx.objectives.clm import Causal
from lmx.objectives.objective import BUCKET, asked, continued, stack
from lmx.objectives.writing import Opening

Ask = Literal["completions", "last", "all"]
LOOKED_AT = 100  # documents, to know whether a corpus has conversations at all; fewer would prove nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class Conversation:
    """As the model reads it."""

    tokens: np.ndarray  # [n] int64
    answer: np.ndarray  # [n] bool, tokens to predict


@dataclass(frozen=True, kw_only=True)
class PromptBatch(Batch):
    prompt: Tensor  # [B, L] 1 where the target is no answer
    prompt_capacity: int  # the part of `capacity` that is theirs


class SFT(Causal):
    def __init__(
        self,
        *,
        length: int,
        model: Transformer,
        vocabulary: Vocabulary,
        corpus: Corpus | None,
        ask: Ask,
        prompt_weight: Annotated[float, Ge(0)],
        z_loss: Annotated[float, Ge(0)],
    ):
        """Raises LmxError for a corpus without conversations: its texts would be trained on whole."""
        super().__init__(model=model, vocabulary=vocabulary, z_loss=z_loss)
        self.length, self.corpus = length, corpus
        self.ask: Ask = ask
        if prompt_weight:
            self.weights["prompt"] = prompt_weight
            self.score_prompt = VocabularyLoss(0.0)
        if corpus and len(corpus.train) >= LOOKED_AT and not self.converses(corpus.train):
            raise LmxError(
                f"data must hold conversations for objective=sft, got none in {LOOKED_AT} documents: they begin with "
                "'### User: ' or '### System: '. Type data=instructions, or objective=clm for other texts."
            )

    def converses(self, documents: Documents) -> bool:
        """Whether any of LOOKED_AT documents, from all over a split, is a conversation."""
        places = np.linspace(0, len(documents) - 1, LOOKED_AT).astype(np.int64)
        return any(read(self.vocabulary.decode(documents[place])) for place in places.tolist())

    def raw_lengths(self, keys: Keys) -> np.ndarray:
        return np.full(len(keys), self.length)

    def collate(self, samples: Sequence[Sample], keys: Keys) -> Batch:
        rows = [self.pose(self.conversations(sample, keys.purpose)) for sample in samples]
        batch = self.weighed(rows) if "prompt" in self.weights else stack(rows, self.length)
        if not self.counts(batch)["loss"]:
            raise LmxError(
                f"length must reach an answer to ask for (objective.ask={self.ask}), got {self.length} and none in "
                f"{len(samples)} samples. Type length={2 * self.length} or objective.ask=all."
            )
        return batch

    def conversations(self, sample: Sample, purpose: str) -> list[Conversation]:
        """Those that begin in the sample."""
        ends = (sample.tokens[:-1] == self.vocabulary.eos) | (np.diff(sample.segment) != 0)
        pieces = np.split(sample.tokens, np.flatnonzero(ends) + 1)
        split = getattr(self.corpus, purpose) if self.corpus else None
        documents = [split[number] if split else piece for number, piece in zip(sample.documents, pieces, strict=False)]
        texts = [whole(piece, document) for piece, document in zip(pieces, documents, strict=True)]
        return [self.render(text) for text in texts if text is not None]

    def render(self, text: np.ndarray) -> Conversation:
        """A document [n] with special tokens where it says who speaks; one that was cut has no end of its last turn."""
        ended = bool(text[-1] == self.vocabulary.eos)
        words = text[:-1] if ended else text
        turns = read(self.vocabulary.decode(words))
        roles = [role for role, _ in turns] or ["assistant"]
        said = self.vocabulary.encode_batch([content for _, content in turns]) if turns else [words]
        heads, turn, eos = self.vocabulary.ids, self.vocabulary.turn, self.vocabulary.eos
        parts = [np.concatenate([[heads[role]], content, [turn]]) for role, content in zip(roles, said, strict=True)]
        masks = [
            np.append(False, np.full(len(content) + 1, wanted))
            for content, wanted in zip(said, self.wanted(roles), strict=True)
        ]
        tokens, answer = np.concatenate([*parts, [eos]]), np.concatenate([*masks, masks[-1][-1:]])
        if self.ask == "all":
            answer[:] = True
        size = len(tokens) if ended else len(tokens) - 2
        return Conversation(tokens=tokens[:size], answer=answer[:size])

    def wanted(self, roles: Sequence[str]) -> list[bool]:
        """Which turns are asked."""
        places = [place for place, role in enumerate(roles) if role == "assistant"]
        places = places[-1:] if self.ask == "last" else places
        return [place in places for place in range(len(roles))]

    def pose(self, conversations: Sequence[Conversation]) -> dict[str, np.ndarray]:
        """One row, at most L positions: the conversations side by side, the end cut off."""
        none = np.zeros(0, dtype=np.int64)
        tokens = np.concatenate([none, *(one.tokens for one in conversations)])
        document = np.repeat(np.arange(len(conversations)), [len(one.tokens) for one in conversations])
        answer = np.concatenate([none.astype(bool), *(one.answer for one in conversations)])
        following, asked_next = np.append(tokens[1:], IGNORE), np.append(answer[1:], False)
        inside = np.append(document[1:], -1) == document
        scored = inside if "prompt" in self.weights else inside & asked_next
        row = {
            "tokens": tokens,
            "targets": np.where(scored, following, IGNORE),
            "prompt": (scored & ~asked_next).astype(np.int64),
            "document": document,
            "order": np.arange(len(tokens)),
        }
        return {name: column[: self.length] for name, column in row.items()}

    def weighed(self, rows: Sequence[dict[str, np.ndarray]]) -> PromptBatch:
        """The batch that asks for prompts, too; each of its two terms has rows of the head for itself."""
        prompts = sum(int(row["prompt"].sum()) for row in rows)
        answers = sum(int((row["targets"] != IGNORE).sum()) for row in rows) - prompts
        prompts, answers = (-(-count // BUCKET) * BUCKET for count in (prompts, answers))
        batch = stack(rows, self.length, PromptBatch, {"prompt": 0}, prompt_capacity=prompts)
        return replace(batch, capacity=prompts + answers)

    def details(self, batch: Batch) -> Details:
        return Details(numbers={"prompt": batch.prompt}) if isinstance(batch, PromptBatch) else Details()

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(batch, PromptBatch):
            return super().counts(batch)
        answers, prompts = apart(batch)
        return dict.fromkeys(self.weights, answers.num_targets) | {"prompt": prompts.num_targets}

    def forward(self, model: Transformer, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(batch, PromptBatch):
            return super().forward(model, batch)
        hidden, weight = self.hidden(model, batch), self.output_weight(model)
        answers, prompts = (asked(hidden, part) for part in apart(batch))
        nats, z, _ = self.score(answers[0], weight, answers[1])
        prompt, _, _ = self.score_prompt(prompts[0], weight, prompts[1])
        return self.terms(nats, z) | {"prompt": prompt}

    def opening(self, parts: Sequence[np.ndarray]) -> Opening:
        """The text is what the user says; the assistant answers."""
        ids = self.vocabulary
        row = np.concatenate([[ids.user], parts[0], [ids.turn, ids.assistant]]).astype(np.int64)
        return replace(continued(row, parts, [ids.turn, ids.eos], type(self).__name__), answers=True)


def whole(piece: np.ndarray, document: np.ndarray) -> np.ndarray | None:
    """The document that begins with the piece, to its end; None where the piece continues it.

    A text that was typed (lmx show --text) is neither, and stays what it is.
    """
    if np.array_equal(document[: len(piece)], piece):
        return document.astype(np.int64)
    return None if piece.astype(document.dtype).tobytes() in document.tobytes() else piece


def apart(batch: PromptBatch) -> tuple[Batch, Batch]:
    """The batch asked for answers alone, and for prompts alone."""
    prompt = batch.prompt != 0
    most = min(batch.prompt_capacity, batch.capacity)  # FLOPs are counted with other capacities
    return (
        replace(batch, targets=batch.targets.masked_fill(prompt, IGNORE), capacity=batch.capacity - most),
        replace(batch, targets=batch.targets.masked_fill(~prompt, IGNORE), capacity=most),
    )
