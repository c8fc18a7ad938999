"""The as-of offline store as any Feast project would use it: Parquet and Delta sources, no other part of backsight."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backsight_features.errors import BadInput
from deltalake import DeltaTable, write_deltalake

T0 = datetime(2024, 1, 1, tzinfo=UTC)
US = pl.Datetime("us", "UTC")


def hour(number: float) -> datetime:
    return T0 + timedelta(hours=number)


def rows(**columns: list[Any]) -> pl.DataFrame:
    """Facts of drivers; times in hours after T0."""
    for name in ("event_timestamp", "created"):
        if name in columns:
            columns[name] = [None if value is None else hour(value) for value in columns[name]]
    return pl.DataFrame(columns)


def ask(*pairs: tuple[Any, float], **more: list[Any]) -> pd.DataFrame:
    drivers, times = zip(*pairs, strict=True)
    return pd.DataFrame({"driver": list(drivers), "event_timestamp": [hour(time) for time in times], **more})


FACTS = rows(
    driver=[1, 1, 2, 1],
    event_timestamp=[1, 3, 2, 3],
    created=[1, 3, 2, 5],
    trips=[10, 20, 30, 40],
    rate_y=[0.1, 0.2, 0.3, 0.4],
)


class Project:
    """A Feast project in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.driver = feast.Entity(name="driver", join_keys=["driver"], value_type=feast.ValueType.INT64)
        self.store = feast.FeatureStore(
            config=feast.RepoConfig(
                project="drivers",
                provider="local",
                registry=str(folder / "registry.db"),
                entity_key_serialization_version=3,
                offline_store={"type": "backsight_features.store.asof.AsofOfflineStore", "root": str(folder)},
                online_store={"type": "sqlite", "path": str(folder / "online.db")},
                repo_path=folder,
            )
        )

    def source(self, facts: pl.DataFrame, kind: str = "delta", name: str = "stats", **settings: Any) -> Any:
        path = f"{name}.{kind}"
        if kind == "delta":
            write_deltalake(self.folder / path, facts)
            settings["file_format"] = feast.data_format.DeltaFormat()
        elif kind == "partitioned":
            write_deltalake(self.folder / path, facts, partition_by=["driver"])
            settings["file_format"] = feast.data_format.DeltaFormat()
        elif kind == "hive":
            pq.write_to_dataset(facts.to_arrow(), self.folder / path, partition_cols=["driver"])
        elif kind == "folder":
            (self.folder / path).mkdir()
            for i, part in enumerate(facts.iter_slices(2)):
                part.write_parquet(self.folder / path / f"{i}.parquet")
        else:
            facts.write_parquet(self.folder / path)
        settings = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created"} | settings
        return feast.FileSource(name=name, path=path, **settings)

    def view(self, source: Any, name: str = "stats", **settings: Any) -> Any:
        schema = [
            feast.Field(name="trips", dtype=feast.types.Int64),
            feast.Field(name="rate_y", dtype=feast.types.Float64),
        ]
        settings = {"entities": [self.driver], "schema": schema} | settings
        view = feast.FeatureView(name=name, source=source, **settings)
        self.store.apply([self.driver, view])
        return view

    def ask(self, entities: Any, *features: str, **settings: Any) -> pa.Table:
        job = self.store.get_historical_features(entity_df=entities, features=list(features), **settings)
        return job.to_arrow()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


ALL = ("stats:trips", "stats:rate_y")


