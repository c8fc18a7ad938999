"""The network: a small LSTM on what straight lines leave, with heads for volatility, direction and the return."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from backsight_features.errors import BadInput

from backsight_model.arrays import Float32Array, FloatArray, IndexArray, IntArray, TimeArray
from backsight_model.blocklstm import BlockLSTM
from backsight_model.engine import keras, tf
from backsight_model.linear import LOGIT, OUTPUTS, QUANTILES, RESIDUAL, Line
from backsight_model.quantiles import LEVELS, MIDDLE, MOVES, STEPS
from backsight_model.quiet import keras_warnings_hidden
from backsight_model.settings import Settings

DIRECTION_WEIGHT, RETURN_WEIGHT = 2.0, 0.25
"""Log loss moves about a quarter as much as half a squared deviation; the two share one LSTM evenly. Pinball loss has a
small say in when to stop, and none in what the LSTM finds: neither of the two is worse for it."""
TARGETS = 3
"""What is wanted of each horizon: the residual, whether the price rose, the scaled return."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A trained network.

    Attributes
    ----------
    model : keras.Model
        From scaled windows (n, L, C) to (n, K (2 + Q)), the outputs of K horizons in turn: residual of log realised
        variance in units of its training deviation, logit of P(up), and quantiles of the return over the deviation
        that HAR-X forecast.
    epochs : tuple of int
        How many epochs each member learnt until it did best on the validation tail; 0 where what it started
        from did best: the straight line alone, so that the LSTM adds nothing, or the network of a warm start.
    host : keras.Model, optional
        A model of a member's shape that members take turns to be asked in; each is asked itself unless given.
    """

    model: Any
    epochs: tuple[int, ...]
    host: Any = None

    @property
    def members(self) -> list[Any]:
        """The networks that are averaged."""
        return [layer for layer in self.model.layers if layer.name.startswith("member_")]

    def predict(self, rows: Float32Array, index: IndexArray) -> FloatArray:
        """Return the outputs for windows given as row numbers of `rows`: shape (n, K (2 + Q))."""
        outputs: FloatArray = self.predict_each(rows, index).mean(axis=0)
        return outputs

    @keras_warnings_hidden()
    def predict_each(self, rows: Float32Array, index: IndexArray) -> FloatArray:
        """Return the outputs of each member alone: shape (members, n, K (2 + Q))."""
        windows = _windows(rows, index)

        def asked(member: Any) -> FloatArray:
            if self.host is not None:
                self.host.set_weights(member.get_weights())
            return np.asarray((self.host or member).predict(windows, verbose=0), dtype=np.float64)

        return np.stack([asked(member) for member in self.members])

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
    at: TimeArray,
    fit: IntArray,
    valid: IntArray,
    line: Line,
    settled: Line,
    settings: Settings,
    seed: int,
    warm: Network | None = None,
) -> Network:
    """Return a network trained on `fit` and stopped by `valid`.

    Parameters
    ----------
    rows : ndarray of shape (N + 1, C)
        Scaled rows; windows are gathered from them on the fly and never stored.
    index : ndarray of shape (n, L)
        Row numbers of each window.
    targets : ndarray of shape (n, 3 K)
        Of each horizon in turn: residual of log realised variance in units of its training deviation; 1 where the price
        rose; return over the deviation that HAR-X forecast.
    at : ndarray of shape (n,), datetime64[us]
        Instant of each sample: how many and every how manyth are learnt from goes by these, whatever shares one.
    fit, valid : ndarray of int
        Sample numbers in time order.
    line : Line
        The straight lines learnt from `fit`; the LSTM learns what they leave.
    settled : Line
        The one learnt from `fit` and `valid`, which takes its place once training has stopped.
    settings : Settings
        Width, regularisation and training.
    seed : int
        Of the first member; same seed, same machine kind, same weights, bit for bit.
    warm : Network, optional
        An earlier network to go on from, with the smaller effort of `Settings.warm`. Its weights mean something for
        rows that are scaled as its own were, or nearly.

    Raises
    ------
    BadInput
        Where `warm` is of another shape than `settings` ask for.
    """
    if warm is not None and len(warm.members) != settings.members:
        raise BadInput(
            f"a warm start needs {settings.members} members, the earlier network has {len(warm.members)}; train cold"
        )
    effort = settings if warm is None else settings.warm()
    tf.config.experimental.enable_op_determinism()
    table = tf.constant(rows)
    # A penalty that shrinks would look like a gain.
    watched = "unpenalised" if effort.recurrent_l2 else "loss"
    learn_from = thinned(fit, at, stride=effort.stride, newest=effort.newest)
    stop_by = batches(table, index, targets, thinned(valid, at, stride=effort.stride), batch=1024)
    shape, horizons = (index.shape[1], rows.shape[1]), targets.shape[1] // TARGETS
    trainer = _trainer(*shape, effort, horizons)
    members, epochs = [], []
    for member in range(effort.members):
        keras.utils.set_random_seed(seed + member)
        model = _build(*shape, effort, horizons=horizons)
        if warm is not None:
            _start_from(model, warm.members[member])
        model.get_layer("line").set_weights([line.weights, line.bias])
        for held, fresh in zip(_state(trainer), _state(model), strict=True):
            held.assign(fresh)
        loss_at_start = trainer.evaluate(stop_by, verbose=0, return_dict=True)[watched]
        learn = batches(table, index, targets, learn_from, batch=effort.batch, shuffle=seed + member)
        stopping = keras.callbacks.EarlyStopping(
            monitor=f"val_{watched}", mode="min", patience=effort.patience, restore_best_weights=True
        )
        # The dataset shuffles by itself; Keras warns if it is asked to as well.
        history = trainer.fit(
            learn, validation_data=stop_by, epochs=effort.epochs, shuffle=False, callbacks=[stopping], verbose=0
        )
        losses = history.history[f"val_{watched}"]
        gained = min(losses) < loss_at_start
        if gained:
            model.set_weights(trainer.get_weights())
        model.get_layer("line").set_weights([settled.weights, settled.bias])
        members.append(model)
        epochs.append(int(np.argmin(losses)) + 1 if gained else 0)
    return Network(model=_mean(members), epochs=tuple(epochs), host=trainer)


@keras_warnings_hidden()
def load(folder: Path) -> Network:
    """Return the network that `Network.save` wrote; how long it had learnt is not kept."""
    known = {"_loss": _loss}  # of the members, which are not compiled again and name it all the same
    return Network(model=keras.models.load_model(folder / "model.keras", known, compile=False), epochs=())


def thinned(samples: IntArray, at: TimeArray, *, stride: int, newest: int | None = None) -> IntArray:
    """Return the samples of every so manyth instant, of the newest so many instants.

    >>> two_each = np.repeat(np.datetime64("2024-01-01", "us") + np.arange(4), 2)
    >>> thinned(np.arange(8), two_each, stride=2, newest=3).tolist()
    [2, 3, 6, 7]
    """
    instants, place = np.unique(at[samples], return_inverse=True)
    place = place - (0 if newest is None else max(0, len(instants) - newest))
    kept: IntArray = samples[(place >= 0) & (place % stride == 0)]
    return kept


def batches(
    table: Any, index: IndexArray, targets: FloatArray, which: IntArray, *, batch: int, shuffle: int | None = None
) -> Any:
    """Return a dataset of (windows, targets), the windows gathered a batch at a time.

    Parameters
    ----------
    table : tf.Tensor of shape (N + 1, C)
        Scaled rows, held once.
    index : ndarray of shape (n, L)
        Row numbers of each window.
    targets : ndarray of shape (n, T)
    which : ndarray of shape (k,)
        Sample numbers.
    batch : int
        Samples per batch.
    shuffle : int, optional
        Seed of another order in each epoch; as in `which` unless given.
    """
    slots, wanted = tf.constant(index), tf.constant(targets.astype(np.float32))
    # Sample numbers are shuffled, not windows: what is held does not grow with L but for the index.
    chosen = tf.data.Dataset.from_tensor_slices(which)
    chosen = chosen if shuffle is None else chosen.shuffle(len(which), seed=shuffle)
    return chosen.batch(batch).map(lambda some: (tf.gather(table, tf.gather(slots, some)), tf.gather(wanted, some)))


def _windows(rows: Float32Array, index: IndexArray) -> Any:
    table = tf.constant(rows)
    return tf.data.Dataset.from_tensor_slices(index).batch(1024).map(lambda some: tf.gather(table, some))


def _build(length: int, width: int, settings: Settings, *, horizons: int = 1) -> Any:
    window = keras.Input((length, width), name="window")
    line = keras.layers.Dense(horizons * OUTPUTS, trainable=False, name="line")(window[:, -1, :])
    hidden = window
    if settings.instance_norm:
        # The projection that follows scales and shifts, so that RevIN's own weights would be the same twice.
        hidden = keras.layers.LayerNormalization(axis=1, epsilon=1e-5, center=False, scale=False)(hidden)
    hidden = keras.layers.Dropout(settings.dropout)(hidden)
    hidden = keras.layers.Dense(settings.projection)(hidden)
    for above in reversed(range(settings.layers)):
        hidden = BlockLSTM(
            settings.units,
            recurrent_regularizer=keras.regularizers.L2(settings.recurrent_l2) if settings.recurrent_l2 else None,
            return_sequences=settings.attention or above > 0,
        )(hidden)
        if above > 0:
            hidden = keras.layers.Dropout(settings.dropout)(hidden)
    hidden = _pooled(hidden, settings.units) if settings.attention else hidden
    hidden = keras.layers.Dropout(settings.dropout)(hidden)
    # Start at 0, so that training starts from the line; no bias, so that they cannot drift to the last week's mean.
    bend, spread = (
        keras.layers.Dense(2 * horizons, use_bias=False, kernel_initializer="zeros")(found)
        # Volatility and direction are the scale and the place of the return: its quantiles read what is found for them.
        for found in (hidden, keras.ops.stop_gradient(hidden))
    )
    moved = keras.ops.matmul(keras.layers.Reshape((horizons, 2))(spread), MOVES.astype(np.float32))
    bent = keras.layers.Concatenate(axis=2)([keras.layers.Reshape((horizons, 2))(bend), moved])
    raw = keras.layers.Add()([keras.layers.Reshape((horizons, OUTPUTS))(line), bent])
    model = keras.Model(window, _ordered(raw))
    model.compile(
        optimizer=keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay),
        loss=_loss,
        metrics=[keras.metrics.MeanMetricWrapper(_loss, name="unpenalised")] if settings.recurrent_l2 else None,
    )
    # Else the first step would make the optimizer's variables, and TensorFlow trace the step a second time.
    model.optimizer.build(model.trainable_variables)
    return model


@lru_cache(maxsize=4)
def _trainer(length: int, width: int, settings: Settings, horizons: int) -> Any:
    """Return a model that others take turns to be trained in: to trace its steps takes as long as a small training."""
    return _build(length, width, settings, horizons=horizons)


def _state(model: Any) -> list[Any]:
    """Return all that training reads and changes: weights, what dropout draws from, and the optimizer's variables."""
    return [*model.variables, *model.optimizer.variables]


