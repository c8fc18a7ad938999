"""Keeping quiet what no setting silences."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Hide what compiled code writes to file descriptor 2; Python exceptions pass.

    TensorFlow's compiled part writes about absent GPU drivers while it is imported, before it reads its own
    log level.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def keras_warnings_hidden() -> Iterator[None]:
    """Hide warnings of Keras about its own use of numpy; nobody who trains a model can act on them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras.src")
        warnings.filterwarnings("ignore", category=FutureWarning, module="keras.src")
        yield