@pytest.mark.parametrize("kind", ["delta", "partitioned", "parquet", "folder", "hive"])
def test_the_newest_fact_by_event_then_by_creation(project: Project, kind: str) -> None:
    project.view(project.source(FACTS, kind))
    entities = ask((2, 2), (1, 9), (1, 2.9), (3, 9), (1, 9), (1, 0.9), label=list("abcdef"))
    got = project.ask(entities, *ALL)
    assert got.column_names == ["driver", "event_timestamp", "label", "trips", "rate_y"]
    assert got["label"].to_pylist() == list("abcdef")
    assert got["trips"].to_pylist() == [30, 40, 10, None, 40, None]
    assert got["rate_y"].to_pylist() == [0.3, 0.4, 0.1, None, 0.4, None]
    known = project.ask(entities, *ALL, filter_by_created_timestamp=True)
    assert known["trips"].to_pylist() == [30, 40, 10, None, 40, None]
    earlier = project.ask(ask((1, 4.9), (1, 5)), *ALL, filter_by_created_timestamp=True)
    assert earlier["trips"].to_pylist() == [20, 40]


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_entity_instants_of_any_unit_and_zone(project: Project, unit: str, zone: str | None) -> None:
    project.view(project.source(FACTS))
    entities = ask((1, 3), (1, 2))
    instants = pd.to_datetime(entities["event_timestamp"], utc=True)
    instants = instants.dt.tz_localize(None) if zone is None else instants.dt.tz_convert(zone)
    entities["event_timestamp"] = instants.astype(f"datetime64[{unit}{f', {zone}' if zone else ''}]")
    assert project.ask(entities, *ALL)["trips"].to_pylist() == [40, 10]


@pytest.mark.parametrize("kind", [pl.Datetime("ns", "UTC"), pl.Datetime("ms"), pl.Datetime("us", "Asia/Tokyo")])
def test_stored_instants_of_any_unit_and_zone(project: Project, kind: pl.Datetime) -> None:
    convert = pl.col("event_timestamp", "created")
    facts = FACTS.with_columns(
        convert.dt.replace_time_zone(None) if kind.time_zone is None else convert.dt.convert_time_zone(kind.time_zone)
    ).with_columns(convert.dt.cast_time_unit(kind.time_unit))
    project.view(project.source(facts, "parquet"), ttl=timedelta(hours=2))
    got = project.ask(ask((1, 3), (1, 2), (1, 5), (1, 5.001)), *ALL)
    assert got["trips"].to_pylist() == [40, 10, 40, None]


def test_ttl_is_inclusive_and_nothing_older_stands_in(project: Project) -> None:
    project.view(project.source(FACTS), ttl=timedelta(hours=1))
    assert project.ask(ask((1, 2), (1, 2.001), (1, 4), (1, 4.001)), *ALL)["trips"].to_pylist() == [10, None, 40, None]


def test_ties_are_decided_by_values_whatever_was_asked_for(project: Project) -> None:
    tie = rows(driver=[1, 1, 1], event_timestamp=[1] * 3, created=[1] * 3, trips=[5, 7, 7], rate_y=[0.9, 0.1, 0.2])
    project.view(project.source(tie))
    assert project.ask(ask((1, 1)), "stats:rate_y")["rate_y"].to_pylist() == [0.2]
    write_deltalake(project.folder / "stats.delta", tie.reverse(), mode="overwrite")
    assert project.ask(ask((1, 1)), "stats:rate_y")["rate_y"].to_pylist() == [0.2]


def test_a_delta_table_is_what_its_log_says(project: Project) -> None:
    project.view(project.source(FACTS))
    write_deltalake(project.folder / "stats.delta", FACTS.with_columns(trips=pl.col("trips") + 1), mode="overwrite")
    assert project.ask(ask((1, 9)), *ALL)["trips"].to_pylist() == [41]


def test_wide_integers_keep_every_digit(project: Project) -> None:
    facts = FACTS.with_columns(trips=pl.Series([2**62 + 1] * 4))
    project.view(project.source(facts))
    got = project.ask(ask((1, 1), (3, 1)), "stats:trips")
    assert got.schema.field("trips").type == pa.int64()
    assert got["trips"].to_pylist() == [2**62 + 1, None]


