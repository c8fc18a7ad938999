"""A service of the registry, with what is derived from it."""

from dataclasses import dataclass

from feast import FeatureService, FeatureStore, FeatureView
from feast.errors import FeatureServiceNotFoundException, FeatureViewNotFoundException

from backsight_features.errors import BadInput
from backsight_features.online.contract import Contract, patience, window_view_name
from backsight_features.store.definitions import max_age_of, timeframe_of


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service and its views.

    Parameters
    ----------
    definition : FeatureService
        As in the registry.
    contract : Contract
        What its windows are, of any length.
    views : tuple of FeatureView
        Where its features are.
    window_view : FeatureView
        Where its newest windows are.
    """

    definition: FeatureService
    contract: Contract
    views: tuple[FeatureView, ...]
    window_view: FeatureView


def look_up(feast: FeatureStore, name: str) -> Service:
    """Return a service of the registry.

    Raises
    ------
    BadInput
        If there is none of that name with a window view and a timeframe.
    """
    try:
        definition = feast.get_feature_service(name)
        view = feast.get_feature_view(window_view_name(name))
    except (FeatureServiceNotFoundException, FeatureViewNotFoundException):
        names = sorted(service.name for service in feast.list_feature_services())
        what = f"there are {', '.join(names)}" if names else "the registry is empty; run `backsight apply`"
        raise BadInput(f"no service {name!r} with a window view; {what}") from None
    step = timeframe_of(definition)
    if step is None:
        raise BadInput(f"service {name!r} names no timeframe; give it a tag such as timeframe: 1h")
    fields = [field for projection in definition.feature_view_projections for field in projection.features]
    return Service(
        definition=definition,
        contract=Contract(
            service=name,
            features=tuple(field.name for field in fields),
            timeframe=step,
            max_age=patience(step),
            max_ages={field.name: age for field in fields if (age := max_age_of(field)) is not None},
            length=None,
        ),
        views=tuple(feast.get_feature_view(part.name) for part in definition.feature_view_projections),
        window_view=view,
    )
