"""Learning rates are functions of progress alone, with the shapes their papers give them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.optim.schedule import WSD, Cosine, InverseSqrt, Linear, Schedule

SCHEDULES = [
    WSD(warmup=0.02, decay=0.3),
    WSD(warmup=0.0, decay=0.0),
    WSD(warmup=0.5, decay=0.5),
    Cosine(warmup=0.02, floor=0.1),
    Linear(warmup=0.02),
    InverseSqrt(warmup=0.02),
]


def test_wsd():
    schedule = WSD(warmup=0.1, decay=0.4)
    points = {0: 0, 0.05: 0.5, 0.1: 1, 0.35: 1, 0.6: 1, 0.7: 0.75, 0.8: 0.5, 1: 0}
    assert [schedule(progress) for progress in points] == pytest.approx(list(points.values()))


def test_cosine():
    schedule = Cosine(warmup=0.2, floor=0.1)
    points = {0.1: 0.5, 0.2: 1, 0.4: 0.1 + 0.9 * 0.8535533906, 0.6: 0.55, 1: 0.1}
    assert [schedule(progress) for progress in points] == pytest.approx(list(points.values()))


def test_linear():
    schedule = Linear(warmup=0.2)
    points = {0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0}
    assert [schedule(progress) for progress in points] == pytest.approx(list(points.values()))


def test_inverse_sqrt():
    schedule = InverseSqrt(warmup=0.04)
    points = {0.02: 0.5, 0.04: 1, 0.16: 0.5, 0.64: 0.25, 1: 0.2}
    assert [schedule(progress) for progress in points] == pytest.approx(list(points.values()))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@given(progress=st.floats(0, 1))
def test_between_zero_and_the_peak_whatever_came_before(schedule: Schedule, progress: float):
    first = schedule(progress)
    assert 0 <= first <= 1
    schedule(1.0), schedule(0.0)
    assert schedule(progress) == first


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@given(progress=st.floats(0, 1), more=st.floats(0, 1))
def test_up_during_warmup_and_never_up_after_it(schedule: Schedule, progress: float, more: float):
    early, late = sorted((progress, more))
    if late < schedule.warmup:
        assert schedule(early) <= schedule(late)
    if early >= schedule.warmup:
        assert schedule(early) >= schedule(late)


def test_no_warmup_begins_at_the_peak():
    for schedule in (WSD(warmup=0, decay=0.3), Cosine(warmup=0, floor=0), Linear(warmup=0)):
        assert schedule(0.0) == 1
