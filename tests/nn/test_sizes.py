"""The sizes of conf/model/ follow one rule and have as many parameters as their first line says."""

import re

import pytest
import torch

from lmx import config
from lmx.build import build

UNITS = {"M": 1e6, "B": 1e9}


@pytest.mark.parametrize("name", sorted(config.choices("model")))
def test_size(name):
    node = config.load([f"model={name}"])["model"]
    with torch.device("meta"):
        model = build(node, vocabulary_size=1000)
    blocks = sum(parameter.numel() for parameter in model.parameters()) - model.embedding.weight.numel()
    number, unit = re.match(r"([\d.]+) ([MB]) parameters", config.choices("model")[name]).groups()
    assert blocks == pytest.approx(float(number) * UNITS[unit], rel=0.06)
    assert node["width"] == 64 * node["heads"]
    assert node["mlp"] == -(-node["width"] * 8 // 3 // 128) * 128
    assert 32 <= node["width"] / node["depth"] <= 64


def test_embeddings_start_alike_at_every_width():
    for name in ("nano", "tiny", "small"):
        torch.manual_seed(0)
        model = build(config.load([f"model={name}"])["model"], vocabulary_size=512)
        assert float(model.embedding.weight.std()) == pytest.approx(0.3 * model.width**-0.5, rel=0.05)
