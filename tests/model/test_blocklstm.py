"""The LSTM layer that trains in one operation: the outputs, gradients and weights of Keras' own."""

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

WINDOWS = np.random.default_rng(0).standard_normal((7, 12, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def blocklstm() -> Any:
    from backsight_model import blocklstm

    return blocklstm


def pair(blocklstm: Any, **settings: bool) -> tuple[Any, Any]:
    """Return a layer of each kind with the same weights, none of which is 0."""
    mine, known = blocklstm.BlockLSTM(6, **settings), blocklstm.keras.layers.LSTM(6, **settings)
    for layer in (mine, known):
        layer.build((None, 12, 5))
        rng = np.random.default_rng(1)
        layer.set_weights([rng.standard_normal(one.shape).astype(np.float32) for one in layer.get_weights()])
    return mine, known


def learnt(tf: Any, layer: Any) -> list[Any]:
    """Return what a layer puts out in training, and the gradients of its input and its weights."""
    window = tf.constant(WINDOWS)
    with tf.GradientTape() as tape:
        tape.watch(window)
        out = layer(window, training=True)
        loss = tf.reduce_sum(out * tf.cos(tf.range(6, dtype=tf.float32)))
    return [out, *tape.gradient(loss, [window, *(one.value for one in layer.trainable_weights)])]


@pytest.mark.parametrize("settings", [{}, {"return_sequences": True}])
def test_it_trains_as_the_layer_of_keras(blocklstm: Any, settings: dict[str, bool]) -> None:
    mine, known = (learnt(blocklstm.tf, layer) for layer in pair(blocklstm, **settings))
    for one, other in zip(mine, known, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_it_forecasts_bit_for_bit_as_the_layer_of_keras(blocklstm: Any) -> None:
    mine, known = pair(blocklstm)
    np.testing.assert_array_equal(mine(WINDOWS), known(WINDOWS))


def test_it_trains_in_one_operation_and_without_a_loop(blocklstm: Any) -> None:
    mine, _ = pair(blocklstm)
    step = blocklstm.tf.function(lambda window: mine(window, training=True))
    kinds = {one.type for one in step.get_concrete_function(blocklstm.tf.constant(WINDOWS)).graph.get_operations()}
    assert "BlockLSTM" in kinds
    assert not any("While" in kind for kind in kinds)
