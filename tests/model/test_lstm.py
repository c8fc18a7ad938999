"""The network: what may be switched on, what a warm start keeps, and that a seed decides everything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from backsight_features.errors import BadInput
from backsight_model.linear import LOGIT, OUTPUTS, QUANTILES, RESIDUAL, Line
from backsight_model.settings import Settings

pytestmark = pytest.mark.slow

LENGTH, WIDTH, SAMPLES = 8, 3, 500
SMALL = Settings(members=1, epochs=2, units=4, projection=4, stride=1, dropout=0.1, learning_rate=1e-2, batch=32)
AT = np.datetime64("2024-01-01", "us") + np.arange(SAMPLES)
FIT, VALID = np.arange(350), np.arange(370, SAMPLES)
FLAT = Line(weights=np.zeros((WIDTH, OUTPUTS)), bias=np.zeros(OUTPUTS))


@pytest.fixture(scope="module")
def lstm() -> Any:
    from backsight_model import lstm

    return lstm


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, index and targets; volatility follows a feature of the newest slot, which `FLAT` leaves to learn."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((SAMPLES + LENGTH, WIDTH)).astype(np.float32)
    index = (np.arange(SAMPLES)[:, None] + np.arange(LENGTH)).astype(np.int32)
    wanted = [2 * rows[index[:, -1], 0], np.full(SAMPLES, 0.5), rng.standard_normal(SAMPLES)]
    return rows, index, np.column_stack(wanted)


@pytest.fixture(scope="module")
def train(lstm: Any, sample: tuple[np.ndarray, ...]) -> Any:
    """Return a function that trains on the sample."""
    rows, index, targets = sample

    def trained(settings: Settings, *, targets: np.ndarray = targets, line: Line = FLAT, **more: Any) -> Any:
        parts = {"at": AT, "fit": FIT, "valid": VALID, "line": line, "settled": line, "seed": 3}
        return lstm.train(rows, index, targets, settings=settings, **parts | more)

    return trained


@pytest.fixture(scope="module")
def cold(train: Any) -> Any:
    return train(SMALL)


def weights(network: Any) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in network.model.get_weights()])


EVERYTHING = replace(SMALL, epochs=1, layers=2, recurrent_l2=1e-3, instance_norm=True, attention=True)


def test_all_variants_together_repeat_themselves_and_leave_as_onnx(
    lstm: Any, train: Any, sample: tuple[np.ndarray, ...], tmp_path: Path
) -> None:
    rows, index, _ = sample
    one, other, same = train(EVERYTHING), train(EVERYTHING, seed=8), train(EVERYTHING)
    assert (weights(one) != weights(other)).any()
    np.testing.assert_array_equal(weights(one), weights(same))
    # Nor does it matter whether anything was trained before.
    lstm._trainer.cache_clear()
    np.testing.assert_array_equal(weights(one), weights(train(EVERYTHING)))
    one.save(tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    given = session.run(None, {session.get_inputs()[0].name: rows[index[:20]]})[0]
    np.testing.assert_allclose(given, one.predict(rows, index[:20]), atol=1e-5)
    np.testing.assert_array_equal(lstm.load(tmp_path).predict(rows, index[:20]), one.predict(rows, index[:20]))


def test_a_second_layer_lies_on_the_first(lstm: Any) -> None:
    shapes = {
        layers: [weight.shape for weight in bent(lstm, replace(SMALL, layers=layers)).weights] for layers in (1, 2)
    }
    assert shapes[1].count((4, 16)) == 2
    assert shapes[2].count((4, 16)) == 4


def test_what_was_planted_is_learnt(cold: Any, sample: tuple[np.ndarray, ...]) -> None:
    rows, index, targets = sample
    guessed = cold.predict(rows, index[VALID])[:, 0]
    assert cold.epochs[0] > 0
    assert np.corrcoef(guessed, targets[VALID, 0])[0, 1] > 0.2


def bent(lstm: Any, settings: Settings) -> Any:
    """Return an untrained network whose LSTM speaks."""
    model = lstm._build(LENGTH, WIDTH, settings)
    rng = np.random.default_rng(0)
    model.set_weights([rng.standard_normal(weight.shape) for weight in model.get_weights()])
    model.get_layer("line").set_weights([FLAT.weights, FLAT.bias])
    return model


def test_with_instance_norm_the_lstm_sees_no_level_and_no_scale(lstm: Any) -> None:
    window = np.random.default_rng(5).standard_normal((6, LENGTH, WIDTH)).astype(np.float32)
    moved = (window * [1, 2, 3] + [3, 2, 1]).astype(np.float32)
    plain, relative = bent(lstm, SMALL), bent(lstm, replace(SMALL, instance_norm=True))
    np.testing.assert_allclose(relative(window), relative(moved), atol=1e-3)
    assert np.abs(np.asarray(plain(window)) - np.asarray(plain(moved))).max() > 0.1
    still = np.ones((1, LENGTH, WIDTH), dtype=np.float32)
    assert np.isfinite(relative(still)).all()


def test_quantiles_of_random_weights_never_cross_and_a_silent_lstm_leaves_the_line(lstm: Any) -> None:
    window = np.random.default_rng(4).standard_normal((300, LENGTH, WIDTH)).astype(np.float32)
    model = bent(lstm, SMALL)
    assert (np.diff(np.asarray(model(window))[:, QUANTILES], axis=1) >= 0).all()
    untrained = lstm._build(LENGTH, WIDTH, SMALL)
    rng = np.random.default_rng(6)
    line = Line(weights=rng.standard_normal((WIDTH, OUTPUTS)), bias=rng.standard_normal(OUTPUTS))
    untrained.get_layer("line").set_weights([line.weights, line.bias])
    np.testing.assert_allclose(untrained(window), line.predict(window[:, -1]), atol=1e-4)


def test_attention_pools_all_states(lstm: Any) -> None:
    states = np.random.default_rng(2).standard_normal((5, LENGTH, 4)).astype(np.float32)
    keras = lstm.keras
    given = keras.Input((LENGTH, 4))
    pooling = keras.Model(given, lstm._pooled(given, 4))
    [direction] = pooling.get_weights()
    score = np.exp(states @ direction)
    np.testing.assert_allclose(
        pooling(states), (score / score.sum(axis=1, keepdims=True) * states).sum(axis=1), rtol=1e-4
    )


def recurrent(network: Any) -> float:
    [layer] = [layer for layer in network.members[0].layers if "LSTM" in type(layer).__name__]
    return float(np.square(layer.get_weights()[1]).sum())


def test_a_penalty_on_the_recurrent_weights_shrinks_them(train: Any, cold: Any) -> None:
    assert recurrent(train(replace(SMALL, recurrent_l2=1.0))) < 0.9 * recurrent(cold)


def test_a_penalty_that_shrinks_does_not_pass_for_a_gain(train: Any, sample: tuple[np.ndarray, ...]) -> None:
    opposite = sample[2].copy()
    opposite[VALID, 0] *= -1
    assert train(replace(SMALL, recurrent_l2=1.0), targets=opposite).epochs == (0,)


def test_a_warm_start_goes_on_from_what_was_learnt(train: Any, cold: Any, sample: tuple[np.ndarray, ...]) -> None:
    rows, index, targets = sample
    line = Line(weights=FLAT.weights.copy(), bias=FLAT.bias.copy())
    line.weights[:, RESIDUAL], line.bias[LOGIT] = 0.01, 0.1
    warm = train(SMALL, warm=cold, line=line)
    np.testing.assert_allclose(warm.members[0].get_layer("line").get_weights()[0], line.weights, rtol=1e-6)
    errors = [np.square(one.predict(rows, index[VALID])[:, 0] - targets[VALID, 0]).mean() for one in (cold, warm)]
    assert errors[1] < errors[0] + 0.01
    assert len(warm.epochs) == 1
    assert warm.epochs[0] <= 2


def test_a_warm_start_learns_from_the_newest_samples_only(
    train: Any, cold: Any, sample: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "warm", lambda self: replace(self, epochs=1, newest=100))
    older = sample[2].copy()
    older[FIT[:-100]] = 9.0
    newer = sample[2].copy()
    newer[FIT[-100:]] = 9.0
    one = weights(train(SMALL, warm=cold))
    np.testing.assert_array_equal(one, weights(train(SMALL, targets=older, warm=cold)))
    assert (one != weights(train(SMALL, targets=newer, warm=cold))).any()


def test_a_warm_start_needs_a_network_of_its_shape(train: Any, cold: Any) -> None:
    with pytest.raises(BadInput, match="the earlier network has"):
        train(replace(SMALL, units=5), warm=cold)
    with pytest.raises(BadInput, match="needs 2 members, the earlier network has 1"):
        train(replace(SMALL, members=2), warm=cold)


def test_layers_are_one_or_two() -> None:
    with pytest.raises(BadInput, match="layers is 3, it must be 1 or 2"):
        Settings(layers=3)
