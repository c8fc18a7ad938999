"""Choosing settings inside the training part of the first fold, and a list of everything that was tried."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backsight_model.arrays import FloatArray
from backsight_model.linear import LOGIT, OUTPUTS, QUANTILES, RESIDUAL, joined
from backsight_model.quantiles import pinball
from backsight_model.settings import Settings
from backsight_model.splits import Fold
from backsight_model.training import TrainingSet
from backsight_model.walk import outlooks, targets

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to train that was looked at.

    Attributes
    ----------
    number : int
        From 0, which is the one that was asked for.
    settings : Settings
    loss : float
        On the samples that stop the training: what the network minimises.
    """

    number: int
    settings: Settings
    loss: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"number": self.number, "loss": self.loss, "settings": asdict(self.settings)}


def tune(
    data: TrainingSet, part: Fold, *, settings: Settings, trials: int, seed: int, done: Callable[[str], None]
) -> tuple[Trial, ...]:
    """Return every trial, in the order in which they were made.

    The first trial is `settings`; the others are proposed by optuna's tree of Parzen estimators (Bergstra et al.
    2011), which has a seed. Each learns from ``part.fit`` and is judged on ``part.valid``: with the first fold
    of a walk no trial sees anything that any fold tests on. A network of a trial has one member, as what is
    compared is the settings.

    Parameters
    ----------
    data : TrainingSet
    part : Fold
        Its test samples are never looked at.
    settings : Settings
        What a trial does not vary stays as it is here.
    trials : int
        How many, at least 1.
    seed : int
        Of the proposals and of each trial's network.
    done : callable
        Is told in words after each trial.
    """
    import optuna

    from backsight_model.lstm import train

    lines = outlooks(data, part.fit, treatments=settings.treatments)
    rows, line = lines[0].scaler.transform(data.windows.rows), joined([one.line for one in lines])
    newest = rows[data.windows.index[:, -1]]
    wanted = targets(data, lines, newest)
    made: list[Trial] = []

    def judge(tried: Settings) -> float:
        network = train(
            rows,
            data.windows.index,
            wanted,
            at=data.at,
            fit=part.fit,
            valid=part.valid,
            line=line,
            settled=line,
            settings=replace(tried, members=1),
            seed=seed,
        )
        loss = joint_loss(wanted[part.valid], network.predict(rows, data.windows.index[part.valid]))
        made.append(Trial(number=len(made), settings=tried, loss=loss))
        done(f"trial {len(made)} of {trials}: {loss:.5f}")
        return loss

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=5))
    judge(settings)
    for _ in range(trials - 1):
        proposal = study.ask()
        study.tell(proposal, judge(_proposed(proposal, settings)))
    return tuple(made)


def best(trials: tuple[Trial, ...]) -> Settings:
    """Return the settings of the trial with the lowest loss; the earliest of equals."""
    return min(trials, key=lambda trial: trial.loss).settings


def joint_loss(wanted: FloatArray, output: FloatArray) -> float:
    """Return what the network minimises, for what is wanted (n, 3 K) and outputs (n, K (2 + Q)).

    Half the squared error, twice the log loss and a quarter of the pinball loss; the mean over samples and horizons.
    """
    from backsight_model.lstm import DIRECTION_WEIGHT, RETURN_WEIGHT, TARGETS

    wanted, output = wanted.reshape(-1, TARGETS), output.reshape(-1, OUTPUTS)
    volatility = 0.5 * np.square(wanted[:, 0] - output[:, RESIDUAL])
    direction = np.logaddexp(0.0, output[:, LOGIT]) - wanted[:, 1] * output[:, LOGIT]
    spread = pinball(output[:, QUANTILES], wanted[:, 2])
    return float((volatility + DIRECTION_WEIGHT * direction + RETURN_WEIGHT * spread).mean())


def _proposed(proposal: "optuna.Trial", settings: Settings) -> Settings:
    return replace(
        settings,
        units=proposal.suggest_int("units", 4, 64, log=True),
        projection=proposal.suggest_int("projection", 2, 32, log=True),
        dropout=proposal.suggest_float("dropout", 0.0, 0.6),
        learning_rate=proposal.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        weight_decay=proposal.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
    )
