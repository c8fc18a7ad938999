"""Training on windows gathered on the fly, against the other ways, and a warm refit against a cold one.

The same network learns in each case, by default backsight's own (`Settings()`: condensed to 8, then an LSTM of 16
units), from N windows of L = 64 slots of F = 32 features. Each contestant is a process of its own on as many cores as
--threads; they take turns. A figure is some epochs with what it takes to set up, after a first step on something else,
in samples per second and per second of CPU, which says more on a busy machine; memory is the most that the process
held, and what of it came after that step.

- backsight: `backsight_model.lstm.batches` and `BlockLSTM`, as `backsight train` uses them, deterministic.
- the same, layer of Keras: `keras.layers.LSTM` in its place.
- timeseries_dataset_from_array: Keras' own helper, shuffled, which makes windows slot by slot, and Keras' own layer.
- the same, layer of backsight: with `BlockLSTM`.
- materialised, gathered: all windows as one tensor, batches gathered from it; `BlockLSTM`.
- materialised, fit: all windows as one array that is given to `fit`; Keras' own layer.
- plain PyTorch: `torch.nn.LSTM`, batches indexed from the rows, as good as it gets without Keras. It needs torch, which
  backsight does not: name an interpreter that has it with --torch.

Then quarterly refits of backsight's own network on a made-up relation that drifts: cold ones from all samples, warm
ones from the network before. Each is scored on the quarter that follows.

Usage: python benchmarks/train.py [--rows 60000] [--rounds 2] [--threads 1] [--units 16 --projection 8] [--torch PYTHON]
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from backsight_model.settings import Settings

LENGTH, FEATURES, BATCH, EPOCHS = 64, 32, 256, 3
OURS, SLOTS, GATHERED, FIT = (
    "backsight", "timeseries_dataset_from_array", "materialised, gathered", "materialised, fit"
)  # fmt: skip
KERAS = {
    OURS: (OURS, True),
    "  layer of Keras": (OURS, False),
    SLOTS: (SLOTS, False),
    "  layer of backsight": (SLOTS, True),
    GATHERED: (GATHERED, True),
    FIT: (FIT, False),
}
"""How each comes by its windows, and whether its layer is backsight's."""
TORCH = "plain PyTorch"
QUARTER = 24 * 91
REFITS = 3