def test_field_mappings_join_key_maps_and_full_names(project: Project) -> None:
    stored = FACTS.rename({"trips": "n", "driver": "who", "event_timestamp": "when"})
    source = project.source(
        stored,
        timestamp_field="when",
        field_mapping={"n": "trips", "who": "driver"},
    )
    view = project.view(source)
    service = feast.FeatureService(
        name="pair",
        features=[
            view.with_name("winner").with_join_key_map({"driver": "winner_id"}),
            view.with_name("loser").with_join_key_map({"driver": "loser_id"}),
        ],
    )
    project.store.apply(service)
    entities = pd.DataFrame({"winner_id": [1], "loser_id": [2], "event_timestamp": [hour(4)]})
    got = project.store.get_historical_features(entities, service, full_feature_names=True).to_arrow()
    assert got.column_names[-4:] == ["winner__trips", "winner__rate_y", "loser__trips", "loser__rate_y"]
    assert got["winner__trips"].to_pylist() == [40]
    assert got["loser__trips"].to_pylist() == [30]


@pytest.mark.filterwarnings("ignore:On demand feature view is an experimental:RuntimeWarning")
def test_on_demand_views_see_features_and_entity_rows(project: Project) -> None:
    from feast.on_demand_feature_view import on_demand_feature_view

    view = project.view(project.source(FACTS))
    request = feast.RequestSource(name="now", schema=[feast.Field(name="bonus", dtype=feast.types.Int64)])

    @on_demand_feature_view(
        sources=[view, request],
        schema=[feast.Field(name="total", dtype=feast.types.Int64)],
        mode="pandas",
    )
    def paid(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"total": (frame["trips"] + frame["bonus"]).astype("int64")})

    project.store.apply(paid)
    got = project.ask(ask((1, 9), (2, 9), bonus=[1, 2]), "stats:trips", "paid:total")
    assert got["total"].to_pylist() == [41, 32]


def test_views_without_entities(project: Project) -> None:
    project.view(project.source(FACTS.drop("driver")), entities=[])
    got = project.ask(pd.DataFrame({"event_timestamp": [hour(2.5), hour(0)]}), *ALL)
    assert got["trips"].to_pylist() == [30, None]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT driver, event_timestamp + INTERVAL 1 HOUR AS event_timestamp FROM stats WHERE driver = 2",
        "SELECT 2 AS driver, TIMESTAMP '2024-01-01 03:00:00' AS event_timestamp",
        "with late as (select * from Stats) select driver, event_timestamp + interval 1 hour as event_timestamp "
        "from late where driver = 2;",
    ],
)
def test_entity_rows_from_a_query(project: Project, query: str) -> None:
    project.view(project.source(FACTS))
    got = project.ask(query, *ALL)
    assert got["trips"].to_pylist() == [30]
    assert got["event_timestamp"].to_pylist() == [hour(3)]


def test_a_query_downloads_nothing_and_its_error_is_told(project: Project) -> None:
    project.view(project.source(FACTS))
    with pytest.raises(BadInput, match="query for the entity rows failed"):
        project.ask("SELECT * FROM delta_scan('x')", *ALL)


def test_every_change_in_a_range(project: Project) -> None:
    project.view(project.source(FACTS))
    got = project.ask(None, *ALL, start_date=hour(2), end_date=hour(3))
    assert got.select(["driver", "event_timestamp", "trips"]).to_pylist() == [
        {"driver": 2, "event_timestamp": hour(2), "trips": 30},
        {"driver": 1, "event_timestamp": hour(3), "trips": 40},
    ]
    assert project.ask(None, *ALL, start_date=hour(20), end_date=hour(30)).num_rows == 0


def test_empty_tables_and_no_rows(project: Project) -> None:
    project.view(project.source(FACTS.clear()))
    assert project.ask(ask((1, 9)), *ALL)["trips"].to_pylist() == [None]
    assert project.ask(ask((1, 9)).head(0), *ALL).num_rows == 0


