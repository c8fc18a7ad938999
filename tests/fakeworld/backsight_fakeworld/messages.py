"""What a source is asked and what it answers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Any
"""A dict, or a list, that a source repeats in a page."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request; a source sees its path without the source's prefix.

    Parameters
    ----------
    headers : mapping of str to str
        By lower-case name.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str

    def number(self, name: str, default: int) -> int:
        """Return a whole number of the query."""
        return int(float(self.query.get(name) or default))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, kept as rows and what renders them, so that a fault can act on the rows.

    Parameters
    ----------
    rows : list
        What the page lists.
    render : callable
        From rows to the body.
    names : mapping of str to int or str
        Where a row keeps ``open``, ``high``, ``low``, ``close``, ``volume``, ``value``...; names that are missing are
        where they are called so.
    """

    render: Callable[[list[Row]], bytes]
    rows: list[Row] = field(default_factory=list)
    names: Mapping[str, int | str] = field(default_factory=dict)
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_page(
    rows: list[Row],
    wrap: Callable[[list[Row]], object] = lambda rows: rows,
    *,
    names: Mapping[str, int | str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return a JSON document around rows."""
    return Answer(
        render=lambda rows: json.dumps(wrap(rows), ensure_ascii=False).encode(),
        rows=rows,
        names=names or {},
        headers=headers or {},
    )


def json_document(document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a JSON document that lists nothing."""
    body = json.dumps(document, ensure_ascii=False).encode()
    return Answer(render=lambda _: body, status=status, headers=headers or {})


def text_page(
    rows: list[Row],
    render: Callable[[list[Row]], str],
    *,
    content_type: str,
    names: Mapping[str, int | str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return a text, of XML or CSV, around rows."""
    return Answer(
        render=lambda rows: render(rows).encode(),
        rows=rows,
        names=names or {},
        content_type=content_type,
        headers=headers or {},
    )


def text_document(
    text: str,
    *,
    status: int = 200,
    content_type: str = "text/plain; charset=utf-8",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return a text that lists nothing."""
    return Answer(render=lambda _: text.encode(), status=status, content_type=content_type, headers=headers or {})
