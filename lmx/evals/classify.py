"""Logistic regression on fixed features, what it is compared with, and scores of classifications.

Features are standardised by their mean and deviation in training; the loss is the mean cross-entropy plus l2 / 2 x the squared
weights, minimised by L-BFGS over all items at once: convex, so that the result depends on no seed. What there is to choose (the
layer, l2) is chosen by accuracy on the development split.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmx.evals.likelihood import ratio_error

STEPS = 50  # of L-BFGS


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """The predictions of a probe on each split, and what was chosen for it."""

    dev: np.ndarray  # [N] classes
    test: np.ndarray
    accuracy: float  # on the development split
    layer: int = 0


def probe(
    features: Sequence[Tensor],
    labels: Sequence[np.ndarray],
    classes: int,
    strengths: Sequence[float],
    scale: bool = True,
) -> Chosen:
    """The best l2 of `strengths`, strong to weak. Features and labels of train, dev and test; features [N, D]."""
    if scale:
        mean, deviation = features[0].mean(0), features[0].std(0, correction=0)
        features = [(x - mean) / deviation.clamp(min=1e-6) for x in features]
    targets = torch.from_numpy(labels[0])
    weights, best = torch.zeros(features[0].shape[1] + 1, classes), None
    for strength in sorted(strengths, reverse=True):
        weights = fit(features[0], targets, weights, strength)
        dev, test = (predict(x, weights) for x in features[1:])
        score = float((dev == labels[1]).mean())
        if best is None or score > best.accuracy:
            best = Chosen(dev=dev, test=test, accuracy=score)
    assert best is not None
    return best


def fit(x: Tensor, labels: Tensor, start: Tensor, l2: float) -> Tensor:
    """[D + 1, classes] from x [N, D]; the last row is the bias, which is not held back."""
    with torch.enable_grad():
        weights = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            nats = F.cross_entropy(x @ weights[:-1] + weights[-1], labels) + l2 / 2 * weights[:-1].pow(2).sum()
            nats.backward()
            return nats

        optimizer.step(loss)  # type: ignore[arg-type]
    return weights.detach()


def predict(x: Tensor, weights: Tensor) -> np.ndarray:
    return (x @ weights[:-1] + weights[-1]).argmax(1).numpy()


def score(metric: str, predicted: np.ndarray, labels: np.ndarray) -> float:
    return {"accuracy": accuracy, "macro_f1": macro_f1, "mcc": mcc}[metric](predicted, labels)


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    return float((predicted == labels).mean())


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The mean of F1 over all classes that are there or were predicted."""
    values = []
    for kind in np.union1d(predicted, labels):
        both = ((predicted == kind) & (labels == kind)).sum()
        values.append(2 * both / ((predicted == kind).sum() + (labels == kind).sum()))
    return float(np.mean(values))


def mcc(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation of any number of classes (Gorodkin 2004); 0 where one side is constant."""
    kinds = np.union1d(predicted, labels)
    a, b = (predicted[:, None] == kinds).astype(float), (labels[:, None] == kinds).astype(float)
    a, b = a - a.mean(0), b - b.mean(0)
    below = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / below) if below else 0.0


def error(predicted: np.ndarray, labels: np.ndarray, group: np.ndarray) -> float | None:
    """Standard error of the accuracy, items of one document being one observation; None of a single document."""
    _, number = np.unique(group, return_inverse=True)
    if number.max(initial=0) == 0:
        return None
    right = np.bincount(number, weights=predicted == labels)
    return ratio_error(right, np.bincount(number))


def majority(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The most frequent class of training, for all."""
    return np.full(len(test), np.bincount(train).argmax())
