"""The network: a small LSTM on what a straight line leaves, with a head for volatility and one for direction."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backsight_model.arrays import Float32Array, FloatArray, IndexArray, IntArray
from backsight_model.linear import Line
from backsight_model.quiet import keras_warnings_hidden, native_messages_hidden
from backsight_model.settings import Settings

# TensorFlow reads these when it is imported. oneDNN's reordered sums would differ between kinds of machines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
with native_messages_hidden():
    import keras
    import tensorflow as tf

# Every fold builds a model of its own, which TensorFlow takes for an accident.
tf.get_logger().setLevel("ERROR")

DIRECTION_WEIGHT = 2.0
"""Log loss moves about a quarter as much as half a squared deviation; the heads share one LSTM evenly."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A trained network.

    Attributes
    ----------
    model : keras.Model
        From scaled windows (n, L, C) to (n, 2): residual of log realised variance in units of its training
        deviation, and logit of P(up).
    epochs : tuple of int
        How many epochs each member learnt until it did best on the validation tail; 0 where the straight
        line alone did best, so that the LSTM adds nothing.
    """

    model: Any
    epochs: tuple[int, ...]

    @keras_warnings_hidden()
    def predict(self, rows: Float32Array, index: IndexArray) -> FloatArray:
        """Return the outputs for windows given as row numbers of `rows`: shape (n, 2)."""
        return np.asarray(self.model.predict(_windows(rows, index), verbose=0), dtype=np.float64)

    @keras_warnings_hidden()
    def save(self, folder: Path) -> None:
        """Write ``model.keras`` and ``model.onnx``."""
        self.model.save(folder / "model.keras")
        self.model(np.zeros((1, *self.model.input_shape[1:]), dtype=np.float32))  # Keras exports what was called once.
        self.model.export(str(folder / "model.onnx"), format="onnx", verbose=False)


@keras_warnings_hidden()
def train(
    rows: Float32Array,
    index: IndexArray,
    targets: FloatArray,
    *,
    fit: IntArray,
    valid: IntArray,
    line: Line,
    settled: Line,
    settings: Settings,
    seed: int,
) -> Network:
    """Return a network trained on `fit` and stopped by `valid`.

    Parameters
    ----------
    rows : ndarray of shape (N + 1, C)
        Scaled rows; windows are gathered from them on the fly and never stored.
    index : ndarray of shape (n, L)
        Row numbers of each window.
    targets : ndarray of shape (n, 2)
        Residual of log realised variance in units of its training deviation; 1 where the price rose.
    fit, valid : ndarray of int
        Sample numbers.
    line : Line
        The straight line learnt from `fit`; the LSTM learns what it leaves.
    settled : Line
        The one learnt from `fit` and `valid`, which takes its place once training has stopped.
    settings : Settings
        Width, regularisation and training.
    seed : int
        Of the first member; same seed, same machine kind, same weights, bit for bit.
    """
    tf.config.experimental.enable_op_determinism()
    table = tf.constant(rows)

    def gathered(some: Any, wanted: Any) -> Any:
        return tf.gather(table, some), wanted

    def dataset(which: IntArray) -> Any:
        chosen = which[:: settings.stride]
        return tf.data.Dataset.from_tensor_slices((index[chosen], targets[chosen].astype(np.float32)))

    stop_by = dataset(valid).batch(1024).map(gathered)
    members, epochs = [], []
    for member in range(settings.members):
        keras.utils.set_random_seed(seed + member)
        model = _build(index.shape[1], rows.shape[1], settings)
        model.get_layer("line").set_weights([line.weights, line.bias])
        start, loss_at_start = model.get_weights(), model.evaluate(stop_by, verbose=0)
        learn = dataset(fit).shuffle(len(fit), seed=seed + member).batch(settings.batch).map(gathered)
        stopping = keras.callbacks.EarlyStopping(patience=settings.patience, restore_best_weights=True)
        # The dataset shuffles by itself; Keras warns if it is asked to as well.
        history = model.fit(
            learn, validation_data=stop_by, epochs=settings.epochs, shuffle=False, callbacks=[stopping], verbose=0
        )
        losses = history.history["val_loss"]
        best = int(np.argmin(losses)) + 1
        if not min(losses) < loss_at_start:
            model.set_weights(start)
            best = 0
        model.get_layer("line").set_weights([settled.weights, settled.bias])
        members.append(model)
        epochs.append(best)
    return Network(model=_mean(members), epochs=tuple(epochs))


def _windows(rows: Float32Array, index: IndexArray) -> Any:
    table = tf.constant(rows)
    return tf.data.Dataset.from_tensor_slices(index).batch(1024).map(lambda some: tf.gather(table, some))


def _build(length: int, width: int, settings: Settings) -> Any:
    window = keras.Input((length, width), name="window")
    line = keras.layers.Dense(2, trainable=False, name="line")(window[:, -1, :])
    hidden = keras.layers.Dropout(settings.dropout)(window)
    hidden = keras.layers.Dense(settings.projection)(hidden)
    hidden = keras.layers.LSTM(settings.units)(hidden)
    hidden = keras.layers.Dropout(settings.dropout)(hidden)
    # Starts at 0, so that training starts from the line; no bias, so that it cannot drift to the last week's mean.
    bend = keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros")(hidden)
    model = keras.Model(window, keras.layers.Add()([line, bend]))
    model.compile(
        optimizer=keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay), loss=_loss
    )
    # Else the first step would make the optimizer's variables, and TensorFlow trace the step a second time.
    model.optimizer.build(model.trainable_variables)
    return model


def _loss(wanted: Any, output: Any) -> Any:
    residual = 0.5 * tf.square(wanted[:, 0] - output[:, 0])
    direction = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted[:, 1], logits=output[:, 1])
    return residual + DIRECTION_WEIGHT * direction


def _mean(members: list[Any]) -> Any:
    """Return one model that averages the members, without their losses and optimizers."""
    window = keras.Input(members[0].input_shape[1:], name="window")
    for number, member in enumerate(members):
        member.name = f"member_{number}"
    outputs = [member(window) for member in members]
    return keras.Model(window, keras.layers.Average()(outputs) if len(outputs) > 1 else outputs[0])