def made_up(samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows (N + L, F), index (N, L) and targets (N, 3) of noise."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((samples + LENGTH - 1, FEATURES), dtype=np.float32)
    index = (np.arange(samples)[:, None] + np.arange(LENGTH)).astype(np.int32)
    return rows, index, rng.random((samples, 3)).round()


def memory(field: str) -> float:
    """Return megabytes of this process alone: ``VmRSS`` now, ``VmHWM`` at most."""
    [held] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(held) / 1024


def timed(prepare: Callable[[], Callable[[], object]], samples: int) -> dict[str, float]:
    """Return samples per second over some epochs, and megabytes."""
    before, begin, busy = memory("VmRSS"), time.perf_counter(), time.process_time()
    prepare()()
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    return {
        "rate": EPOCHS * samples / seconds,
        "cpu": EPOCHS * samples / busy,
        "peak": memory("VmHWM"),
        "data": memory("VmHWM") - before,
    }


def with_keras(name: str, network: "Settings", samples: int, threads: int) -> dict[str, float]:
    from backsight_model import lstm
    from backsight_model.quiet import keras_warnings_hidden

    way, layer_of_ours = KERAS[name]
    keras, tf = lstm.keras, lstm.tf
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if way == OURS:
        tf.config.experimental.enable_op_determinism()
    if not layer_of_ours:
        lstm.BlockLSTM = keras.layers.LSTM
    keras.utils.set_random_seed(1)
    model = lstm._build(LENGTH, FEATURES, network)
    # One step, so that what TensorFlow takes for itself is there before the data.
    model.fit(np.zeros((BATCH, LENGTH, FEATURES), np.float32), np.zeros((BATCH, 3), np.float32), verbose=0)

    def prepare() -> Callable[[], object]:
        rows, index, targets = made_up(samples)
        wanted = targets.astype(np.float32)
        if way == OURS:
            data = lstm.batches(tf.constant(rows), index, targets, np.arange(samples), batch=BATCH, shuffle=1)
        elif way == SLOTS:
            data = keras.utils.timeseries_dataset_from_array(
                rows, wanted, sequence_length=LENGTH, batch_size=BATCH, shuffle=True, seed=1
            )
        elif way == GATHERED:
            windows, wanted = tf.constant(rows[index]), tf.constant(wanted)
            numbers = tf.data.Dataset.range(samples).shuffle(samples, seed=1).batch(BATCH)
            data = numbers.map(lambda some: (tf.gather(windows, some), tf.gather(wanted, some)))
        else:
            windows = rows[index]
            return lambda: model.fit(windows, wanted, batch_size=BATCH, epochs=EPOCHS, verbose=0)
        return lambda: model.fit(data, shuffle=False, epochs=EPOCHS, verbose=0)

    with keras_warnings_hidden():
        return timed(prepare, samples)


def with_torch(units: int, projection: int, samples: int, threads: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropped = torch.nn.Dropout(0.3)
            self.projected = torch.nn.Linear(FEATURES, projection)
            self.lstm = torch.nn.LSTM(projection, units, batch_first=True)
            self.out = torch.nn.Linear(units, 3)

        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return self.out(self.dropped(self.lstm(self.projected(self.dropped(windows)))[0][:, -1]))

    model = Plain()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(windows: torch.Tensor, wanted: torch.Tensor) -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(windows), wanted).backward()
        optimizer.step()

    step(torch.zeros(BATCH, LENGTH, FEATURES), torch.zeros(BATCH, 3))

    def prepare() -> Callable[[], object]:
        rows, index, targets = (torch.from_numpy(array) for array in made_up(samples))
        targets = targets.float()

        def epochs() -> None:
            for _ in range(EPOCHS):
                for some in torch.randperm(samples).split(BATCH):
                    step(rows[index[some]], targets[some])

        return epochs

    return timed(prepare, samples)


def refits(samples: int) -> list[dict[str, dict[str, float]]]:
    """Return seconds and losses, per quarter, of cold and warm refits that are made in turn."""
    from backsight_model import linear, lstm
    from backsight_model.settings import Settings

    rows, index, targets = made_up(samples)
    at = np.arange(samples).astype("datetime64[h]").astype("datetime64[us]")
    rng, drift = np.random.default_rng(2), np.linspace(0, 1, samples)
    fast, slow = rows[index[:, -1]], rows[index].mean(axis=1) * np.sqrt(LENGTH)
    bend = fast[:, 0] * np.sign(slow[:, 1]) + (1 - drift) * np.abs(fast[:, 2]) + drift * np.abs(fast[:, 3])
    bend = 0.8 * (bend - bend.mean())
    residual, scaled = bend + rng.standard_normal(samples), 0.3 * bend + rng.standard_normal(samples)
    targets = np.column_stack([residual, rng.random(samples) < 1 / (1 + np.exp(-bend)), scaled])
    quarter, before, done = min(QUARTER, samples // 8), None, []
    for number in range(REFITS + 1):
        now = samples - quarter * (REFITS + 1 - number)
        fit, valid, test = np.arange(now - quarter), np.arange(now - quarter, now), np.arange(now, now + quarter)
        line, settled = (
            linear.heads(fast[which], residual[which], targets[which, 1] > 0, scaled[which], unit=1.0, strength=0.05)
            for which in (fit, np.arange(now))
        )
        taken, scored = {}, {}
        ways = {"cold": None} if before is None else {"cold": None, "warm": before}
        for how, start in ways.items():
            begin = time.perf_counter()
            network = lstm.train(
                rows, index, targets, at=at, fit=fit, valid=valid, line=line, settled=settled, settings=Settings(),
                seed=number, warm=start,
            )  # fmt: skip
            taken[how] = time.perf_counter() - begin
            output = network.predict(rows, index[test])
            scored[how] = float(lstm._loss(targets[test].astype(np.float32), output.astype(np.float32)).numpy().mean())
        before = network
        if number:
            done.append({"seconds": taken, "loss": scored})
    return done


def apart(python: str, *arguments: str) -> object:
    """Return what this script prints as another process."""
    done = subprocess.run([python, __file__, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a line per contestant, and one per refit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="windows")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contestant, of which the best counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--units", type=int, default=16, help="width of the LSTM")
    parser.add_argument("--projection", type=int, default=8, help="width to which the features are condensed")
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has torch and numpy; this one if it has")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        if chosen.one == "refits":
            print(json.dumps(refits(chosen.rows)))
            return
        # What reads ahead would take another core, and pass for speed.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.threads])
        if chosen.one == TORCH:
            print(json.dumps(with_torch(chosen.units, chosen.projection, chosen.rows, chosen.threads)))
        else:
            from backsight_model.settings import Settings

            network = Settings(units=chosen.units, projection=chosen.projection)
            print(json.dumps(with_keras(chosen.one, network, chosen.rows, chosen.threads)))
        return

    here = sys.executable if importlib.util.find_spec("torch") else None
    interpreters = dict.fromkeys(KERAS, sys.executable) | {TORCH: chosen.torch or here}
    if not interpreters[TORCH]:
        print(f"{TORCH}: torch is not installed here; name an interpreter that has it with --torch", flush=True)
        del interpreters[TORCH]
    sizes = [f"--{name}={getattr(chosen, name)}" for name in ("rows", "threads", "units", "projection")]
    found: dict[str, dict[str, float]] = {}
    for _ in range(chosen.rounds):
        for way, python in interpreters.items():
            got = apart(python, "--one", way, *sizes)
            best = found.setdefault(way, got)
            found[way] = {name: max(best[name], got[name]) for name in ("rate", "cpu")} | {
                name: min(best[name], got[name]) for name in ("peak", "data")
            }
    ours = found[OURS]
    heads = ("samples/s", "of ours", "per CPU s", "of ours", "MB at most", "MB of data", "of ours")
    print(f"{'':<30}" + "".join(f"{head:>11}" for head in heads))
    for way, got in found.items():
        rate, cpu, data = (got[name] / ours[name] for name in ("rate", "cpu", "data"))
        print(
            f"{way:<30}{got['rate']:>11,.0f}{rate:>11.2f}{got['cpu']:>11,.0f}{cpu:>11.2f}"
            f"{got['peak']:>11,.0f}{got['data']:>11,.0f}{data:>11.2f}",
            flush=True,
        )
    quarters = apart(sys.executable, "--one", "refits", *sizes)
    print(f"\n{'refit':<8} {'cold s':>8} {'warm s':>8} {'cold / warm':>12} {'cold loss':>10} {'warm loss':>10}")
    for number, got in enumerate(quarters, start=1):
        seconds, loss = got["seconds"], got["loss"]
        print(
            f"{number:<8} {seconds['cold']:>8.1f} {seconds['warm']:>8.1f} {seconds['cold'] / seconds['warm']:>12.1f} "
            f"{loss['cold']:>10.4f} {loss['warm']:>10.4f}"
        )


if __name__ == "__main__":
    main()
