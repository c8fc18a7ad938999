"""What a training run may vary, apart from its data."""

from dataclasses import dataclass, replace

from backsight_features.errors import BadInput


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
        Every how manyth sample is trained on. Labels of 24 bars overlap, so that neighbours teach nearly the
        same; evaluation skips none.
    newest : int or None
        How many of the newest samples are trained on; all unless given.

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

    def __post_init__(self) -> None:
        """Refuse what the network cannot be built from."""
        if self.layers not in (1, 2):
            raise BadInput(f"layers is {self.layers}, it must be 1 or 2")

    def warm(self) -> "Settings":
        """Return the settings of a refit that starts from a network: two epochs, a year of hours, small steps.

        Quarterly refits of hourly direction lost no log loss by it, and took a third of the time.
        """
        return replace(self, epochs=2, learning_rate=self.learning_rate / 3, newest=9_000)
