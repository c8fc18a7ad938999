"""JSON objects: two decoders that have to say the same, fields within fields, and numbers as they were written."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backsight_features.errors import BadInput, Drifted
from backsight_ingest import objects
from backsight_ingest.blocks import Block
from backsight_ingest.files import Member
from backsight_ingest.heads import Head, Settings
from backsight_ingest.layout import Layout
from backsight_ingest.layouts import parse
from backsight_ingest.objects import json_document, json_lines
from hypothesis import given, settings
from hypothesis import strategies as st

POSTS = """
kind = "posts"
ignored = ["spam"]
optional = ["url"]
[columns]
channel = "subreddit"
id = "id"
observed_at = ["seen.last", "seen.first", "t"]
title = "title"
text = "body"
url = "url"
[constants]
site = "reddit"
[observed]
epoch = "s"
[format]
type = "jsonl"
"""
FIRST: dict[str, Any] = {"id": "a", "subreddit": "btc", "t": 5, "title": "Up", "body": None, "spam": {"x": [1]}}


def layout(text: str = POSTS) -> Layout:
    """Return a layout."""
    return parse(text.encode(), name="mine")


def read(path: Path, text: bytes, mine: Layout) -> tuple[Head, pl.DataFrame, list[tuple[int, str, str]]]:
    """Return the head of a text, its rows with their numbers, and what is broken."""
    path.write_bytes(text)
    source = Member(path=path, name=path.name, place=str(path), origin=path.name)
    reader = json_document if mine.format.type == "json" else json_lines
    head, *found = reader(mine, source, Settings(mine, {}))
    assert isinstance(head, Head)
    rows, broken, start = [pl.DataFrame(schema=dict.fromkeys(head.names, pl.String))], [], 0
    for each in found:
        assert isinstance(each, Block)
        rows.append(each.rows.with_columns(pl.Series("@", each.offsets + start)))
        broken += [(start + offset, reason, original) for offset, reason, original in each.broken]
        start += each.records
    return head, pl.concat(rows, how="diagonal"), broken


def lines(*found: dict[str, Any]) -> bytes:
    """Return objects, a line each."""
    return "\n".join(json.dumps(each) for each in found).encode()


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
found = st.fixed_dictionaries(
    {"id": values, "subreddit": values, "title": values, "body": values},
    optional={
        "t": values,
        "url": values,
        "spam": values | st.lists(values, max_size=2),
        "seen": values | st.dictionaries(st.sampled_from(["first", "last"]), values),
    },
)


@given(rows=st.lists(found, min_size=1, max_size=5), ascii_only=st.booleans())
@settings(max_examples=200, deadline=None)
def test_both_decoders_say_the_same(rows: list[dict[str, Any]], ascii_only: bool) -> None:
    text = "".join(json.dumps(each, ensure_ascii=ascii_only) + "\n" for each in [FIRST, *rows])
    whole = text.encode("utf-8", "surrogatepass")
    fields = objects._fields(layout(), {}, FIRST)
    decoded = objects._decoded(whole, fields, objects._decoder(fields))
    parsed = objects._parsed(whole, fields, "utf-8")
    if decoded is None:  # half a surrogate pair
        assert r"\ud" in text or not objects.is_sound(whole)
        return
    assert decoded.rows.equals(parsed.rows)
    assert decoded.offsets.tolist() == parsed.offsets.tolist()
    assert decoded.broken == parsed.broken == []


@pytest.mark.parametrize(
    "written",
    [
        ["5", "null", "-9223372036854775808", "9223372036854775807", "-0"],
        ["5", "9223372036854775808"],
        ["-9223372036854775809", "1" + "0" * 60],
        ["true", "false", "null"],
        ["false", "1.50", "1e3", '"a"'],
        ["0.1", "-0.0", "1E+400"],
        ["1", "1.0", "true", '"1"', "null", '{"a": [1.50, true]}', '["\\u0000"]'],
        ["null", "null"],
    ],
)
@pytest.mark.parametrize("field", ["title", "seen"])
def test_both_decoders_say_the_same_of_each_kind_of_value(field: str, written: list[str]) -> None:
    first = '{"id": "a", "subreddit": "btc", "t": 5, "title": "Up", "body": null%s}'
    inside = ', "title": %s' if field == "title" else ', "seen": {"last": %s, "first": 1}'
    whole = "\n".join([first % "", *(first % inside % value for value in written)]).encode()
    fields = objects._fields(layout(), {}, FIRST)
    decoded = objects._decoded(whole, fields, objects._decoder(fields))
    assert decoded is not None
    assert decoded.rows.equals(objects._parsed(whole, fields, "utf-8").rows)
    assert decoded.rows.height == len(written) + 1


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (b'{"id": "b", "subreddit": "btc", "t": 1.50, "title": 1e3, "body": 12345678901234567890123}', "row"),
        (b'{"id": "b", "subreddit": "btc", "t": 1, "title": "x", "body": "\\ud800y"}', "row"),
        (b'{"id": "b", "subreddit": "btc", "t": NaN, "title": "x", "body": ""}', "row"),
        (
            b'{"id": "b", "subreddit": "btc", "t": 1, "title": "x", "body": "", "mood": 1}',
            "field 'mood' is not declared",
        ),
        (b'{"id": "b", "subreddit": "btc", "t": 1, "title": "x"}', "no field 'body'"),
        (b'{"id": "b", "subreddit": "btc"', "half a line, or no JSON"),
        (b'{"id": "b"}{"id": "c"}', "half a line, or no JSON"),
        (b'{"id": "b\xff"}', "not valid utf-8"),
        (b'"b"', "not a JSON object"),
        (b"[" * 100_000, "half a line, or no JSON"),
        (b" ", "empty row"),
    ],
)
def test_a_line_that_is_no_record_takes_no_other_with_it(tmp_path: Path, line: bytes, outcome: str) -> None:
    _, rows, broken = read(tmp_path / "x.jsonl", b"\n".join([lines(FIRST), line, lines(FIRST)]), layout())
    assert rows["@"].to_list() == ([0, 1, 2] if outcome == "row" else [0, 2])
    if outcome != "row":
        ((number, reason, original),) = broken
        assert number == 1
        assert reason.startswith(outcome)
        assert original.encode() == line.replace(b"\xff", rb"\xff")


def test_numbers_are_kept_as_they_were_written(tmp_path: Path) -> None:
    line = b'{"id": 7, "subreddit": true, "t": 1.50, "title": 1E+3, "body": 12345678901234567890123}'
    _, rows, _ = read(tmp_path / "x.jsonl", lines(FIRST) + b"\n" + line, layout())
    assert rows.select("id", "subreddit", "t", "title", "body").row(1) == (
        "7", "true", "1.50", "1E+3", "12345678901234567890123",
    )  # fmt: skip


def test_a_field_within_a_field_is_named_with_dots(tmp_path: Path) -> None:
    text = lines(FIRST, {**FIRST, "seen": {"last": 9, "first": 8}}, {**FIRST, "seen": None}, {**FIRST, "seen": 3})
    head, rows, broken = read(tmp_path / "x.jsonl", text, layout())
    assert head.names == ("subreddit", "id", "seen.last", "seen.first", "t", "title", "body", "url")
    assert rows["seen.last"].to_list() == [None, "9", None, None]
    assert broken == []
    # Where a name with a dot is that of a field, it is meant.
    _, rows, _ = read(tmp_path / "y.jsonl", lines({**FIRST, "seen.last": 4}), layout())
    assert rows["seen.last"].to_list() == ["4"]


def test_all_other_fields_may_be_passed_over(tmp_path: Path) -> None:
    text = lines({**FIRST, "mood": 1}, FIRST, {**FIRST, "votes": {"up": 2}})
    with pytest.raises(Drifted, match="'mood' is not declared"):
        read(tmp_path / "x.jsonl", text, layout())
    _, rows, broken = read(tmp_path / "x.jsonl", text, layout(POSTS.replace('["spam"]', '["*"]')))
    assert (rows.height, broken) == (3, [])
    assert "mood" not in rows.columns


def test_what_comes_before_the_first_object_is_broken(tmp_path: Path) -> None:
    _, rows, broken = read(tmp_path / "x.jsonl", b"\n[1\n" + lines(FIRST), layout())
    assert rows["@"].to_list() == [2]
    assert [reason.partition(":")[0] for _, reason, _ in broken] == ["empty row", "half a line, or no JSON"]
    with pytest.raises(Drifted, match="the first record is no JSON object"):
        read(tmp_path / "x.jsonl", b"[1]\n" + lines(FIRST), layout())
    with pytest.raises(Drifted, match="half a line, or no JSON"):
        read(tmp_path / "x.jsonl", b'{"id', layout())


def test_the_objects_of_a_document(tmp_path: Path) -> None:
    mine = layout(POSTS.replace('"jsonl"', '"json"\nrows = "data.posts"'))
    found = [FIRST, {"id": 1}, {**FIRST, "title": "\ud800z"}]
    text = json.dumps({"data": {"posts": found}}).encode()
    _, rows, broken = read(tmp_path / "x.json", text, mine)
    assert rows["title"].to_list() == ["Up", "z"]
    assert broken == [(1, "no field 'body'", '{"id": 1}')]
    _, rows, broken = read(tmp_path / "x.json", text.replace(b"Up", b"\xff"), mine)
    assert next(reason for _, reason, _ in broken) == "not valid utf-8"
    with pytest.raises(BadInput, match="no whole JSON document"):
        read(tmp_path / "x.json", text[:-3], mine)
    with pytest.raises(Drifted, match=r"no 'data.posts' in the document"):
        read(tmp_path / "x.json", b'{"data": []}', mine)
