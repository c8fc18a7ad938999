"""Lines without a quote are split by another hand than those with one: both have to say the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from backsight_ingest.blocks import BLOCK_BYTES, Block, Text, is_sound, open_text, whole_lines
from backsight_ingest.delimited import delimited, split_plain, split_quoted
from backsight_ingest.files import Member
from backsight_ingest.heads import Head, Settings
from backsight_ingest.layout import Format
from backsight_ingest.layouts import parse
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("a", "b", "c")
LAYOUT = b"""
kind = "news"
ignored = ["rest"]
[columns]
observed_at = "t"
title = "title"
[observed]
epoch = "s"
"""


def member(path: Path, text: bytes) -> Member:
    """Return a text that lies in a file."""
    path.write_bytes(text)
    return Member(path=path, name=path.name, place=str(path), origin=path.name)


def records(found: Block) -> list[tuple[int, object]]:
    """Return what the records of a block are, in order."""
    rows = zip(found.offsets.tolist(), found.rows.rows(), strict=True)
    return sorted(
        [*rows, *((offset, (reason, text)) for offset, reason, text in found.broken)], key=lambda each: each[0]
    )


@given(text=st.text(alphabet="x,;\t é€\x00\x0b\x1c\u2028\n\r", max_size=60), width=st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_plain_lines_are_the_same_records_to_both(text: str, width: int) -> None:
    lines, form = text.encode(), Format()
    if not lines:
        return
    plain = split_plain(lines, form, NAMES[:width])
    assert plain.records == len(lines.splitlines())
    assert records(plain) == records(split_quoted(lines, Text(iter([])), form, NAMES[:width]))


@given(
    text=st.text(alphabet="x,é\n\r", max_size=40),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_lines_are_whole_however_they_come_in(text: str, sizes: list[int]) -> None:
    whole = text.encode()

    def parts() -> Iterator[bytes]:
        rest, i = whole, 0
        while rest:
            size = sizes[i % len(sizes)]
            yield rest[:size]
            rest, i = rest[size:], i + 1

    blocks = [*whole_lines(parts())]
    assert b"".join(blocks) == whole
    assert [line for block in blocks for line in block.splitlines()] == whole.splitlines()


@given(text=st.binary(max_size=8) | st.sampled_from([b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82"]))
@settings(max_examples=200, deadline=None)
def test_much_text_is_as_sound_as_little(text: bytes) -> None:
    assert is_sound(text) == is_sound(b"-" * 2**15 + text)


def test_a_text_is_read_by_lines_and_by_blocks() -> None:
    text = Text(iter([b"a\nb\n", b"c\nd\n"]))
    assert text.line() == b"a\n"
    text.give_back(b"a\n")
    assert text.block() == b"a\nb\n"
    assert text.line() == b"c\n"
    assert (text.block(), text.block(), text.line()) == (b"d\n", b"", b"")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "cp1252"])
def test_lines_come_in_utf_8_whatever_they_were_written_in(tmp_path: Path, encoding: str) -> None:
    whole = "é,1\r\n" * (BLOCK_BYTES // 4)  # more than is read at once
    source = member(tmp_path / "x.csv", whole.encode(encoding))
    with open_text(source, Format(encoding=encoding)) as text:
        assert b"".join(iter(text.block, b"")) == whole.encode()


def test_a_quoted_cell_reaches_over_the_end_of_a_block() -> None:
    rest = Text(iter([b'lines",x\n5,plain,x\n', b"6,plain,x\n"]))
    found = split_quoted(b'3,plain,x\n4,"two\n', rest, Format(), NAMES)
    assert found.rows.rows() == [("3", "plain", "x"), ("4", "two\nlines", "x")]
    assert (rest.block(), rest.block()) == (b"5,plain,x\n", b"6,plain,x\n")


def test_blocks_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    rows = [f"{i},plain,x" for i in range(BLOCK_BYTES // 5)]
    rows[7] = '7,"quo\nted",x'
    rows[len(rows) // 2] = "half a"
    layout = parse(LAYOUT, name="mine")
    source = member(tmp_path / "x.csv", "\n".join(["t,title,rest", *rows]).encode())
    head, *found = delimited(layout, source, Settings(layout, {}))
    assert isinstance(head, Head)
    assert head.names == ("t", "title", "rest")
    blocks = [each for each in found if isinstance(each, Block)]
    assert len(blocks) > 2
    assert sum(each.records for each in blocks) == len(rows)
    numbers = [cell for each in blocks for cell in each.rows["t"]]
    assert numbers == [str(i) for i in range(len(rows)) if i != len(rows) // 2]
    assert [text for each in blocks for _, _, text in each.broken] == ["half a"]


def test_a_block_is_split_between_records() -> None:
    block = split_plain(b"1,2\nhalf\n3,4\n\n5,6\n", Format(), ("a", "b"))
    for at in range(6):
        first, rest = block.split(at)
        assert first.records == at
        assert records(first) + [(offset + at, what) for offset, what in records(rest)] == records(block)
