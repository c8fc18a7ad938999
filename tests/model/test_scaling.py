"""Scaling is learnt from the rows given, feature by feature, and travels as JSON."""

import json

import numpy as np
import pytest
from backsight_features.errors import BadInput
from backsight_model.scaling import Scaler, fit_scaler
from backsight_model.treatments import DECLARED, Treatment, Treatments, of

NAN = np.float32("nan")


def rows(seed: int = 0, n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = np.column_stack([100 + 5 * rng.standard_normal(n), rng.standard_normal(n), np.full(n, 0.1), np.full(n, NAN)])
    made[::7, 1] = NAN
    return made.astype(np.float32)


FEATURES = ("price", "noise", "constant", "absent")


def test_training_rows_come_out_standardised_with_null_as_zero() -> None:
    scaler = fit_scaler(rows(), FEATURES)
    out = scaler.transform(rows())
    seen = ~np.isnan(rows()[:, 1])
    assert out.shape == (400, 5)
    for column, which in ((0, slice(None)), (1, seen)):
        assert out[which, column].mean() == pytest.approx(0, abs=1e-5)
        assert out[which, column].std() == pytest.approx(scaler.weight[column], rel=1e-4)
    assert not out[~seen, 1].any()
    assert not out[:, 2:4].any()


def test_presence_says_what_was_defined() -> None:
    out = fit_scaler(rows(), FEATURES).transform(
        np.array([[1, 1, 1, 1], [1, NAN, 1, NAN], [NAN] * 4], dtype=np.float32)
    )
    assert out[:, -1].tolist() == [1.0, 0.5, 0.0]
    assert not out[2].any()


def test_what_never_moves_or_is_never_there_leaves_all_else_as_it_is() -> None:
    both = rows()
    both[3] = NAN
    scaler, alone = fit_scaler(both, FEATURES), fit_scaler(both[:, :2], FEATURES[:2])
    out = scaler.transform(both)
    np.testing.assert_array_equal(np.delete(out, [2, 3], axis=1), alone.transform(both[:, :2]))
    assert not out[:, [2, 3]].any()
    # What the penalty of the straight lines goes by: a source without facts must not shrink the others.
    assert np.square(scaler.weight).sum() == np.square(alone.weight).sum()


def test_one_wild_value_changes_little_and_is_clipped() -> None:
    wild = rows()
    wild[5, 0] = 1e9
    tame, scared = fit_scaler(rows(), FEATURES), fit_scaler(wild, FEATURES)
    assert scared.scale[0] == pytest.approx(tame.scale[0], rel=0.1)
    assert abs(scared.transform(wild)[5, 0]) < 4


def test_a_level_that_hardly_moved_is_shrunk_and_a_rhythm_is_not() -> None:
    n = 672 * 12
    hours = np.arange(n)
    made = np.column_stack([hours // 672, np.sin(hours * 2 * np.pi / 24)]).astype(np.float32)
    scaler = fit_scaler(made, ("level", "hour_sin"))
    assert scaler.weight[0] < 0.05
    assert scaler.weight[1] > 0.99


EACH: Treatments = (
    ("price", Treatment(kind="robust", tail=0.05)),
    ("noise", Treatment(kind="rank", mask=True)),
    ("growth_*", Treatment(kind="log", tail=0.0)),
    ("absent", Treatment(kind="rank", mask=True)),
    *DECLARED,
)
NAMES = (*FEATURES, "growth_24h")


def mixed(seed: int = 0) -> np.ndarray:
    growth = np.random.default_rng(seed + 9).standard_normal(400) ** 3 * 50
    return np.column_stack([rows(seed), growth]).astype(np.float32)


def test_each_feature_is_treated_as_declared() -> None:
    made = mixed()
    scaler = fit_scaler(made, NAMES, declared=EACH)
    out = scaler.transform(made).astype(np.float64)
    assert scaler.width == out.shape[1] == 5 + 1 + 2
    plain = out[:, :5] / np.where(scaler.scale > 0, scaler.weight, 1)

    price = np.clip(made[:, 0].astype(np.float64), *np.quantile(made[:, 0].astype(np.float64), [0.05, 0.95]))
    lower, middle, upper = np.quantile(price, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(plain[:, 0], (price - middle) / ((upper - lower) / 1.34898), rtol=1e-5, atol=1e-6)

    seen = ~np.isnan(made[:, 1])
    order = made[seen, 1].argsort().argsort() / (seen.sum() - 1)
    np.testing.assert_allclose(plain[seen, 1], np.sqrt(12) * (order - 0.5), atol=0.03)
    np.testing.assert_array_equal(out[:, 6], ~seen)
    np.testing.assert_array_equal(out[:, 7], 1)
    assert not out[:, 2:4].any()

    logs = np.sign(made[:, 4]) * np.log1p(np.abs(made[:, 4].astype(np.float64)))
    np.testing.assert_allclose(plain[:, 4], (logs - logs.mean()) / logs.std(), rtol=1e-5, atol=1e-6)


def test_a_treatment_is_undone() -> None:
    made = mixed()
    scaler = fit_scaler(made, NAMES, declared=EACH)
    again = scaler.inverse(scaler.transform(made))
    inside = (made[:, 0] > scaler.low[0]) & (made[:, 0] < scaler.high[0])
    np.testing.assert_allclose(again[inside, 0], made[inside, 0], rtol=1e-5)
    np.testing.assert_allclose(again[~inside, 0], np.clip(made[~inside, 0], scaler.low[0], scaler.high[0]), rtol=1e-5)
    np.testing.assert_allclose(again[:, 2], 0.1, rtol=1e-6)
    np.testing.assert_allclose(again[:, 4], made[:, 4], rtol=1e-4, atol=1e-4)
    assert np.isnan(again[:, 3]).all()
    missing = np.isnan(made[:, 1])
    assert np.isnan(again[missing, 1]).all()
    bounds = np.nanquantile(made[:, 1], [0.005, 0.995])
    np.testing.assert_allclose(again[~missing, 1], np.clip(made[~missing, 1], *bounds), atol=0.05)
    gap = scaler.transform(np.full((1, 5), NAN))
    assert np.isnan(scaler.inverse(gap)).all()


def test_a_rank_of_values_that_repeat_lies_in_their_middle() -> None:
    counts = np.tile([0, 1, 0, 5], 100).astype(np.float32)[:, None]
    made = fit_scaler(counts, ("count",), declared=(("*", Treatment(kind="rank")),)).transform(
        np.array([[0], [1], [3], [5], [9]], dtype=np.float32)
    )[:, 0]
    assert made[0] < made[1] < made[2] < made[3] == made[4]
    assert (made[1] - made[0]) / (made[3] - made[1]) == pytest.approx(1.5, rel=0.05)


def test_new_rows_are_scaled_by_what_training_rows_taught() -> None:
    scaler = fit_scaler(mixed(), NAMES, declared=EACH)
    wild = mixed(1) * np.float32(1e6)
    out = scaler.transform(wild)
    np.testing.assert_array_equal(out[7], scaler.transform(wild[7:8])[0])
    assert np.abs(out[:, :4]).max() < 5
    assert np.isfinite(out).all()


def test_a_treatment_must_be_one_that_there_is() -> None:
    with pytest.raises(BadInput, match="kind 'minmax', it must be one of standard, robust, log, rank"):
        Treatment(kind="minmax")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"clips 0\.5"):
        Treatment(tail=0.5)
    with pytest.raises(BadInput, match="no treatment is declared for noise"):
        of("noise", (("price", Treatment()),))
    assert of("anything", DECLARED) == Treatment()


@pytest.mark.parametrize("declared", [DECLARED, EACH])
def test_json_round_trip_is_bit_for_bit(declared: Treatments) -> None:
    scaler = fit_scaler(mixed(), NAMES, declared=declared)
    again = Scaler.from_json(json.loads(json.dumps(scaler.to_json())))
    assert again.to_json() == scaler.to_json()
    np.testing.assert_array_equal(again.transform(mixed(1)), scaler.transform(mixed(1)))
    for name in ("low", "high", "mean", "scale", "weight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scaler, name))


def test_another_number_of_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="knows 4 features"):
        fit_scaler(rows(), FEATURES).transform(rows()[:, :3])
