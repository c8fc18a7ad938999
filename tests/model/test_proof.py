"""Sizes and powers of the tests of skill, on series whose truth is known."""

import numpy as np
import pytest
from backsight_model import proof

HORIZON = 24
LAG = 4 * HORIZON


def overlapping(rng: np.random.Generator, n: int) -> np.ndarray:
    """Sums of the next 24 shocks: what a label of 24 hours looks like on an hourly grid."""
    total = np.concatenate([[0.0], np.cumsum(rng.standard_normal(n + HORIZON))])
    return total[HORIZON : HORIZON + n] - total[:n]


def persistent(rng: np.random.Generator, n: int) -> np.ndarray:
    """A forecast that knows nothing and changes slowly, as forecasts from slow features do."""
    shocks = rng.standard_normal(n + HORIZON)
    kernel = np.exp(-np.arange(120) / HORIZON)
    return np.convolve(shocks, kernel, mode="same")[:n]


def rejections(runs: int, lag: int, n: int = 5000) -> tuple[float, float]:
    rng = np.random.default_rng(11)
    loss_rejects, sign_rejects = 0, 0
    for _ in range(runs):
        outcome, forecast = overlapping(rng, n), persistent(rng, n)
        # The two forecasters err by the same amount on either side, so that neither is better.
        gain = proof.compare(
            (outcome - 0.5 * forecast) ** 2, (outcome + 0.5 * forecast) ** 2, lag=lag, model="a", reference="b"
        )
        loss_rejects += gain.p_value < 0.05
        sign_rejects += proof.pesaran_timmermann(forecast > 0, outcome > 0, lag=lag).p_value < 0.05
    return loss_rejects / runs, sign_rejects / runs


def test_overlapping_labels_keep_the_size() -> None:
    loss_size, sign_size = rejections(300, LAG)
    assert loss_size <= 0.085
    assert sign_size <= 0.085


def test_without_the_lag_the_size_is_lost() -> None:
    loss_size, sign_size = rejections(100, 0)
    assert loss_size > 0.2
    assert sign_size > 0.2


@pytest.mark.prove
@pytest.mark.parametrize(("runs", "n"), [(3000, 2000), (3000, 5000), (1000, 20_000)])
def test_size_on_many_runs(runs: int, n: int) -> None:
    loss_size, sign_size = rejections(runs, LAG, n)
    print(f"rejections of a true null at 5 %, {n} instants: losses {loss_size:.3f}, signs {sign_size:.3f}")
    assert 0.03 <= loss_size <= 0.08
    assert 0.03 <= sign_size <= 0.08


@pytest.mark.parametrize("lag", [0, 5, LAG])
def test_the_statistic_is_that_of_statsmodels(lag: int) -> None:
    from statsmodels.tsa.stattools import diebold_mariano_test

    rng = np.random.default_rng(8)
    outcome, one, other = overlapping(rng, 800), persistent(rng, 800), 0.5 * persistent(rng, 800)
    theirs = diebold_mariano_test(outcome, one, other, lags=lag)
    ours = proof.compare((outcome - one) ** 2, (outcome - other) ** 2, lag=lag, model="one", reference="other")
    statistic = -proof.NORMAL.inv_cdf(1 - ours.p_value) * proof.widening(lag, 800)
    assert statistic == pytest.approx(theirs.statistic, rel=1e-3)


def test_a_real_gain_is_found_and_measured() -> None:
    rng = np.random.default_rng(3)
    outcome = overlapping(rng, 8000)
    knows = outcome + 3 * overlapping(rng, 8000)
    forecast = 0.1 * knows
    gain = proof.compare((outcome - forecast) ** 2, outcome**2, lag=LAG, model="knows", reference="zero")
    assert gain.p_value < 0.01
    assert gain.low < gain.gain < gain.high
    assert gain.skill == pytest.approx(0.1, abs=0.05)
    assert proof.pesaran_timmermann(forecast > 0, outcome > 0, lag=LAG).p_value < 0.01


def test_the_smallest_detectable_gain_is_found_in_four_of_five_runs() -> None:
    rng = np.random.default_rng(5)
    found, runs = 0, 300
    for _ in range(runs):
        noise = rng.standard_normal(1000)
        detectable = proof.compare(noise, np.zeros(1000), lag=4, model="a", reference="b").detectable
        gain = proof.compare(noise - detectable, np.zeros(1000), lag=4, model="a", reference="b")
        found += gain.p_value < 0.05
    assert 0.72 < found / runs < 0.88


def test_betting_on_the_commoner_side_is_no_skill() -> None:
    up = np.random.default_rng(1).random(4000) < 0.7
    always = proof.pesaran_timmermann(np.ones(4000, dtype=bool), up, lag=LAG)
    assert always.accuracy > 0.65
    assert always.p_value == 1.0


def test_long_run_variance_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])  # deviations -1.5 -0.5 0.5 1.5; lag-1 products 0.75 -0.25 0.75
    assert proof.long_run_variance(values, lag=0) == pytest.approx(5 / 4)
    assert proof.long_run_variance(values, lag=1) == pytest.approx(5 / 4 + 2 * 0.5 * 1.25 / 4)


def test_claims_made_together_pay_for_each_other() -> None:
    def at(p: float) -> proof.Comparison:
        return proof.Comparison(
            model="m", reference="r", count=9, loss=1, reference_loss=1, gain=0, low=0, high=0, p_value=p, detectable=1
        )

    claims = {c.name: c for c in proof.judge({"a": (at(0.01), at(0.001)), "b": (at(0.03),), "c": (at(0.02),)})}
    assert claims["a"].adjusted == pytest.approx(0.03)
    assert claims["c"].adjusted == pytest.approx(0.04)
    assert claims["b"].adjusted == pytest.approx(0.04)
    assert all(claim.proven for claim in claims.values())
    assert not proof.judge({"a": (at(0.03),), "b": (at(0.5),)})[0].proven
    assert claims["a"].hardest.p_value == 0.01


def test_equal_losses_prove_nothing() -> None:
    same = np.ones(50)
    assert proof.compare(same, same, lag=4, model="a", reference="b").p_value == 1.0


def test_unpaired_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="need the same"):
        proof.compare(np.ones(5), np.ones(6), lag=1, model="a", reference="b")
