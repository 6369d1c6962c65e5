"""A model and the objective that trains it, as one module to compile, count and save."""

from torch import Tensor, nn

from lmx.batch import Batch
from lmx.nn.transformer import Transformer
from lmx.objectives.objective import Objective


class Learner(nn.Module):
    def __init__(self, model: Transformer, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """term -> [] loss in nats, summed over its predictions"""
        return self.objective(self.model, batch)
