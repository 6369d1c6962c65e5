"""Progress in each currency, the step a run stops at, and seconds that become steps once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmx.errors import LmxError
from lmx.train.budget import CALIBRATION, Budget, Cost, Ledger

CURRENCIES = ("tokens", "flops", "targets", "seconds", "steps")
NONE = dict.fromkeys(CURRENCIES)


def spend(budget: Budget, price: float, seconds: float = 0.1) -> list[float]:
    """Steps of one price until the budget says stop; -> the progress of each."""
    ledger, seen = Ledger(), []
    cost = Cost(tokens=int(price), positions=int(price), targets=int(price), flops=int(price))
    while not budget.exhausted(ledger, cost) and ledger.step < 100_000:
        seen.append(budget.progress(ledger, cost))
        ledger.step += 1
        ledger.seconds += seconds
        for key in ("tokens", "targets", "flops"):
            setattr(ledger, key, getattr(ledger, key) + int(price))
        budget.freeze(ledger)
    return seen


@pytest.mark.parametrize("given_keys", [[], ["tokens", "steps"], list(CURRENCIES)])
def test_exactly_one_currency(given_keys):
    with pytest.raises(LmxError, match="budget must have exactly one key, got"):
        Budget(**NONE | dict.fromkeys(given_keys, 10))


@given(
    currency=st.sampled_from(["tokens", "flops", "targets"]),
    amount=st.integers(1, 10_000),
    price=st.integers(1, 3000),
)
def test_stops_nearest_to_the_budget_and_progress_is_the_middle_of_a_step(currency, amount, price):
    seen = spend(Budget(**NONE | {currency: amount}), price)
    assert abs(len(seen) * price - amount) <= price / 2
    assert seen == pytest.approx([min(1.0, (step + 0.5) * price / amount) for step in range(len(seen))])


@given(steps=st.integers(1, 2000))
def test_steps(steps):
    seen = spend(Budget(**NONE | {"steps": steps}), 7)
    assert seen == pytest.approx([(step + 0.5) / steps for step in range(steps)])


def test_seconds_freeze_once():
    budget, ledger = Budget(**NONE | {"seconds": 10.0}), Ledger()
    for _ in range(CALIBRATION - 1):
        ledger.step, ledger.seconds = ledger.step + 1, ledger.seconds + 0.1
        budget.freeze(ledger)
        assert budget.frozen_steps is None
    ledger.step, ledger.seconds = ledger.step + 1, ledger.seconds + 0.1
    budget.freeze(ledger)
    assert budget.frozen_steps == 100
    before = budget.progress(ledger)
    ledger.seconds += 1000  # the machine was slow: no longer of influence
    budget.freeze(ledger)
    assert (budget.frozen_steps, budget.progress(ledger)) == (100, before)
    assert len(spend(Budget(**NONE | {"seconds": 10.0}), 7, seconds=0.1)) == 100


def test_seconds_that_are_over_during_calibration():
    assert len(spend(Budget(**NONE | {"seconds": 1.0}), 7, seconds=0.1)) == 10
    assert len(spend(Budget(**NONE | {"seconds": 0.05}), 7, seconds=0.1)) == 1


def test_progress_is_monotonous_over_the_freeze():
    seen = spend(Budget(**NONE | {"seconds": 5.0}), 7, seconds=0.07)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1, abs=0.02)
