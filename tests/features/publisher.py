"""Publishes as of one instant after the other, in a process of its own; what to publish is in the global ``GIVEN``."""

from backsight_features.store import Store
from backsight_features.workspace import Workspace

given = globals()["GIVEN"]
store = Store(given["folder"], Workspace(root=given["root"]))
given["progress"].send("ready")
for at in given["instants"]:
    store.publish(given["service"], length=given["length"], at=at)
    given["progress"].send(at)
