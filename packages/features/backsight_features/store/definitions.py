"""The feature views of a feature repo, made from what the feature modules declare."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Bytes, Float32, String

from backsight_features.clocks import timeframe
from backsight_features.feature import Feature
from backsight_features.online.contract import CONTRACT, PACKED, patience, window_view_name

_TIMEFRAME: Final = "timeframe"
_MAX_AGE: Final = "max_age_seconds"


def state_view(table: str, features: Sequence[Feature], entity: Entity, *, bar: str) -> FeatureView:
    """Return the view of a feature table: one row per (symbol, available_at), the state of knowledge then.

    Parameters
    ----------
    table : str
        Name of the view and of its Delta table under ``features/``.
    features : sequence of Feature
        Its columns.
    entity : Entity
        Joined by ``symbol``.
    bar : str
        Timeframe of the grid, ``1h``. A state is served no longer than `patience` says.
    """
    return FeatureView(
        name=table,
        entities=[entity],
        schema=[
            Field(
                name=feature.name,
                dtype=Float32,
                description=feature.description,
                tags={"unit": feature.unit, _MAX_AGE: str(feature.max_age.total_seconds())},
            )
            for feature in features
        ],
        source=FileSource(
            name=table, path=f"features/{table}", file_format=DeltaFormat(), timestamp_field="available_at"
        ),
        ttl=patience(timeframe(bar)),
        online=False,
    )


def service(name: str, views: Sequence[FeatureView], *, bar: str) -> FeatureService:
    """Return a service of all features of some views, on the grid of one timeframe."""
    return FeatureService(name=name, features=list(views), tags={_TIMEFRAME: bar})


def window_view(service: FeatureService, entity: Entity) -> FeatureView:
    """Return the view that holds the newest window of a service and its contract; only ``publish`` fills it."""
    return FeatureView(
        name=window_view_name(service.name),
        entities=[entity],
        schema=[
            Field(name=PACKED, dtype=Bytes, description=f"newest window of {service.name}, as online.packed says"),
            Field(name=CONTRACT, dtype=String, description="what a reader has to know of it, as online.contract says"),
        ],
        tags={"service": service.name},
    )


def timeframe_of(service: FeatureService) -> timedelta | None:
    """Return the timeframe of a service, or None where it names none."""
    text = service.tags.get(_TIMEFRAME)
    return timeframe(text) if text else None


def max_age_of(field: Field) -> timedelta | None:
    """Return how long a feature may be served, or None where it does not say."""
    seconds = field.tags.get(_MAX_AGE)
    return timedelta(seconds=float(seconds)) if seconds else None
