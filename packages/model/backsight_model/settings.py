"""What a training run may vary, apart from its data."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the network is built and trained. The defaults were measured on made-up worlds, not on a test set.

    Attributes
    ----------
    projection : int
        Width to which the features are condensed before the LSTM: with a year of daily labels, a full
        matrix from 40 features learns noise.
    units : int
        Width of the LSTM.
    members : int
        Networks that differ in their seed only and are averaged.
    dropout : float
        Share of the inputs and of the LSTM's output that is dropped in training.
    learning_rate, weight_decay : float
        Of AdamW.
    batch, epochs, patience : int
        Samples per step, epochs at most, and epochs without gain on the validation tail before stopping.
    stride : int
        Every how manyth sample is trained on. Labels of 24 bars overlap, so that neighbours teach nearly the
        same; evaluation skips none.
    """

    projection: int = 8
    units: int = 16
    members: int = 2
    dropout: float = 0.3
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch: int = 256
    epochs: int = 8
    patience: int = 2
    stride: int = 3
