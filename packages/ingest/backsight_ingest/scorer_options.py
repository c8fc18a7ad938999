"""The options that name a scorer, for all verbs that have one."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from backsight_features.errors import BadInput
from backsight_features.workspace import Workspace

if TYPE_CHECKING:
    from backsight_ingest.scoring.scorer import Scorer

_R = TypeVar("_R")

_SHIPPED: Final = ("lexicon-standin",)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the command line says of the scorer.

    Parameters
    ----------
    scorer : str or None
        The name of one that is shipped.
    model : str or None
        A hub's id or a folder.
    revision, weights_sha256 : str or None
        Pin the hub's model.
    """

    scorer: str | None
    model: str | None
    revision: str | None
    weights_sha256: str | None

    def open(self, workspace: Workspace) -> "Scorer":
        """Return the scorer, its model fetched or found in the workspace.

        Raises
        ------
        click.UsageError
            If the options contradict each other.
        BadInput
            If the model cannot be used.
        SourceError
            If the hub cannot be reached.
        """
        if (self.scorer is None) == (self.model is None):
            raise click.UsageError("give either --scorer or --model")
        if self.model is None:
            return self._shipped()
        from backsight_ingest.scoring.models import from_folder, from_hub

        cache, folder = workspace.root / "scorers", Path(self.model)
        if folder.is_dir():
            if self.revision is not None or self.weights_sha256 is not None:
                raise BadInput(
                    f"{folder} is a folder, pinned by its content; leave out --revision and --weights-sha256"
                )
            return from_folder(folder, cache=cache)
        if self.revision is None:
            raise BadInput(f"{self.model} is no folder here; for a model of a hub give --revision, its whole commit")
        return from_hub(self.model, self.revision, cache=cache, weights_sha256=self.weights_sha256)

    def _shipped(self) -> "Scorer":
        if self.revision is not None or self.weights_sha256 is not None:
            raise click.UsageError("--revision and --weights-sha256 belong to --model")
        from backsight_ingest.scoring.lexicon import LexiconStandIn

        return LexiconStandIn()


_OPTIONS: Final = (
    click.option("--scorer", type=click.Choice(_SHIPPED), help="One that is shipped; no download."),
    click.option("--model", metavar="ID|FOLDER", help="A text classifier: a hub's id with --revision, or a folder."),
    click.option("--revision", metavar="COMMIT", help="The whole commit of the hub's model, 40 hex digits."),
    click.option("--weights-sha256", metavar="HEX", help="Pins the hub's weights; needed where they are a .bin."),
)


def scorer_options(verb: Callable[..., _R]) -> Callable[..., _R]:
    """Give a verb the options; it is called with one ``choice``."""

    @wraps(verb)
    def called(*args: Any, **named: Any) -> _R:
        choice = Choice(**{each.name: named.pop(each.name) for each in fields(Choice)})
        return verb(*args, choice=choice, **named)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called
