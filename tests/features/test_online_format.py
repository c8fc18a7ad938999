"""What the light reader takes and writes for Feast's format, against Feast itself on real stores."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from backsight_features.errors import HeaderMismatch
from backsight_features.online import connect
from backsight_features.online.contract import Contract
from backsight_features.online.feast_format import (
    bytes_in,
    bytes_value,
    entity_key,
    hash_field,
    stamp_field,
    string_in,
    string_value,
    timestamp,
)
from backsight_features.online.packed import digest, pack
from hypothesis import given, settings
from hypothesis import strategies as st

AT = datetime(2024, 1, 1, 3, 0, 15, 7, tzinfo=UTC)
KINDS = pytest.mark.parametrize("kind", ["sqlite", "redis"])
CONTRACT = Contract(
    service="price_1h",
    features=("ret", "vol"),
    timeframe=timedelta(hours=1),
    max_age=timedelta(hours=2),
    max_ages={"ret": timedelta(hours=3)},
    length=2,
)


def window(first: float = 1.0) -> bytes:
    known = np.array([AT.replace(tzinfo=None) - timedelta(hours=1), AT.replace(tzinfo=None)], dtype="datetime64[us]")
    return pack(
        np.array([[first, 2], [3, 4]], dtype=np.float32),
        known,
        digest=digest(CONTRACT.features),
        contract=CONTRACT.checksum,
        observed_at=np.datetime64("2024-01-01T03:00", "us"),
        timeframe=CONTRACT.timeframe,
    )


@settings(deadline=None)
@given(symbol=st.text(max_size=40), view=st.text(max_size=40), feature=st.text(max_size=20))
def test_keys_and_fields_are_those_of_feast(symbol: str, view: str, feature: str) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.infra.online_stores.helpers import _mmh3
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["symbol"], entity_values=[Value(string_val=symbol)])
    assert entity_key(symbol) == serialize_entity_key(key, entity_key_serialization_version=3)
    assert hash_field(view, feature) == _mmh3(f"{view}:{feature}")
    assert stamp_field(view) == f"_ts:{view}".encode()


@settings(deadline=None)
@given(data=st.binary(max_size=70_000), text=st.text(max_size=300))
def test_values_are_those_of_feast(data: bytes, text: str) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    assert bytes_value(data) == Value(bytes_val=data).SerializeToString()
    assert bytes_in(bytes_value(data)) == data
    assert string_value(text) == Value(string_val=text).SerializeToString()
    assert string_in(string_value(text)) == text


@given(at=st.datetimes(min_value=datetime(1902, 1, 1), max_value=datetime(2400, 1, 1)))  # noqa: DTZ001
def test_timestamps_are_those_of_feast(at: datetime) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp

    expected = Timestamp()
    expected.FromDatetime(at)
    assert timestamp(at.replace(tzinfo=UTC)) == expected.SerializeToString()


@pytest.mark.parametrize(
    "value",
    [b"", b"\x12\x01a", b"\x0a", b"\x0a\x02a", b"\x0a\x01ab", b"\x0a\xff\xff\xff\xff\xff\xff", b"\x0a\x01a\x0a\x01a"],
)
def test_a_value_of_another_kind_or_length_is_refused(value: bytes) -> None:
    with pytest.raises(HeaderMismatch, match="stored value"):
        bytes_in(value)


def test_a_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(HeaderMismatch, match="no UTF-8"):
        string_in(b"\x12\x01\xff")


@KINDS
@pytest.mark.parametrize("symbol", ["BTC-USD", "", "ETH/€ 100 %", "x" * 300])
def test_what_feast_writes_is_read(small_repo: Callable[..., Any], kind: str, symbol: str) -> None:
    from feast import FeatureView, Field, FileSource
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.types import Bytes, String

    repo = small_repo(kind)
    store = repo.store()
    store.apply()
    feast = store._feast
    view = FeatureView(
        name="price_1h_window",
        entities=[feast.get_entity("symbol")],
        schema=[
            Field(name="symbol", dtype=String),
            Field(name="packed", dtype=Bytes),
            Field(name="contract", dtype=String),
        ],
        source=FileSource(path="plain.parquet", timestamp_field="event_timestamp"),
    )
    feast.registry.apply_feature_view(view, feast.project)
    key = EntityKey(join_keys=["symbol"], entity_values=[Value(string_val=symbol)])
    fields = {"packed": Value(bytes_val=window()), "contract": Value(string_val=CONTRACT.text)}
    feast.provider.online_write_batch(feast.config, view, [(key, fields, AT, None)], None)
    with connect(repo.where, project=repo.project) as reader:
        got = reader.window("price_1h", symbol, at=AT)
        assert got.values.tolist() == [[1, 2], [3, 4]]
        assert (got.features, got.timeframe, got.available_at) == (("ret", "vol"), timedelta(hours=1), AT)

        later = AT + timedelta(seconds=1)
        row = {"symbol": [symbol], "event_timestamp": [later], "packed": [window(9)], "contract": [CONTRACT.text]}
        feast.write_to_online_store("price_1h_window", df=pd.DataFrame(row))
        assert reader.window("price_1h", symbol, at=AT).values.tolist() == [[9, 2], [3, 4]]


@KINDS
def test_feast_reads_what_is_published(small_repo: Callable[..., Any], kind: str) -> None:
    repo = small_repo(kind)
    store = repo.store()
    store.apply()
    repo.one(3, vol=None)
    store.publish("price_1h", length=2, at=AT)
    view = store._feast.get_feature_view("price_1h_window")
    response = store._feast.get_online_features(
        features=["price_1h_window:packed", "price_1h_window:contract"], entity_rows=[{"symbol": "BTC-USD"}]
    )
    plain = response.to_dict()
    with connect(repo.where, project=repo.project) as reader:
        [(value, contract)] = reader._shelf.read_both(view.name, ["BTC-USD"])
        assert bytes(bytes_in(value)) == plain["packed"][0]
        assert string_in(contract) == plain["contract"][0]
        got = reader.window("price_1h", "BTC-USD", at=AT)
    stamps = {result.event_timestamps[0].ToDatetime(tzinfo=UTC) for result in response.proto.results[1:]}
    # SQLite keeps whole seconds of it.
    assert stamps == {got.available_at.replace(microsecond=0) if kind == "sqlite" else got.available_at}
    whole = store.online("price_1h", "BTC-USD", at=AT)
    assert whole.values.tobytes() == got.values.tobytes()
    assert np.isnan(got.values[-1, 1])
    assert got.values[-1, 0] == 1


LIGHT = """
import sys
from datetime import UTC, datetime
from backsight_features.online import connect
where, project = sys.argv[1:]
reader = connect(where, project=project)
window = reader.window("price_1h", "BTC-USD", at=datetime(2024, 1, 1, 3, 0, 15, 7, tzinfo=UTC))
heavy = {"feast", "pandas", "polars", "pyarrow", "deltalake", "duckdb", "google.protobuf"} & set(sys.modules)
print(window.values.tolist(), sorted(heavy))
"""


@KINDS
def test_a_process_that_reads_imports_no_feast_and_no_frames(small_repo: Callable[..., Any], kind: str) -> None:
    repo = small_repo(kind)
    store = repo.store()
    store.apply()
    repo.one(3)
    store.publish("price_1h", length=1, at=AT)
    command = [sys.executable, "-c", LIGHT, str(repo.where), repo.project]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "[[1.0, 1.0]] []\n"
