"""Reads windows whose every value names their bar, in a process of its own, and counts those that mix two bars.

python window_reader.py WHERE PROJECT READS SECONDS: until both are reached.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backsight_features.online import connect

T0 = datetime(2024, 1, 1, tzinfo=UTC)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

where, project, reads, seconds = sys.argv[1:]
reader = connect(Path(where) if "/" in where else where, project=project)
torn = count = back = 0
bars: set[int] = set()
newest = {"A": -1, "B": -1}
end = time.monotonic() + float(seconds)
while count < int(reads) or time.monotonic() < end:
    for symbol in ("A", "B"):
        window = reader.window("price_1h", symbol, at=FAR, max_age=FAR - T0)
        bar = (window.observed_at - T0) // HOUR
        bars.add(bar)
        whole = (
            (window.values == bar).all()
            and window.available_at == window.observed_at + timedelta(seconds=15)
            and set((FAR - window.ages.astype(object) - window.available_at).tolist()) == {timedelta(0)}
            and window.features == (("ret", "vol") if bar % 2 else ("vol", "ret"))
        )
        torn += not whole
        back += bar < newest[window.symbol]
        newest[window.symbol] = bar
        count += 1
print(json.dumps({"reads": count, "torn": torn, "back": back, "bars": len(bars)}))
