"""How long the command line takes to answer, against bare Python: `backsight --help` must stay under half a second.

The two are started in turn, so that whatever else the machine does touches both.

Usage: python benchmarks/start.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "backsight --help": [str(Path(sys.executable).parent / "backsight"), "--help"],
    "backsight forecast --help": [str(Path(sys.executable).parent / "backsight"), "forecast", "--help"],
}


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - begin)
    bare = statistics.median(seconds["python -c pass"])
    print(f"{'command':<27} {'median s':>9} {'worst s':>9} {'x bare':>7}")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:<27} {median:>9.3f} {max(taken):>9.3f} {median / bare:>7.1f}")


if __name__ == "__main__":
    main()
