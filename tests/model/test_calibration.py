"""Calibration on forecasts whose faults are known."""

import numpy as np
import pytest
from backsight_model import calibration
from backsight_model.instants import Instants

HORIZON = 24
LAG = 4 * HORIZON
HOUR = np.timedelta64(3600, "s")


def errors(seed: int, n: int = 6000) -> np.ndarray:
    """Gaussian residuals of unit deviation that overlap over 24 rows."""
    total = np.concatenate([[0.0], np.cumsum(np.random.default_rng(seed).standard_normal(n + HORIZON))])
    return (total[HORIZON : HORIZON + n] - total[:n]) / np.sqrt(HORIZON)


def apart(n: int) -> Instants:
    """Return the instants of forecasts of one symbol."""
    return Instants.of(clocks(n)[1])


def clocks(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    at = np.datetime64("2024-01-01", "us") + np.arange(n) * HOUR
    return 1 + np.arange(n) * 4 // n, at, at + HORIZON * HOUR


def test_reliability_by_hand() -> None:
    found = calibration.reliability(
        np.array([0.1, 0.2, 0.6, 0.8]), np.array([False, True, True, True]), overlap=1, bins=2
    )
    np.testing.assert_allclose(found.forecast, [0.15, 0.7])
    np.testing.assert_allclose(found.came, [0.5, 1.0])
    assert found.count.tolist() == [2, 2]
    assert found.error == pytest.approx((0.35 + 0.3) / 2)
    assert ((found.low <= found.came) & (found.came <= found.high + 1e-12)).all()


def test_overlap_widens_the_interval_of_a_frequency() -> None:
    rng = np.random.default_rng(1)
    p_up = rng.uniform(0.3, 0.7, 4000)
    up = rng.random(4000) < p_up
    one, day = (calibration.reliability(p_up, up, overlap=overlap) for overlap in (1, 24))
    assert ((day.high - day.low) > 3 * (one.high - one.low)).all()
    assert ((one.low < one.forecast) & (one.forecast < one.high)).mean() >= 0.8


def test_one_repeated_forecast_is_one_bin() -> None:
    found = calibration.reliability(np.full(10, 0.5), np.arange(10) < 7, overlap=1)
    assert found.count.tolist() == [10]
    assert found.error == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("shift", "scale", "words"),
    [
        (0.0, 1.0, "not contradicted"),
        (0.5, 1.0, "too low"),
        (-0.5, 1.0, "too high"),
        (0.0, 2.0, "too narrow"),
        (0.0, 0.5, "too wide"),
    ],
)
def test_the_transform_names_the_fault(shift: float, scale: float, words: str) -> None:
    found = calibration.transform(scale * errors(2) + shift, np.ones(6000), instants=apart(6000), lag=LAG)
    assert found.words == words
    assert ((found.values >= 0) & (found.values <= 1)).all()


def contradicted(runs: int) -> tuple[float, float, float]:
    centre, spread, cover = 0, 0, 0
    for seed in range(runs):
        residual = errors(1000 + seed, 5000)
        found = calibration.transform(residual, np.ones(5000), instants=apart(5000), lag=LAG)
        centre += found.centre_p < 0.05
        spread += found.spread_p < 0.05
        radius = calibration.gaussian_radius(np.ones(5000), 0.8)
        cover += calibration.coverage(residual, radius, level=0.8, instants=apart(5000), lag=LAG).p_value < 0.05
    return centre / runs, spread / runs, cover / runs


def test_a_right_density_is_rarely_contradicted() -> None:
    assert max(contradicted(200)) < 0.1


@pytest.mark.prove
def test_sizes_on_many_runs() -> None:
    centre, spread, cover = contradicted(3000)
    print(f"a right density contradicted at 5 %: centre {centre:.3f}, spread {spread:.3f}, coverage {cover:.3f}")
    assert all(0.03 < size < 0.08 for size in (centre, spread, cover))


def test_gaussian_intervals_cover_what_they_promise() -> None:
    residual = np.random.default_rng(3).standard_normal(20_000)
    for level in calibration.LEVELS:
        radius = calibration.gaussian_radius(np.ones(20_000), level)
        found = calibration.coverage(residual, radius, level=level, instants=apart(20_000), lag=0)
        assert found.share == pytest.approx(level, abs=0.01)
        assert found.p_value > 0.01
    narrow = calibration.coverage(residual, np.full(20_000, 1.0), level=0.9, instants=apart(20_000), lag=0)
    assert narrow.share == pytest.approx(0.68, abs=0.02)
    assert narrow.p_value < 1e-6
    assert narrow.width == 2.0


def test_conformal_intervals_mend_heavy_tails() -> None:
    residual = np.random.default_rng(4).standard_t(3, 20_000)
    fold, at, label_at = clocks(20_000)
    for plain, conformal in calibration.intervals(
        residual, np.full(20_000, 1.0), fold=fold, at=at, label_at=label_at, alone=[np.arange(20_000)], lag=0
    ):
        assert abs(conformal.share - conformal.level) < 0.012 < abs(plain.share - plain.level)
        assert conformal.count == plain.count == 15_000


def test_conformal_intervals_are_mapies() -> None:
    from mapie.regression import SplitConformalRegressor
    from sklearn.base import BaseEstimator, RegressorMixin

    class Nought(RegressorMixin, BaseEstimator):  # type: ignore[misc]
        fitted_ = True

        def fit(self, x: np.ndarray, y: np.ndarray) -> "Nought":
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            return np.zeros(len(x))

    residual = errors(5, 400)
    fold, at, label_at = clocks(400)
    fold = 1 + (fold > 2)
    past = label_at <= at[fold == 2].min()
    judge = SplitConformalRegressor(Nought(), confidence_level=[0.8, 0.9], prefit=True)
    judge.conformalize(np.zeros((past.sum(), 1)), residual[past])
    bounds = judge.predict_interval(np.zeros((1, 1)))[1][0, 1]
    for level, bound in zip((0.8, 0.9), bounds, strict=True):
        radius = calibration.conformal_radius(residual, np.ones(400), fold=fold, at=at, label_at=label_at, level=level)
        assert np.isnan(radius[fold == 1]).all()
        np.testing.assert_allclose(radius[fold == 2], bound)


def test_no_interval_knows_its_own_fold_or_what_was_not_yet_known() -> None:
    residual = errors(6, 2000)
    fold, at, label_at = clocks(2000)
    start = at[fold == 3].min()
    changed = np.where(label_at > start, 99.0, residual)
    one, other = (
        calibration.conformal_radius(values, np.ones(2000), fold=fold, at=at, label_at=label_at, level=0.9)
        for values in (residual, changed)
    )
    np.testing.assert_array_equal(one[fold <= 3], other[fold <= 3])
    assert (one[fold == 4] != other[fold == 4]).all()


def test_too_few_past_labels_give_no_interval() -> None:
    fold, at, _ = clocks(40)
    everything = {"fold": fold, "at": at, "label_at": at, "alone": [np.arange(40)]}
    made = calibration.intervals(np.arange(40.0), np.ones(40), **everything, lag=0, levels=(0.5, 0.99))
    assert [plain.level for plain, _ in made] == [0.5]