def _pooled(states: Any, units: int) -> Any:
    """Return the mean of states (n, L, units) with weights that are learnt from each: shape (n, units)."""
    share = keras.layers.Softmax(axis=1)(keras.layers.Dense(1, use_bias=False)(states))
    return keras.layers.Reshape((units,))(keras.layers.Dot(axes=1)([share, states]))


def _start_from(model: Any, earlier: Any) -> None:
    mine, known = ([weight.shape for weight in one.get_weights()] for one in (model, earlier))
    if mine != known:
        raise BadInput(f"a warm start needs weights of shapes {mine}, the earlier network has {known}; train cold")
    model.set_weights(earlier.get_weights())


def _ordered(raw: Any) -> Any:
    """Return raw outputs (n, K, 2 + Q) in a row, the quantiles put in order as `quantiles.ordered` does it."""
    steps = raw[:, :, QUANTILES]
    moved = keras.ops.matmul(keras.ops.softplus(steps), STEPS.astype(np.float32))
    quantiles = steps[:, :, MIDDLE : MIDDLE + 1] + moved
    return keras.layers.Flatten()(keras.layers.Concatenate(axis=2)([raw[:, :, : QUANTILES.start], quantiles]))


def _loss(wanted: Any, output: Any) -> Any:
    """Return the mean over the horizons, so that more of them learn at the same pace."""
    wanted, output = tf.reshape(wanted, (-1, TARGETS)), tf.reshape(output, (-1, OUTPUTS))
    residual = 0.5 * tf.square(wanted[:, 0] - output[:, RESIDUAL])
    direction = tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted[:, 1], logits=output[:, LOGIT])
    above, level = wanted[:, 2:] - output[:, QUANTILES], tf.constant(LEVELS)
    pinball = tf.reduce_mean(tf.maximum(level * above, (level - 1.0) * above), axis=-1)
    return residual + DIRECTION_WEIGHT * direction + RETURN_WEIGHT * pinball


def _mean(members: list[Any]) -> Any:
    """Return one model that averages the members, without their losses and optimizers."""
    window = keras.Input(members[0].input_shape[1:], name="window")
    for number, member in enumerate(members):
        member.name = f"member_{number}"
    outputs = [member(window) for member in members]
    return keras.Model(window, keras.layers.Average()(outputs) if len(outputs) > 1 else outputs[0])
