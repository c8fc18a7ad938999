"""The newest windows, for services: read with neither Feast nor a data frame library, and let through only if fit.

>>> from backsight_features.online import connect
>>> connect("redis:6379,db=1,password=secret", project="backsight")
Reader(<Redis at redis:6379, project backsight>)
"""

from backsight_features.online.gate import OnlineWindow, Refusal, Unfit
from backsight_features.online.reader import Reader, connect

__all__ = ["OnlineWindow", "Reader", "Refusal", "Unfit", "connect"]
