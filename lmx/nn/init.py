"""Initial weights: each layer keeps the variance of what it is given, and the residual stream does not grow with depth."""

from torch import nn


def initialize(module: nn.Module, *, depth: int) -> None:
    """Linear weights N(0, 1/inputs), those that write to the residual stream divided by sqrt(2 depth) (Radford et al. 2019),
    embeddings N(0, 0.09/width), so that the first loss of a tied head is close to ln V at any width."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            std = part.in_features**-0.5
            if name.endswith(("attention_out", "mlp_down")):
                std *= (2 * depth) ** -0.5
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.3 * part.embedding_dim**-0.5)
