"""A layout is checked as a whole before a file is opened, and what is wrong in it is said."""

import re
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest
from backsight_features.errors import BadInput
from backsight_ingest.layout import Available, Format, Layout, Sidecar, Stamp, Version
from backsight_ingest.layouts import load, parse, shipped

MINE = """
kind = "bars"
[columns]
observed_at = "t"
open = "o"
high = "h"
low = "l"
close = "c"
volume = "v"
[constants]
venue = "mine"
symbol = "BTC-USD"
timeframe = "1h"
[observed]
epoch = "s"
"""


def test_every_shipped_layout_is_sound_and_says_what_it_reads() -> None:
    assert len(shipped()) >= 24
    for name in shipped():
        layout = load(name)
        assert layout.name == name
        assert len(layout.about) > 20


def test_a_layout_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    layout = load(str(tmp_path / "mine.toml"))
    assert layout.columns["open"] == ("o",)
    assert layout.constants["venue"] == "mine"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "bars"', 'kind = "candles"', "kind is 'candles', should be one of: bars, books, macro"),
        ('kind = "bars"', "", "kind is None, should be one of"),
        ('kind = "bars"', 'kind = "bars"\ncolour = 1', "unknown key colour"),
        ('kind = "bars"', 'kind = "bars"\nname = "x"', "unknown key name"),
        ('kind = "bars"', 'kind = "bars"\nignored = "x"', "ignored is 'x', should be a list"),
        ('kind = "bars"', 'kind = "bars"\nvolumes_by_price = "yes"', "should be bool"),
        ('kind = "bars"', 'kind = "bars"\nvolumes_by_price = true', "needs columns for volume and quote_volume"),
        ('kind = "bars"', "kind = 'bars'\npath = '('", "path is no regular expression"),
        ('open = "o"', "", "says nothing of open"),
        ('open = "o"', 'open = "o"\nopne = "o"', "bars have no opne"),
        ('open = "o"', 'open = "o"\nedited_at = "e"', "bars have no edited_at"),
        ('venue = "mine"', 'venue = "{exchange}"', "{exchange} is not defined"),
        ('epoch = "s"', 'epoch = "weeks"', "observed.epoch is 'weeks', should be one of: s, ms"),
        ('epoch = "s"', "", "observed needs either formats or epoch"),
        ('epoch = "s"', 'epoch = "s"\nformats = ["%Y"]', "observed needs either formats or epoch"),
        ('epoch = "s"', 'epoch = "s"\nzone = "Mars/Base"', "no zone"),
        ('epoch = "s"', 'epoch = "s"\nstamp = "middle"', "observed.stamp is 'middle', should be one of: open, close"),
        ('epoch = "s"', 'epoch = "s"\n[available]\nlag = "soon"', "'soon' is not a length of time"),
        ('epoch = "s"', 'epoch = "s"\n[available]\nbase = "column"', "columns has no available_at"),
        ('epoch = "s"', 'epoch = "s"\n[available]\nbase = "path"', "available needs either formats or epoch"),
        ('epoch = "s"', 'epoch = "s"\n[available]\nbase = "sidecar"\nepoch = "s"', "belong together"),
        ('epoch = "s"', 'epoch = "s"\n[available]\nbusiness_days = 1', 'needs available.day_end = "always"'),
        ('epoch = "s"', 'epoch = "s"\n[format]\nheader = 0', "format.names has to name the columns"),
        ('epoch = "s"', 'epoch = "s"\n[format]\nheader = 2', "format.marks has to give the first cell"),
        ('epoch = "s"', 'epoch = "s"\n[format]\nmarks = ["a", "b"]', "a text for each of the 1 header rows"),
        ('epoch = "s"', 'epoch = "s"\n[format]\ndelimiter = ", "', "should be one character"),
        ('epoch = "s"', 'epoch = "s"\n[sidecar]\nfile = "m"', "lacks sidecar.key, sidecar.time"),
        ('epoch = "s"', "epoch = s", "is no TOML"),
        ('[observed]\nepoch = "s"', "", "observed needs either formats or epoch"),
        ('kind = "bars"', 'kind = "bars"\navailable = "15s"', "available is '15s', should be a table"),
        ('kind = "bars"', 'kind = "bars"\nversions = []', "should hold a table for each fact"),
        ('kind = "bars"', 'kind = "bars"\noptional = ["opne"]', "names opne, which is not in columns"),
        ('kind = "bars"', 'kind = "bars"\noptional = ["open"]', "which every one of the bars has to have"),
        ('kind = "bars"', 'kind = "bars"\nid_from = ["t"]', "bars have no id of their own"),
        ('kind = "bars"', 'kind = "bars"\ntranslate.bsae = { x = "y" }', "translate.bsae is no variable"),
        ('kind = "bars"', 'kind = "bars"\nreplace.opne = { x = "y" }', "names opne, which is not in columns"),
        ('kind = "bars"', 'kind = "bars"\nheader.x = { row = 0, column = 1 }', "counted from 1"),
        (
            'kind = "bars"',
            'kind = "bars"\nheader.x = { row = -1, column = 1 }',
            "header.x.row is -1, should be 0 or more",
        ),
        ('open = "o"', "open = []", "columns.open is [], should name a column"),
        ('venue = "mine"', 'venue = "mine"\nopen = "5"', "open is a column and a constant"),
        ('timeframe = "1h"', 'timeframe = "1hour"', "layout mine.toml: '1hour' is not a timeframe"),
        ('epoch = "s"', 'epoch = "s"\nzone = "America"', "observed.zone is 'America', which is no zone"),
        ('epoch = "s"', 'formats = ["yyyy-mm-dd"]', "'yyyy-mm-dd' is no format; write one like"),
        ('epoch = "s"', 'formats = ["%Y-%m-%d %I"]', "'%Y-%m-%d %I' is no format: Invalid format string"),
        ('epoch = "s"', 'epoch = "s"\n[format]\nnames = ["t"]\nmarks = ["t"]', "without format.marks"),
        ('epoch = "s"', 'epoch = "s"\n[format]\nskip = -1', "format.skip is -1, should be 0 or more"),
        ('epoch = "s"', 'epoch = "s"\n[format]\nencoding = "klingon"', "format.encoding is 'klingon'"),
        ('epoch = "s"', 'epoch = "s"\n[format]\nencoding = "base64"', "format.encoding is 'base64'"),
        ('epoch = "s"', 'epoch = "s"\n[format]\ndecimal = ""', "format.decimal is '', should be one character"),
        ('epoch = "s"', "epoch = 's'\n[format]\ndelimiter = '\"'", "should be one character, and no quote"),
        ('epoch = "s"', 'epoch = "s"\n[[published]]\nseries = ["x"]\nlag = "1d"', "published needs the series"),
    ],
)
def test_what_is_wrong_in_a_layout_is_named(old: str, new: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        parse(MINE.replace(old, new).encode(), name="mine.toml")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_is_none_is_named() -> None:
    text = MINE.replace('[observed]\nepoch = "s"', "").replace('kind = "bars"', 'kind = "bars"\nobserved = "s"')
    with pytest.raises(BadInput, match="observed is 's', should be a table"):
        parse(text.encode(), name="mine.toml")


def test_an_editor_may_put_a_mark_in_front() -> None:
    assert parse(("\ufeff" + MINE).encode(), name="mine.toml").kind == "bars"


def test_the_documentation_shows_a_sound_layout_and_names_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "layouts.md").read_text()
    shown = text.split("```toml")[1].split("```")[0]
    assert parse(shown.encode(), name="shown.toml").columns["open"] == ("o",)
    keys = [each.name for cls in (Layout, Format, Stamp, Available, Sidecar, Version) for each in fields(cls)]
    named = set(keys) - {"name", "digest", "stamp"}
    assert sorted(key for key in named if not re.search(rf"[`\[.]{key}[`\].\s]", text)) == []


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(BadInput, match=r"no layout 'binance'.*binance-1h"):
        load("binance")


def test_a_missing_file_is_said() -> None:
    with pytest.raises(BadInput, match="no such file"):
        load("nowhere/mine.toml")


def test_the_same_text_has_the_same_digest_and_another_has_another() -> None:
    first, again = (parse(MINE.encode(), name=name) for name in ("a", "b"))
    assert first.digest == again.digest
    assert parse(MINE.replace('"1h"', '"4h"').encode(), name="a").digest != first.digest


def test_series_of_one_layout_follow_their_own_releases() -> None:
    rules = load("fred-date-value").published
    assert rules["DGS10"].business_days == 1
    assert rules["GDPC1"].lag == "150d"
    assert {rule.day_zone for rule in rules.values()} == {"America/New_York"}


def test_no_layout_states_a_column_for_what_the_lake_writes() -> None:
    for name in shipped():
        layout = load(name)
        assert not {"ingested_at", "source"} & layout.columns.keys()
        assert all(isinstance(dtype, pl.DataType) for dtype in layout.table.columns.values())
