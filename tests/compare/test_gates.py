"""What each gate lets pass, what it stops, and its sentence."""

import numpy as np
import pytest

from lmx.compare.gates import Facts, flags, mismatch, refuse_mismatch
from lmx.errors import LmxError

GOOD = {"arm": "mlm", "seeds": [0, 1, 2], "losses": {"loss": [3.9, 4.0, 4.1]}, "constants": {"loss": 6.34}}


def found(**changed) -> list[tuple[str, str]]:
    return [(flag.gate, flag.sentence) for flag in flags([Facts(**GOOD | changed)])]


def test_a_good_arm_passes():
    assert found(skipped=[0, 0, 0], epochs=4.0, rate=3e-3, grid=[1e-3, 3e-3, 1e-2]) == []


@pytest.mark.parametrize(
    ("losses", "constant", "stuck"),
    [
        ([6.34, 6.35, 6.3], 6.34, "all 3 seeds"),
        ([4.0, 6.2, 4.0], 6.34, "seed 1"),
        ([6.05, 6.2, 4.0], 6.34, "seeds 0, 1 of 3"),
        ([6.03, 6.03, 6.03], 6.34, None),
        ([0.69, 0.69, 0.69], 0.70, "all 3 seeds"),  # a discriminator at its base rate
        ([0.60, 0.60, 0.60], 0.70, None),
        ([0.0, 0.0, 0.0], 0.0, None),  # nothing to learn
    ],
)
def test_plateau(losses, constant, stuck):
    said = found(losses={"loss": losses}, constants={"loss": constant})
    assert [gate for gate, _ in said] == ["plateau"] * bool(stuck)
    assert all(f"mlm has not left its plateau ({stuck}): " in sentence for _, sentence in said)


def test_plateau_of_one_term():
    """ELECTRA's generator may have learned while its discriminator has not."""
    said = found(
        losses={"generator": [4.0] * 3, "discriminator": [0.69] * 3}, constants={"generator": 6.3, "discriminator": 0.7}
    )
    assert [sentence.partition(":")[0] for _, sentence in said] == [
        "mlm has not left its plateau in discriminator (all 3 seeds)"
    ]


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_diverged_seed_is_named(loss):
    assert found(losses={"loss": [3.9, loss, 4.0]}, skipped=[0, 9, 0]) == [
        ("diverged", "mlm diverged (seed 1): its other seeds alone would flatter it.")
    ]


def test_skipped_steps_are_named():
    assert found(skipped=[0, 2, 1]) == [
        ("diverged", "mlm skipped 3 steps that were not finite (seeds 1, 2 of 3).")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("epochs", "most", "said"), [(4.0, 4.0, 0), (4.0 + 1e-12, 4.0, 0), (4.2, 4.0, 1), (4.2, 8.0, 0)]
)
def test_epochs(epochs, most, said):
    flagged = found(epochs=epochs, most_epochs=most)
    assert [gate for gate, _ in flagged] == ["epochs"] * said
    assert all("saw its text 4.2 times, and 4 were declared" in sentence for _, sentence in flagged)


@pytest.mark.parametrize(
    ("rate", "grid", "side"),
    [
        (1e-3, [1e-2, 3e-3, 1e-3], "lowest"),
        (1e-2, [1e-2, 3e-3, 1e-3], "highest"),
        (3e-3, [1e-2, 3e-3, 1e-3], None),
        (3e-3, [3e-3], None),
        (None, [1e-2, 3e-3], None),
    ],
)
def test_learning_rate_at_the_edge_of_its_grid(rate, grid, side):
    said = found(rate=rate, grid=grid)
    assert [gate for gate, _ in said] == ["edge"] * bool(side)
    assert all(f"is the {side} that was tried" in sentence for _, sentence in said)


def test_flags_are_one_line_each_and_name_their_arm():
    bad = Facts(
        **GOOD | {"arm": "span", "losses": {"loss": [np.nan, 6.3, 6.3]}, "epochs": 9.0, "rate": 1.0, "grid": [1.0, 2.0]}
    )
    all_of_them = flags([Facts(**GOOD), bad])
    assert [flag.gate for flag in all_of_them] == ["diverged", "plateau", "epochs", "edge"]
    assert all(flag.arm == "span" and flag.sentence.startswith("span") for flag in all_of_them)
    assert not any("\n" in flag.sentence for flag in all_of_them)


LEDGERS = {"clm": {"flops": 1e13, "tokens": 1e6}, "mlm": {"flops": 1.009e13, "tokens": 2e6}, "ul2": {"flops": 1.002e13}}


def test_mismatch_is_the_largest_relative_difference():
    assert mismatch(LEDGERS, "flops") == pytest.approx(0.009)
    assert mismatch({name: LEDGERS[name] for name in ("clm", "mlm")}, "tokens") == 1.0
    assert mismatch(LEDGERS, "tokens") == float("inf")  # ul2 has no tokens
    assert mismatch({"clm": {"flops": float("nan")}, "mlm": {"flops": 1.0}}, "flops") == float("inf")
    assert mismatch({"clm": {"flops": 3.0}}, "flops") == 0.0


def test_one_percent_is_refused():
    assert refuse_mismatch(LEDGERS, "flops") == pytest.approx(0.009)
    with pytest.raises(LmxError, match="same flops within 1%, got 101 of mlm and 100 of clm") as error:
        refuse_mismatch({"clm": {"flops": 100.0}, "mlm": {"flops": 101.0}}, "flops")
    assert "\n" not in str(error.value)
    with pytest.raises(LmxError, match="got 2e\\+06 of mlm and 0 of ul2"):
        refuse_mismatch(LEDGERS, "tokens")