def test_null_keys_and_null_instants_find_nothing(project: Project) -> None:
    facts = rows(driver=[None, 1], event_timestamp=[1, None], created=[1, 1], trips=[1, 2], rate_y=[1.0, 2.0])
    project.view(project.source(pl.concat([facts, FACTS])))
    entities = ask((1, 9), (None, 9), (1, 9))
    entities.loc[2, "event_timestamp"] = pd.NaT
    assert project.ask(entities, *ALL)["trips"].to_pylist() == [40, None, None]


def test_materialize_takes_the_newest_of_each_key(project: Project) -> None:
    project.view(project.source(FACTS.with_columns(pl.col("event_timestamp").dt.cast_time_unit("ns")), "parquet"))
    project.store.config.materialization_config.pull_latest_features = True
    project.store.materialize(hour(0), hour(10))
    got = project.store.get_online_features(list(ALL), [{"driver": 1}, {"driver": 2}]).to_dict()
    assert got["trips"] == [40, 30]


@pytest.mark.parametrize("latest", [True, False])
def test_a_view_without_entities_is_materialized(project: Project, latest: bool) -> None:
    project.view(project.source(FACTS.drop("driver")), entities=[])
    project.store.config.materialization_config.pull_latest_features = latest
    project.store.materialize(hour(0), hour(10))
    assert project.store.get_online_features(list(ALL), [{"any": 1}]).to_dict()["trips"] == [40]


def test_batches_are_written_under_the_names_of_the_source(project: Project) -> None:
    project.view(project.source(FACTS.rename({"trips": "n"}), field_mapping={"n": "trips"}))
    more = rows(driver=[1], event_timestamp=[7], created=[7], n=[70], rate_y=[0.7])
    project.store.write_to_offline_store("stats", more.to_pandas())
    assert project.ask(ask((1, 9), (1, 6)), *ALL)["trips"].to_pylist() == [70, 40]


@pytest.mark.parametrize("kind", ["delta", "parquet", "folder"])
def test_written_batches_are_read_back(project: Project, kind: str) -> None:
    project.view(project.source(FACTS, kind))
    more = rows(driver=[1], event_timestamp=[7], created=[7], trips=[70], rate_y=[0.7])
    project.store.write_to_offline_store("stats", more.to_pandas())
    assert project.ask(ask((1, 9), (1, 6)), *ALL)["trips"].to_pylist() == [70, 40]


def test_a_folder_split_by_value_is_not_written_to(project: Project) -> None:
    project.view(project.source(FACTS, "hive"))
    more = project.store.get_historical_features(None, list(ALL), start_date=hour(0), end_date=hour(9)).to_df()
    columns = pl.read_parquet(project.folder / "stats.hive").columns
    with pytest.raises(BadInput, match=r"'stats': .*stats\.hive is split into folders by value"):
        project.store.write_to_offline_store("stats", more.assign(created=hour(9))[columns])


