"""The feature store: Feast's registry, history and online store, with an as-of join and windows.

Importing it imports Feast, which takes seconds.
"""

import backsight_features.store.unchecked  # noqa: F401  # isort: skip  # First, as all else here imports Feast.
from backsight_features.online.gate import OnlineWindow
from backsight_features.store.publishing import Published, PublishedWindow
from backsight_features.store.store import Store

__all__ = ["OnlineWindow", "Published", "PublishedWindow", "Store"]
