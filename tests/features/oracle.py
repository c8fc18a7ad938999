"""What a point-in-time join must answer, said in plain Python: every row is held against every fact.

Slow and obvious on purpose: no frames, no sorting, no arithmetic but on whole nanoseconds since 1970 (UTC). Nothing
here is shared with the code that it judges.
"""

from typing import Any

Row = dict[str, Any]
"""A row of a table by column. Instants are nanoseconds since 1970, or None."""


def precedes(one: Row, other: Row, *, created: bool, values: list[str]) -> bool:
    """Return whether the other fact is to be believed rather than this one; False if nothing tells them apart."""
    if one["event"] != other["event"]:
        return one["event"] < other["event"]
    for name in ["created"] * created + values:
        if one[name] is None or other[name] is None:
            if one[name] is not other[name]:
                return one[name] is None
        elif one[name] != other[name] and not (is_nan(one[name]) and is_nan(other[name])):
            return is_nan(other[name]) or one[name] < other[name]
    return False


def is_nan(value: Any) -> bool:
    """Return whether a value is not a number; it ranks above all numbers."""
    return value != value


def best(facts: list[Row], *, created: bool, values: list[str]) -> Row | None:
    """Return the fact to be believed; None where there is none."""
    chosen = None
    for fact in facts:
        if chosen is None or precedes(chosen, fact, created=created, values=values):
            chosen = fact
    return chosen


def same_key(row: Row, fact: Row, keys: list[str]) -> bool:
    """Return whether a fact is about what a row asks for; null is about nothing."""
    return all(row[key] is not None and fact[key] is not None and row[key] == fact[key] for key in keys)


def visible(row: Row, fact: Row, *, keys: list[str], as_known: bool) -> bool:
    """Return whether a fact was true, and if asked for written, at the instant of a row."""
    if row["at"] is None or fact["event"] is None or not same_key(row, fact, keys):
        return False
    if as_known and (fact["created"] is None or fact["created"] > row["at"]):
        return False
    return bool(fact["event"] <= row["at"])


def as_of(
    rows: list[Row],
    facts: list[Row],
    *,
    keys: list[str],
    values: list[str],
    created: bool = False,
    ttl: int | None = None,
    as_known: bool = False,
) -> list[Row | None]:
    """Return, for every row with ``at``, the fact known then; None where none was, or it was older than ``ttl`` ns."""
    answers = []
    for row in rows:
        known = [fact for fact in facts if visible(row, fact, keys=keys, as_known=as_known and created)]
        chosen = best(known, created=created, values=values)
        if chosen is not None and ttl is not None and row["at"] - chosen["event"] > ttl:
            chosen = None
        answers.append(chosen)
    return answers


def latest(
    facts: list[Row], *, keys: list[str], values: list[str], created: bool, start: int, end: int
) -> list[Row | None]:
    """Return the fact to be believed of every key in ``[start, end]``; here null is a key like another."""
    groups: list[tuple[list[Any], list[Row]]] = []
    for fact in within(facts, start, end):
        key = [fact[name] for name in keys]
        for held, members in groups:
            if held == key:
                members.append(fact)
                break
        else:
            groups.append((key, [fact]))
    return [best(members, created=created, values=values) for _, members in groups]


def within(facts: list[Row], start: int, end: int) -> list[Row]:
    """Return the facts whose event lies in ``[start, end]``."""
    return [fact for fact in facts if fact["event"] is not None and start <= fact["event"] <= end]


def changes(views: list[tuple[list[str], list[Row]]], all_keys: list[str], start: int, end: int) -> list[Row]:
    """Return every key and instant in ``[start, end]`` at which a fact of one of the views became true, once each."""
    found: list[Row] = []
    for keys, facts in views:
        for fact in within(facts, start, end):
            row = {key: fact[key] if key in keys else None for key in all_keys}
            row["at"] = fact["event"]
            if row not in found:
                found.append(row)
    return found
