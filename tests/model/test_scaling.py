"""Scaling is learnt from the rows given, feature by feature, and travels as JSON."""

import json

import numpy as np
import pytest
from backsight_model.scaling import Scaler, fit_scaler

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


def test_json_round_trip_is_bit_for_bit() -> None:
    scaler = fit_scaler(rows(), FEATURES)
    again = Scaler.from_json(json.loads(json.dumps(scaler.to_json())))
    assert again.features == scaler.features
    for name in ("low", "high", "mean", "scale", "weight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scaler, name))


def test_another_number_of_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="knows 4 features"):
        fit_scaler(rows(), FEATURES).transform(rows()[:, :3])
