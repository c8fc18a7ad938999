"""Deflation and overfitting against published examples, noise, and a truth."""

import numpy as np
import pytest
from backsight_model import overfitting
from scipy import stats


@pytest.mark.parametrize(("trials", "probability"), [(100, 0.9004), (46, 0.9505)])
def test_the_example_of_bailey_and_lopez_de_prado(trials: int, probability: float) -> None:
    # 2.5 a year on 5 years of days, skewness -3, kurtosis 10, variance of the trials' yearly ratios one half.
    luck = overfitting.expected_luck(trials, np.sqrt(0.5 / 250))
    found = overfitting.probabilistic_sharpe(2.5 / np.sqrt(250), against=luck, count=1250, skewness=-3.0, kurtosis=10.0)
    assert found == pytest.approx(probability, abs=5e-5)


def test_luck_is_the_expected_maximum() -> None:
    rng = np.random.default_rng(1)
    best = rng.standard_normal((20_000, 50)).max(axis=1).mean()
    assert overfitting.expected_luck(50, 1.0) == pytest.approx(best, rel=0.02)
    assert overfitting.expected_luck(1, 1.0) == 0.0


def test_moments_are_those_of_the_returns() -> None:
    returns = np.random.default_rng(2).gamma(2.0, 0.01, 500) - 0.019
    ratio = returns.mean() / returns.std()
    found = overfitting.deflated_sharpe(returns, trials=1, deviation=0.0)
    by_scipy = overfitting.probabilistic_sharpe(
        ratio,
        against=0.0,
        count=500,
        skewness=float(stats.skew(returns)),
        kurtosis=float(stats.kurtosis(returns, fisher=False)),
    )
    assert found.sharpe == pytest.approx(ratio)
    assert found.probability == pytest.approx(by_scipy)
    assert overfitting.deflated_sharpe(np.zeros(9), trials=3, deviation=0.1).probability == 0.0


def discoveries(runs: int) -> tuple[float, float]:
    """How often the best of 30 strategies without skill is discovered, plainly and deflated."""
    rng = np.random.default_rng(3)
    plain, deflated = 0, 0
    for _ in range(runs):
        returns = rng.standard_normal((500, 30))
        ratios = returns.mean(axis=0) / returns.std(axis=0)
        best = returns[:, ratios.argmax()]
        plain += overfitting.deflated_sharpe(best, trials=1, deviation=0.0).probability > 0.95
        deflated += overfitting.deflated_sharpe(best, trials=30, deviation=float(ratios.std())).probability > 0.95
    return plain / runs, deflated / runs


def test_the_best_of_many_is_deflated() -> None:
    plain, deflated = discoveries(300)
    assert plain > 0.6
    assert deflated < 0.05


def noise(seed: int, candidates: int = 20, n: int = 1600) -> dict[str, np.ndarray]:
    values = np.random.default_rng(seed).standard_normal((n, candidates))
    return {str(number): values[:, number] for number in range(candidates)}


@pytest.mark.parametrize("measure", ["mean", "sharpe"])
def test_choosing_among_noise_is_a_toss(measure: str) -> None:
    found = [overfitting.backtest_overfitting(noise(seed), measure=measure, blocks=10) for seed in range(60)]  # type: ignore[arg-type]
    assert np.mean([one.probability for one in found if one]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([one.loss for one in found if one]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("measure", ["mean", "sharpe"])
def test_a_better_one_is_found_again(measure: str) -> None:
    strategies = noise(1)
    strategies["3"] = strategies["3"] + 0.3
    found = overfitting.backtest_overfitting(strategies, measure=measure)  # type: ignore[arg-type]
    assert found is not None
    assert found.probability < 0.01
    assert found.loss < 0.01
    assert found.candidates == 20
    assert len(found.logits) == 12_870


def test_halves_by_hand() -> None:
    # Two blocks: whoever wins one loses the other.
    found = overfitting.backtest_overfitting(
        {"early": np.array([1.0, 1.0, -1.0, -1.0]), "late": np.array([-1.0, -1.0, 1.0, 1.0])},
        measure="mean",
        blocks=2,
    )
    assert found is not None
    assert found.probability == found.loss == 1.0
    np.testing.assert_allclose(found.logits, np.log(1 / 2))


def test_one_candidate_or_a_short_history_is_no_choice() -> None:
    assert overfitting.backtest_overfitting(noise(1, candidates=1), measure="mean") is None
    assert overfitting.backtest_overfitting(noise(1, n=31), measure="mean") is None
    alike = overfitting.backtest_overfitting(dict.fromkeys("ab", np.arange(64.0)), measure="mean")
    assert alike is not None
    np.testing.assert_allclose(alike.logits, 0.0)
