"""Heads: what the header of a text and its path settle before the first record is read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from backsight_features.errors import BadInput, Drifted

from backsight_ingest.files import Member
from backsight_ingest.layout import EVERYTHING_ELSE, Layout, render

_MOST: Final = 20
_LONGEST: Final = 40
"""Names, and characters of each, that an error shows."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What the header of a text settles.

    Parameters
    ----------
    names : tuple of str
        Its columns, in order.
    variables : mapping of str to str
        What ``{name}`` stands for in the layout.
    """

    names: tuple[str, ...]
    variables: Mapping[str, str]


class Settings:
    """Where the variables of a layout come from: what was given by hand, the path, the header, the defaults.

    Parameters
    ----------
    layout : Layout
        Which declares them.
    given : mapping of str to str
        By hand.

    Raises
    ------
    BadInput
        If the layout has no such setting.
    """

    def __init__(self, layout: Layout, given: Mapping[str, str]) -> None:
        if unknown := sorted(given.keys() - layout.variables):
            known = ", ".join(sorted(layout.variables)) or "none"
            raise BadInput(f"layout {layout.name} has no setting {unknown[0]!r}; it has: {known}")
        self._layout = layout
        self._given = given

    def resolve(self, member: Member, header: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return the variables that are known of one text; `render` refuses one that is needed and is not."""
        layout = self._layout
        found = dict(layout.defaults)
        for name, cell in layout.header.items():
            if cell.row <= len(header) and cell.column <= len(header[cell.row - 1]):
                found[name] = header[cell.row - 1][cell.column - 1]
        if layout.path is not None:
            # The last match is the one nearest to the file's own name.
            for match in layout.path.finditer(member.place):
                found.update({name: text for name, text in match.groupdict().items() if text is not None})
        found = {name: layout.translate.get(name, {}).get(text, text) for name, text in found.items()}
        found.update(self._given)
        return found


def sources(layout: Layout, variables: Mapping[str, str], names: Iterable[str]) -> list[dict[str, tuple[str, ...]]]:
    """Return, per version, the columns of the file that each column of the table comes from: the first that is filled.

    Raises
    ------
    Drifted
        If a declared column is missing, or a column is not declared.
    """
    present = list(names)
    if twice := sorted({name for name in present if present.count(name) > 1}):
        raise Drifted(f"column {twice[0]!r} is there twice")
    chosen: list[dict[str, tuple[str, ...]]] = []
    for version in layout.versions:
        found: dict[str, tuple[str, ...]] = {}
        for target, choices in {**layout.columns, **version.columns}.items():
            rendered = [render(choice, variables) for choice in choices]
            match = tuple(choice for choice in rendered if choice in present)
            if match:
                found[target] = match
            elif target not in layout.optional:
                raise Drifted(f"no column {' or '.join(map(repr, rendered))} for {target}; there is {_listed(present)}")
        for name in (version.present, version.absent):
            if name and name not in present:
                raise Drifted(f"no column {name!r}; there is {_listed(present)}")
        chosen.append(found)
    declared = {source for found in chosen for choices in found.values() for source in choices}
    declared |= {name for version in layout.versions for name in (version.present, version.absent)}
    declared |= {render(name, variables) for name in layout.ignored} | set(layout.id_from)
    unknown = [name for name in present if name not in declared]
    if unknown and EVERYTHING_ELSE not in layout.ignored:
        raise Drifted(f"column {_listed(unknown)} is not declared; map it or list it under ignored")
    return chosen


def _listed(names: Sequence[str]) -> str:
    shown = [repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…") for name in names[:_MOST]]
    return ", ".join(shown) + (" …" if len(names) > _MOST else "")
