"""``python -m backsight_fakeworld``: the world as a server for trials."""

import argparse
import threading
from datetime import datetime

from backsight_fakeworld.world import FakeWorld

_WELCOME = """\
The fake world (seed {seed}, {clock}) listens on {url}

  backsight pull ... --endpoint {url}

  exchanges   {venues}
  reddit      /reddit
  news        /news/feed.rss  /news/feed.atom  /newsapi/v2/everything  /gdelt/api/v2/doc/doc
  macro       /fred  /fredgraph/fredgraph.csv

  a fault     curl -d '{{"prefix": "/kraken/", "fault": "reset", "times": 2}}' {url}/_faults
  their names curl {url}/_faults
  the log     curl {url}/_log
  the clock   curl -d '{{"advance": 3600}}' {url}/_clock

Keys and passwords may be anything of the right length. Ctrl-C ends it."""


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m backsight_fakeworld", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 for any that is free")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another world")
    parser.add_argument(
        "--now",
        type=datetime.fromisoformat,
        help="where the clock stands, such as 2024-05-15T10:00:00Z; default: real time",
    )
    options = parser.parse_args()
    if options.now is not None and options.now.tzinfo is None:
        parser.error(f"--now {options.now} has no time zone; write {options.now.isoformat()}Z for UTC")
    with FakeWorld(options.seed, options.now, port=options.port) as world:
        venues = "  ".join(f"/{venue}" for venue in world.exchange.venues)
        clock = "in real time" if options.now is None else f"at {options.now.isoformat()}"
        print(_WELCOME.format(seed=options.seed, clock=clock, url=world.url, venues=venues), flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
