"""The feature store: Feast's registry, history and online store, with an as-of join and windows.

Importing it imports Feast, which takes seconds.
"""

from backsight_features.store.online import OnlineWindow
from backsight_features.store.store import Published, PublishedWindow, Store

__all__ = ["OnlineWindow", "Published", "PublishedWindow", "Store"]
