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

_SHIPPED: Final = ("sentfin-tiny-bert",)
_PRECISIONS: Final = ("fp32", "int8")


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
    precision : str or None
        That the model runs in; None for float32.
    """

    scorer: str | None
    model: str | None
    revision: str | None
    weights_sha256: str | None
    precision: str | None

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

        precision = self.precision or _PRECISIONS[0]
        cache, folder = workspace.root / "scorers", Path(self.model)
        if folder.is_dir():
            if self.revision is not None or self.weights_sha256 is not None:
                raise BadInput(
                    f"{folder} is a folder, pinned by its content; leave out --revision and --weights-sha256"
                )
            return from_folder(folder, cache=cache, precision=precision)
        if self.revision is None:
            raise BadInput(f"{self.model} is no folder here; for a model of a hub give --revision, its whole commit")
        return from_hub(self.model, self.revision, cache=cache, weights_sha256=self.weights_sha256, precision=precision)

    def _shipped(self) -> "Scorer":
        if self.revision is not None or self.weights_sha256 is not None or self.precision is not None:
            raise click.UsageError("--revision, --weights-sha256 and --precision belong to --model")
        from backsight_ingest.scoring.models import shipped

        return shipped()


_OPTIONS: Final = (
    click.option("--scorer", type=click.Choice(_SHIPPED), help="One that is shipped; no download."),
    click.option("--model", metavar="ID|FOLDER", help="A text classifier: a hub's id with --revision, or a folder."),
    click.option("--revision", metavar="COMMIT", help="The whole commit of the hub's model, 40 hex digits."),
    click.option("--weights-sha256", metavar="HEX", help="Pins the hub's weights; needed where they are a .bin."),
    click.option("--precision", type=click.Choice(_PRECISIONS), help="int8 is faster, and another scorer."),
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
