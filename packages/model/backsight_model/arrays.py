"""Names for the array types that the modules of this package pass around."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
IndexArray = NDArray[np.int32]
"""Row numbers of windows."""
BoolArray = NDArray[np.bool_]
TimeArray = NDArray[np.datetime64]
"""Instants in UTC as ``datetime64[us]``."""
