"""The usual tutorial, as a warning: what its three recipes would claim, beside what their forecasts are worth.

Each trains ``LSTM(50)`` and ``Dense(1)`` on windows of 30 daily closing prices to say the next price, ten epochs, and
judges itself by figures that copying the last price beats as well.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from backsight_model.arrays import BoolArray, FloatArray, TimeArray
from backsight_model.proof import pesaran_timmermann
from backsight_model.quiet import keras_warnings_hidden

WINDOW, UNITS, EPOCHS, BATCH = 30, 50, 10, 32
FEWEST = 30
"""Days to learn from after the first window, and days to judge on."""
LONGEST = 1500
"""Days, the newest ones: more would take longer and say the same."""
DAY = np.timedelta64(1, "D")
LAG = 4
"""Days counted in the test of signs; the recipes forecast one day ahead."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What was done to the prices before, and what the author shows after.

    Attributes
    ----------
    name : str
    standard : bool
        Mean 0 and deviation 1, not [0, 1]; of the whole series in either case, which knows the future.
    fills : bool
        Days without a price take the one before: moves of zero that nobody saw.
    shows : str
        ``test`` or ``training``: the part that the figures shown are of.
    """

    name: str
    standard: bool
    fills: bool
    shows: str


RECIPES = (
    Recipe(name="price alone, scaled to [0, 1] over the whole series", standard=False, fills=False, shows="test"),
    Recipe(name="gaps filled forward, standardised over the whole series", standard=True, fills=True, shows="test"),
    Recipe(name="80/20 in time order, judged by the training loss", standard=False, fills=False, shows="training"),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One recipe: the figures it would show, and the same forecasts judged on days it had not learnt from.

    Attributes
    ----------
    recipe, shows : str
        See `Recipe`.
    training_loss : float
        Mean squared error of the scaled prices in the last epoch.
    r2, rmse, mape : float
        Of the prices, on the part that the recipe shows; MAPE as a share.
    days : int
        Days that the honest scores are of.
    first : str
        The first of them.
    honest_rmse, persistence_rmse : float
        Of the forecast, and of the last price.
    honest_mape, persistence_mape : float
    accuracy, low, high : float
        How often the forecast lay on the side of the last price on which the next one came, and its 95 % interval.
    p_value : float
        That such signs come from chance (Pesaran and Timmermann).
    echo : float
        Correlation of the forecast's moves from day to day with those of the price one day before: how much it
        copies the last price.
    """

    recipe: str
    shows: str
    training_loss: float
    r2: float
    rmse: float
    mape: float
    days: int
    first: str
    honest_rmse: float
    persistence_rmse: float
    honest_mape: float
    persistence_mape: float
    accuracy: float
    low: float
    high: float
    p_value: float
    echo: float

    @property
    def claim(self) -> str:
        """What the author would write."""
        if self.shows == "training":
            return f"a training loss of {self.training_loss:.2g} and an R² of {self.r2:.3f}"
        return f'an R² of {self.r2:.3f} and a MAPE of {self.mape:.1%}: "{1 - self.mape:.1%} accurate"'

    @property
    def truth(self) -> str:
        """What the same forecasts are worth."""
        beaten = "below" if self.honest_rmse < self.persistence_rmse else "above"
        return (
            f"RMSE {self.honest_rmse:.4g}, {beaten} the {self.persistence_rmse:.4g} of copying the last price; "
            f"direction right on {self.accuracy:.1%} [{self.low:.1%}, {self.high:.1%}] of {self.days} days; from day "
            f"to day it moves as the price did the day before (correlation {self.echo:+.2f})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with claim and truth in words."""
        return asdict(self) | {"claim": self.claim, "truth": self.truth}


def daily_closes(bars: pl.DataFrame) -> tuple[TimeArray, FloatArray]:
    """Return days that have a bar which closes at their end, midnight UTC, and its close as it stands now."""
    newest = bars.sort("observed_at", "available_at", maintain_order=True).unique(
        "observed_at", keep="last", maintain_order=True
    )
    ends = newest.filter(pl.col("observed_at").dt.truncate("1d") == pl.col("observed_at"))
    return ends["observed_at"].dt.replace_time_zone(None).to_numpy(), ends["close"].cast(pl.Float64).to_numpy()


def follow(days: TimeArray, closes: FloatArray, *, first_test: np.datetime64, seed: int) -> tuple[Outcome, ...]:
    """Return what each recipe would claim and what its forecasts are worth; none where there are too few days.

    Parameters
    ----------
    days : ndarray of shape (n,), datetime64[us]
        When each price was known, in order.
    closes : ndarray of shape (n,)
    first_test : datetime64[us]
        The first instant at which a walk is judged: recipes that show the test learn from the days before it.
    seed : int
    """
    days, closes = days[-LONGEST:], closes[-LONGEST:]
    before = int((days < first_test).sum())
    if before < WINDOW + FEWEST or len(days) - max(before, int(0.8 * len(days))) < FEWEST:
        return ()
    return tuple(
        _cook(recipe, days, closes, first_test=first_test, seed=seed + number) for number, recipe in enumerate(RECIPES)
    )


def _cook(recipe: Recipe, days: TimeArray, closes: FloatArray, *, first_test: np.datetime64, seed: int) -> Outcome:
    if recipe.fills:
        grid = np.arange(days[0], days[-1] + DAY, DAY)
        days, closes = grid, closes[np.searchsorted(days, grid, side="right") - 1]
    level, unit = closes.min(), np.ptp(closes)
    if recipe.standard:
        level, unit = closes.mean(), closes.std()
    scaled = (closes - level) / unit
    split = int(0.8 * len(days)) if recipe.shows == "training" else int((days < first_test).sum())
    windows = np.lib.stride_tricks.sliding_window_view(scaled[:-1], WINDOW)
    wanted = scaled[WINDOW:]
    learnt = np.arange(WINDOW, len(closes)) < split
    said, loss = _train(windows, wanted, learnt, seed=seed)
    forecast, came, last = level + unit * said, closes[WINDOW:], closes[WINDOW - 1 : -1]

    shown = learnt if recipe.shows == "training" else ~learnt
    judged = ~learnt & (days[WINDOW:] >= first_test)
    signs = pesaran_timmermann((forecast > last)[judged], (came > last)[judged], lag=LAG)
    count = int(judged.sum())
    half = 1.96 * float(np.sqrt(signs.accuracy * (1.0 - signs.accuracy) / count))
    return Outcome(
        recipe=recipe.name,
        shows=recipe.shows,
        training_loss=loss,
        r2=1.0 - float(np.square(came - forecast)[shown].mean() / came[shown].var()),
        rmse=_rmse(forecast, came, shown),
        mape=_mape(forecast, came, shown),
        days=count,
        first=str(days[WINDOW:][judged][0].astype("datetime64[D]")),
        honest_rmse=_rmse(forecast, came, judged),
        persistence_rmse=_rmse(last, came, judged),
        honest_mape=_mape(forecast, came, judged),
        persistence_mape=_mape(last, came, judged),
        accuracy=signs.accuracy,
        low=signs.accuracy - half,
        high=signs.accuracy + half,
        p_value=signs.p_value,
        echo=float(np.corrcoef(np.diff(forecast[judged]), np.diff(last[judged]))[0, 1]),
    )


@keras_warnings_hidden()
def _train(windows: FloatArray, wanted: FloatArray, learnt: BoolArray, *, seed: int) -> tuple[FloatArray, float]:
    """Return the forecasts of all windows and the training loss of the last epoch."""
    # Takes seconds.
    from backsight_model.blocklstm import BlockLSTM
    from backsight_model.engine import keras, tf

    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    inputs = windows[..., None].astype(np.float32)
    model = keras.Sequential([keras.Input((WINDOW, 1)), BlockLSTM(UNITS), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    data = tf.data.Dataset.from_tensor_slices((inputs[learnt], wanted[learnt].astype(np.float32)))
    history = model.fit(
        data.shuffle(int(learnt.sum()), seed=seed).batch(BATCH), epochs=EPOCHS, shuffle=False, verbose=0
    )
    said = np.asarray(model(inputs), dtype=np.float64)[:, 0]
    return said, float(history.history["loss"][-1])


def _rmse(forecast: FloatArray, came: FloatArray, which: BoolArray) -> float:
    return float(np.sqrt(np.square(forecast - came)[which].mean()))


def _mape(forecast: FloatArray, came: FloatArray, which: BoolArray) -> float:
    return float(np.abs(forecast / came - 1.0)[which].mean())
