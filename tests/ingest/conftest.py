"""What the tests of ingestion share: a classifier of three words, as the files of a real one, and a venue of bars that
is pulled by hand."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features.clocks import from_us, to_us
from backsight_features.errors import BacksightError
from backsight_features.lake import Lake
from backsight_features.spans import Span
from backsight_ingest.accounts import Account
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.coverage import Coverage
from backsight_ingest.live.job import Hole, Page, Plan
from backsight_ingest.live.pull import pull

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "up", "down", "flat", ".")
LABELS = ("neutral", "positive", "negative")
"""Not in the order of the scores, as in real models."""

LOGIT = 4.0


class TinyModel:
    """Writes config, tokenizer and an ONNX graph, and knows what they have to say."""

    def write_tokenizer(self, folder: Path) -> None:
        """Write a BERT tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512})
        )

    def write_config(self, folder: Path, labels: tuple[str, ...] = LABELS) -> None:
        """Write a BERT configuration with these labels."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "architectures": ["BertForSequenceClassification"],
            "model_type": "bert",
            "vocab_size": len(WORDS),
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 512,
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }
        (folder / "config.json").write_text(json.dumps(config))

    def write_onnx(self, path: Path, *, neighbourly: bool = False) -> None:
        """Write a graph whose logits add up what its words say: up, down and flat, 4 each.

        With ``neighbourly`` it takes away the mean over the batch, as a model does whose scale is found per batch.
        """
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        table = np.zeros((len(WORDS), 3), dtype=np.float32)
        table[WORDS.index("flat"), 0] = table[WORDS.index("up"), 1] = table[WORDS.index("down"), 2] = LOGIT
        nodes = [
            helper.make_node("Gather", ["table", "input_ids"], ["each"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
            helper.make_node("Mul", ["each", "wide"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "tokens"], ["sums" if neighbourly else "logits"], keepdims=0),
        ]
        if neighbourly:
            nodes += [
                helper.make_node("ReduceMean", ["sums"], ["mean"], axes=[0], keepdims=1),
                helper.make_node("Sub", ["sums", "mean"], ["logits"]),
            ]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens_"])
            for name in ("input_ids", "attention_mask")
        ]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", 3])]
        constants = [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2], dtype=np.int64), "last"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "tokens"),
        ]
        graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))

    def write(self, folder: Path, *, labels: tuple[str, ...] = LABELS, where: str = "model.onnx") -> Path:
        """Write the whole model and return its folder."""
        self.write_tokenizer(folder)
        self.write_config(folder, labels)
        self.write_onnx(folder / where)
        return folder

    def expected(self, up: int, down: int, flat: int) -> list[float]:
        """Return the probabilities of one sentence with so many of each word: positive, negative, neutral."""
        powers = np.exp(LOGIT * np.array([up, down, flat]))
        return list(powers / powers.sum())


@pytest.fixture
def tiny_model() -> TinyModel:
    """Return the writer of a classifier that knows *up*, *down* and *flat*."""
    return TinyModel()


MIDNIGHT = datetime(2024, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
STEP = 3_600_000_000


class StillClock(Clock):
    """A clock that stands until it is set."""

    at = MIDNIGHT

    def now(self) -> datetime:
        return self.at


class Hourly:
    """A job of hourly bars. Bar n is of the hour from n o'clock on 2024-05-01, and says 100 unless ``closes`` does.

    Parameters
    ----------
    clock : Clock
        The venue's.
    name : str
        The job's.
    """

    verb = "pull prices"
    source = "toy"
    cadence = length = HOUR
    layouts = ("ccxt",)
    lanes = 1

    def __init__(self, clock: Clock, name: str) -> None:
        self.name = name
        _, venue, symbol, timeframe = name.split(":")
        base, quote = symbol.split("-")
        self.variables: Mapping[str, str] = {"venue": venue, "base": base, "quote": quote, "timeframe": timeframe}
        self.closes: dict[int, str] = {}
        self.missing: set[int] = set()
        self.lost: set[int] = set()
        self.gone = "gone"
        self.error: BacksightError | None = None
        self._clock = clock

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        end = to_us(now) // STEP * STEP
        start = end - 4 * STEP if coverage.reached is None else coverage.reached
        return Plan(
            forward=Span(start, end) if start < end else None,
            backfill=() if since is None else tuple(coverage.unasked(Span(to_us(since), to_us(until or now)))),
            again=coverage.due(now, shortest=HOUR, reach=HOUR),
        )

    def walk(self, span: Span) -> Iterator[Page]:
        if self.error is not None:
            raise self.error
        opens = {(from_us(t) - MIDNIGHT) // HOUR: t for t in range(span.start, span.stop, STEP)}
        there = {n: t for n, t in opens.items() if n not in self.missing | self.lost}
        cells = {"timestamp": [str(t // 1000) for t in there.values()]}
        cells |= {name: ["100"] * len(there) for name in ("open", "high", "low", "volume")}
        cells["close"] = [self.closes.get(n, "100") for n in there]
        yield Page(
            span=span,
            records={"ccxt": pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String))},
            fetched_at=self._clock.now(),
            holes=tuple(
                Hole(span=Span(t, t + STEP), reason=self.gone if n in self.lost else "no bar", again=n not in self.lost)
                for n, t in opens.items()
                if n not in there
            ),
        )


class Desk:
    """A home with a lake into which jobs are pulled by hand.

    Parameters
    ----------
    home : Path
        The folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lake = Lake(home / "lake")
        self.clock = StillClock()

    def job(self, name: str = "prices:toy:BTC-USD:1h") -> Hourly:
        """Return a job of hourly bars."""
        return Hourly(self.clock, name)

    def pull(self, job: Hourly, at: float, *, since: float | None = None, until: float | None = None) -> Account:
        """Run a job; instants are hours since the midnight of 2024-05-01."""
        self.clock.at = self.time(at)
        spans = {name: None if n is None else self.time(n) for name, n in (("since", since), ("until", until))}
        (account,) = pull(self.lake, [job], locks=self.home / "locks", clock=self.clock, **spans)
        return account

    def time(self, hours: float) -> datetime:
        """Return an instant."""
        return MIDNIGHT + hours * HOUR


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return an empty home."""
    return Desk(tmp_path / "home")