@pytest.mark.parametrize("kind", ["delta", "parquet"])
def test_a_saved_dataset_is_read_back_and_not_overwritten_unasked(project: Project, kind: str) -> None:
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    project.view(project.source(FACTS))
    job = project.store.get_historical_features(ask((1, 9), (2, 9)), list(ALL))
    formats = {"delta": feast.data_format.DeltaFormat(), "parquet": feast.data_format.ParquetFormat()}
    storage = SavedDatasetFileStorage(path=f"saved.{kind}", file_format=formats[kind])
    job.persist(storage)
    path = project.folder / f"saved.{kind}"
    held = pl.from_arrow(DeltaTable(path).to_pyarrow_table() if kind == "delta" else pq.read_table(path))
    assert held["trips"].to_list() == [40, 30]
    with pytest.raises(feast.errors.SavedDatasetLocationAlreadyExists):
        job.persist(storage)
    job.persist(storage, allow_overwrite=True)


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        (ask((1, 9)).rename(columns={"driver": "who"}), "'stats': the entity rows lack the join key 'driver'"),
        (ask(("x", 9)), "'stats': key 'driver' is String, but 'driver' in the facts is Int64"),
        (ask((1, 9), trips=[0]), "'stats': column 'trips' would occur twice"),
        (
            ask((1, 9)).assign(event_timestamp=1704067200),
            "'event_timestamp' of the entity rows is int64; an instant must",
        ),
        (ask((1, 9)).assign(event_timestamp="soon"), "'event_timestamp' of the entity rows holds no timestamps"),
        ("SELECT 1 AS driver, 2 AS driver, now() AS at", "the entity rows have more than one column named driver"),
        (pl.DataFrame({"driver": [1]}), "the entity rows are a polars DataFrame; they must be a pandas DataFrame"),
    ],
)
def test_errors_name_what_is_wrong_with_the_rows(project: Project, entities: Any, message: str) -> None:
    project.view(project.source(FACTS))
    with pytest.raises(BadInput, match=message):
        project.ask(entities, *ALL)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (FACTS.drop("trips"), r"'stats': no column 'trips' in .*stats\.delta; there are driver"),
        (FACTS.drop("created"), r"'stats': no column 'created'"),
        (FACTS.with_columns(event_timestamp=1), r"'event_timestamp' is Int32; an instant must be a timestamp"),
    ],
)
def test_errors_name_what_is_wrong_with_the_source(project: Project, facts: pl.DataFrame, message: str) -> None:
    project.view(project.source(FACTS))
    write_deltalake(project.folder / "stats.delta", facts, mode="overwrite", schema_mode="overwrite")
    with pytest.raises(BadInput, match=message):
        project.ask(ask((1, 9)), *ALL)


def test_files_of_one_folder_must_agree_on_types(project: Project) -> None:
    project.view(project.source(FACTS, "folder"))
    FACTS.cast({"trips": pl.String}).write_parquet(project.folder / "stats.folder" / "9.parquet")
    with pytest.raises(BadInput, match=r"column 'trips' is String in .*9\.parquet, but Int64 in another file"):
        project.ask(ask((1, 9)), *ALL)


def test_files_of_one_folder_may_differ_in_width_and_nothing_is_known_early(project: Project) -> None:
    project.view(project.source(FACTS, "folder"))
    late = rows(driver=[1], event_timestamp=[4], created=[4], trips=[50], rate_y=[0.5]).with_columns(
        pl.col("event_timestamp").dt.cast_time_unit("ns") + pl.duration(nanoseconds=1), pl.col("trips").cast(pl.Int32)
    )
    late.write_parquet(project.folder / "stats.folder" / "9.parquet")
    assert project.ask(ask((1, 4), (1, 5)), *ALL)["trips"].to_pylist() == [40, 50]
    changes = project.ask(None, *ALL, start_date=hour(4), end_date=hour(5))
    assert changes["trips"].to_pylist() == [50]


def test_a_source_that_is_not_there_is_named(project: Project) -> None:
    source = project.source(FACTS)
    project.view(source)
    (project.folder / "stats.delta").rename(project.folder / "elsewhere")
    with pytest.raises(BadInput, match=r"'stats': no Delta table at .*stats\.delta"):
        project.ask(ask((1, 9)), *ALL)


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "asof-store.md"
    [example] = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(page), "exec"), {})


def test_long_series_cost_in_proportion(project: Project) -> None:
    """10,000 facts and as many rows; Feast's own stores need 21 s and 6 GB, or die."""
    count = 10_000
    end = T0 + timedelta(minutes=count - 1)
    facts = pl.select(
        driver=pl.lit(1, pl.Int64),
        event_timestamp=pl.datetime_range(T0, end, "1m", time_unit="us"),
        created=pl.lit(T0, US),
        trips=pl.int_range(count),
        rate_y=pl.lit(0.0),
    )
    project.view(project.source(facts))
    entities = facts.select("driver", "event_timestamp").sample(fraction=1, shuffle=True, seed=0)
    got = project.ask(entities.to_pandas(), *ALL)
    minutes = (entities["event_timestamp"] - T0).dt.total_minutes()
    assert got["trips"].to_pylist() == minutes.to_list()
