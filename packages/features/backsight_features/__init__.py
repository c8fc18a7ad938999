"""Facts with clocks, point-in-time features and windows, and the store that serves them.

Import from the module that holds the idea: ``backsight_features.lake``, ``.market``, ``.windows``, ``.store``.
Nothing is imported here, so that ``backsight --help`` answers at once.
"""

__version__ = "0.1.0"
