"""What a forecast rests on: how it moves when what is known of one feature is forgotten.

Occlusion (Zeiler and Fergus 2014): a feature is put to its training mean in every slot of the window, all others stay,
and the forecast is made again. The moves of features that say the same do not add up: where one is forgotten, the
others still tell.
"""

from dataclasses import dataclass

import numpy as np

from backsight_model.arrays import Float32Array, FloatArray
from backsight_model.bundle import Bundle
from backsight_model.forecast import estimate


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a feature does to a forecast over the main horizon.

    Attributes
    ----------
    feature : str
    p_up : float
        P(up) less what it is without the feature.
    log_rv : float
        Log realised variance less what it is without the feature.
    """

    feature: str
    p_up: float
    log_rv: float


def occlusion(bundle: Bundle, values: Float32Array, *, name: str) -> tuple[Share, ...]:
    """Return what each feature does to a forecast, in the order of the features.

    Parameters
    ----------
    bundle : Bundle
    values : float32 ndarray of shape (L, F)
        A window, as `forecast.estimate` takes it.
    name : str
        Whose, for the error.

    Raises
    ------
    Missing
        As `forecast.estimate`.
    """
    made = estimate(bundle, values, name=name)[0]
    means = training_means(bundle)
    shares = []
    for column, feature in enumerate(bundle.features):
        without = values.copy()
        without[:, column] = means[column]
        left = estimate(bundle, without, name=name)[0]
        shares.append(Share(feature=feature, p_up=made.p_up - left.p_up, log_rv=made.log_rv - left.log_rv))
    return tuple(shares)


def training_means(bundle: Bundle) -> FloatArray:
    """Return the value of each feature that a scaled 0 stands for: shape (F,)."""
    middle = np.zeros((1, bundle.scaler.width), dtype=np.float32)
    middle[0, len(bundle.features)] = 1.0  # all is present
    means: FloatArray = bundle.scaler.inverse(middle)[0]
    return means
