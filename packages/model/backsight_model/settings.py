"""What a training run may vary, apart from its data: in Python, or in a TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from backsight_features.errors import BadInput

from backsight_model.treatments import DECLARED, Treatment, Treatments

_COUNTS: Final = ("projection", "units", "members", "batch", "epochs", "stride", "newest")
_LEAST: Final = dict.fromkeys(_COUNTS, 1) | {"patience": 0}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the network is built and trained. The defaults were measured on made-up worlds, not on a test set.

    Attributes
    ----------
    projection : int
        Width to which the features are condensed before the LSTM: with a year of daily labels, a full
        matrix from 40 features learns noise.
    layers, units : int
        How many LSTMs, one or two, lie on one another, and the width of each.
    members : int
        Networks that differ in their seed only and are averaged.
    dropout : float
        Share of the inputs and of the LSTM's output that is dropped in training.
    recurrent_l2 : float
        Penalty on the squared weights from a state to the next; 0 for none.
    instance_norm : bool
        Whether the LSTM sees each feature of a window relative to the window's own mean, in units of its own
        deviation (RevIN, Kim et al. 2022). The straight line beside it sees, and gives back, the level. An ablation.
    attention : bool
        Whether all states of the window are pooled by learnt weights instead of reading the last. An ablation.
    learning_rate, weight_decay : float
        Of AdamW.
    batch, epochs, patience : int
        Samples per step, epochs at most, and epochs without gain on the validation tail before stopping.
    stride : int
        Every how manyth instant is trained on. Labels of 24 bars overlap, so that neighbours teach nearly the
        same; evaluation skips none.
    newest : int or None
        Of how many of the newest instants samples are trained on; all unless given.
    treatments : tuple of (str, Treatment)
        How each feature is brought to scale, by patterns of names; see `treatments`.

    Examples
    --------
    >>> warm = Settings(epochs=8).warm()
    >>> warm.epochs, warm.newest
    (2, 9000)
    """

    projection: int = 8
    layers: int = 1
    units: int = 16
    members: int = 2
    dropout: float = 0.3
    recurrent_l2: float = 0.0
    instance_norm: bool = False
    attention: bool = False
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch: int = 256
    epochs: int = 8
    patience: int = 2
    stride: int = 3
    newest: int | None = None
    treatments: Treatments = DECLARED

    def __post_init__(self) -> None:
        """Refuse what the network cannot be built from, or trained by."""
        if self.layers not in (1, 2):
            raise BadInput(f"layers is {self.layers}, it must be 1 or 2")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise BadInput(f"{name} is {value}, it must be at least {least}")
        for name in ("learning_rate", "weight_decay", "recurrent_l2"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadInput(f"{name} is {getattr(self, name)}, it must be at least 0 and finite")
        if not 0 <= self.dropout < 1:
            raise BadInput(f"dropout is {self.dropout}, it must be at least 0 and below 1")

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "Settings":
        """Return the settings that a bundle holds."""
        treatments = tuple((pattern, Treatment(**stated)) for pattern, stated in state["treatments"])
        return cls(**{**state, "treatments": treatments})

    def warm(self) -> "Settings":
        """Return the settings of a refit that starts from a network: two epochs, a year of hours, small steps.

        Quarterly refits of hourly direction lost no log loss by it, and took a third of the time.
        """
        return replace(self, epochs=2, learning_rate=self.learning_rate / 3, newest=9_000)


def read(path: Path) -> Settings:
    """Return the settings that a TOML file states; what it leaves out is as usual.

    Its keys are the attributes of `Settings`. A table ``treatments`` states by patterns of feature names what is done
    to them; the first that fits holds, and what none fits is treated as usual::

        layers = 2
        epochs = 12

        [treatments]
        "news_count_*" = { kind = "rank", mask = true }
        "cpiaucsl_*" = { kind = "robust", tail = 0.01 }

    Raises
    ------
    BadInput
        Where the file cannot be read, or a name or a value is none that there is.
    """
    try:
        stated = tomllib.loads(path.read_text(encoding="utf-8"))
        values = {name: value for name, value in stated.items() if name != "treatments"}
        return Settings(
            **_stated(values, Settings(), "setting"),
            treatments=(*_treatments(stated.get("treatments", {})), *DECLARED),
        )
    except (OSError, ValueError, BadInput) as error:
        raise BadInput(f"settings {path}: {error}") from error


def _treatments(stated: Any) -> Treatments:
    if not isinstance(stated, Mapping):
        raise BadInput(f"treatments is {stated!r}, it must be a table of patterns")
    return tuple((pattern, _treatment(pattern, value)) for pattern, value in stated.items())


def _treatment(pattern: str, stated: Any) -> Treatment:
    if not isinstance(stated, Mapping):
        raise BadInput(f'the treatment of {pattern!r} is {stated!r}, it must be a table such as {{ kind = "robust" }}')
    return Treatment(**_stated(stated, Treatment(), f"property of the treatment of {pattern!r}"))


def _stated(values: Mapping[str, Any], usual: Settings | Treatment, what: str) -> dict[str, Any]:
    """Return values by name once all are of the type that they usually are."""
    known = {field.name: getattr(usual, field.name) for field in fields(usual) if field.name != "treatments"}
    for name, value in values.items():
        if name not in known:
            raise BadInput(f"{name} is no {what}; there are {', '.join(known)}")
        wanted = int if known[name] is None else type(known[name])
        # A whole number will do for any other; true is no number.
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise BadInput(f"{name} is {value!r}, it must be of type {wanted.__name__}")
    return dict(values)
