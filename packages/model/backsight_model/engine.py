"""TensorFlow and Keras, told before they are imported how to compute and what not to say."""

import os

from backsight_model.quiet import native_messages_hidden

# TensorFlow reads these when it is imported. oneDNN's reordered sums would differ between kinds of machines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
with native_messages_hidden():
    import keras
    import tensorflow as tf

# Every fold builds a model of its own, which TensorFlow takes for an accident.
tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf"]
