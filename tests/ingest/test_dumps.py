"""What the rows of a dump become: values, clocks, and reasons where they cannot."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from backsight_features.errors import BadInput, Drifted
from backsight_ingest.dumps import Facts, check_timeframe, facts
from backsight_ingest.holidays import federal_holidays
from backsight_ingest.layout import Stamp
from backsight_ingest.layouts import parse
from backsight_ingest.readings import LONGEST_TEXT
from backsight_ingest.stamps import instant

NOW = datetime(2024, 1, 1, tzinfo=UTC)

BARS = """
kind = "bars"
ignored = ["note"]
[columns]
observed_at = "t"
open = "o"
high = "h"
low = "l"
close = "c"
volume = "v"
[constants]
venue = "Mine"
symbol = "BTC-USD"
timeframe = "1h"
[observed]
formats = ["%Y-%m-%d %H:%M"]
[available]
lag = "15s"
"""

NEWS = """
kind = "news"
[columns]
observed_at = "t"
title = "title"
url = "url"
[observed]
formats = ["%Y-%m-%d %H:%M"]
[available]
lag = "1h"
day_end = "midnight"
"""

MACRO = """
kind = "macro"
missing = ["."]
[columns]
observed_at = "t"
value = "v"
[constants]
series = "X"
units = "lin"
[observed]
formats = ["%Y-%m-%d"]
[available]
day_end = "always"
day_zone = "America/New_York"
"""


def read(text: str, rows: list[dict[str, str | None]], now: datetime = NOW, **variables: str) -> Facts:
    """Return what the rows of a layout become."""
    frame = pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String))
    frame = frame.with_columns(pl.int_range(1, pl.len() + 1).alias("@row"), pl.lit("a.csv").alias("@origin"))
    return facts(parse(text.encode(), name="mine"), frame, variables, now=now)


def bar(**cells: str) -> dict[str, str | None]:
    """Return the cells of a sound bar, but for those given."""
    sound = {"t": "2023-05-01 10:00", "o": "1", "h": "4", "l": "0.5", "c": "2", "v": "10", "note": ""}
    return {**sound, **cells}


def at(text: str) -> datetime:
    """Return an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def only(frame: pl.DataFrame) -> dict[str, Any]:
    """Return the one row there is."""
    assert frame.height == 1, frame
    return frame.row(0, named=True)


def test_a_bar_stamped_at_its_open_is_observed_at_its_close_and_known_a_little_later() -> None:
    row = only(read(BARS, [bar()]).good)
    assert row["observed_at"] == at("2023-05-01 11:00")
    assert row["available_at"] == at("2023-05-01 11:00:15")
    assert row["available_at_estimated"]
    assert (row["venue"], row["open"], row["volume"], row["quote_volume"]) == ("mine", 1.0, 10.0, None)
    assert row["source"] == "dump:mine"


def test_a_bar_stamped_at_its_close_is_not_moved() -> None:
    row = only(read(BARS.replace("[observed]", '[observed]\nstamp = "close"'), [bar()]).good)
    assert row["observed_at"] == at("2023-05-01 10:00")


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"o": "abc"}, "open: 'abc' is not a number"),
        ({"o": "nan"}, "open: 'nan' is not a number"),
        ({"o": "1,5"}, "open: '1,5' is not a number"),
        ({"o": " "}, "open is empty"),
        ({"h": "0.7"}, "open and close must lie between low and high"),
        ({"l": "-1"}, "low must be a finite number above 0"),
        ({"v": ""}, "volume and quote_volume are both empty"),
        ({"t": "2023-13-01 10:00"}, "observed_at: '2023-13-01 10:00' is not an instant as declared"),
        ({"t": "0023-01-01 10:00"}, "observed_at: '0023-01-01 10:00' is not an instant as declared"),
        ({"t": ""}, "observed_at is empty"),
        ({"t": "2024-01-01 00:00"}, "observed_at: 2024-01-01T01:00:00Z lies in the future"),
        ({"o": "", "h": "", "l": "", "c": " ", "v": "", "note": "x"}, "empty row"),
        ({"o": "abc", "t": "soon"}, "open: 'abc' is not a number; observed_at: 'soon' is not an instant as declared"),
    ],
)
def test_a_row_that_cannot_be_a_bar_says_why_and_keeps_its_words(cells: dict[str, str], reason: str) -> None:
    found = read(BARS, [bar(), bar(**cells)])
    assert found.good.height == 1
    row = only(found.bad)
    assert reason in row["reason"]
    assert row["row"] == 2
    for name, cell in cells.items():
        assert f'"{name}":"{cell}"' in row["original"]
    assert found.read == 2


def test_rows_that_contradict_each_other_at_one_instant_are_all_set_aside() -> None:
    found = read(BARS, [bar(), bar(t="2023-05-01 12:00"), bar(c="3"), bar(t="2023-05-01 12:00")])
    assert found.bad["row"].to_list() == [1, 3]
    assert "says something else of the same venue, symbol" in found.bad["reason"][0]
    assert found.good["@fact"].to_list() == [2, 4]


def test_bars_of_another_length_than_declared_are_refused() -> None:
    five_minutes = [bar(t=f"2023-05-01 {i // 12:02}:{i % 12 * 5:02}") for i in range(40)]
    days = [bar(t=f"2023-05-{i:02} 00:00") for i in range(1, 30)]
    for other in (five_minutes, days):
        with pytest.raises(Drifted, match="is the timeframe right"):
            check_timeframe(read(BARS, other))
    hours_with_gaps = read(BARS, [bar(t=f"2023-05-01 {i:02}:00") for i in range(23) if i % 5])
    assert hours_with_gaps.bad.is_empty()
    check_timeframe(hours_with_gaps)


def test_a_bar_off_the_grid_is_set_aside() -> None:
    found = read(BARS, [bar(), bar(t="2023-05-01 12:17")])
    assert found.bad["reason"].to_list() == ["observed_at: 2023-05-01T13:17:00Z is no multiple of 1h"]


def test_an_unknown_or_missing_column_stops_the_batch() -> None:
    with pytest.raises(Drifted, match="'extra' is not declared"):
        read(BARS, [bar(extra="1")])
    with pytest.raises(Drifted, match="no column 'v' for volume"):
        read(BARS, [{name: cell for name, cell in bar().items() if name != "v"}])


def test_an_optional_column_may_be_absent_and_an_ignored_one_too() -> None:
    text = BARS.replace('ignored = ["note"]', 'ignored = ["note"]\noptional = ["volume"]').replace(
        'volume = "v"', 'volume = "v"\nquote_volume = "q"'
    )
    row = only(read(text, [{name: cell for name, cell in bar(q="5").items() if name not in ("v", "note")}]).good)
    assert (row["volume"], row["quote_volume"]) == (None, 5.0)


def test_swapped_volumes_are_put_right_row_by_row() -> None:
    text = BARS.replace('volume = "v"', 'volume = "v"\nquote_volume = "q"').replace(
        'ignored = ["note"]', 'ignored = ["note"]\nvolumes_by_price = true'
    )
    price = {"o": "20000", "h": "20100", "l": "19900", "c": "20050"}
    rows = [
        bar(**price, v="10", q="200000"),
        bar(**price, v="200000", q="10", t="2023-05-01 11:00"),
        bar(**price, v="0", q="0", t="2023-05-01 12:00"),
    ]
    good = read(text, rows).good
    assert good["volume"].to_list() == [10.0, 10.0, 0.0]
    assert good["quote_volume"].to_list() == [200000.0, 200000.0, 0.0]


def test_numbers_are_read_as_a_country_writes_them() -> None:
    text = BARS + '[format]\ndecimal = ","\nthousands = "."\n'
    row = only(read(text, [bar(o="1.234,5", h="2.000", l="1", c="1.999,99", v="1")]).good)
    assert (row["open"], row["high"], row["close"]) == (1234.5, 2000.0, 1999.99)


def test_cells_that_say_missing_are_empty() -> None:
    found = read(BARS.replace("[columns]", 'missing = ["null"]\n[columns]', 1), [bar(v="null"), bar(o="null")])
    assert found.bad["reason"].to_list() == [
        "volume and quote_volume are both empty",
        "open is empty; open must be a finite number above 0",
    ]


@pytest.mark.parametrize(
    ("stamp", "known"),
    [
        ("2023-05-01 10:30", "2023-05-01 11:30"),
        ("2023-05-01 00:00", "2023-05-02 00:00"),  # a date without a time: not before its day is over
    ],
)
def test_news_are_known_an_hour_later_or_when_the_day_of_a_bare_date_is_over(stamp: str, known: str) -> None:
    row = only(read(NEWS, [{"t": stamp, "title": "Up", "url": "https://a.org/1"}]).good)
    assert row["available_at"] == at(known)
    assert row["available_at_estimated"]


def test_news_from_the_future_were_first_seen_now() -> None:
    row = only(read(NEWS, [{"t": "2024-02-01 10:30", "title": "Up", "url": None}]).good)
    assert (row["observed_at"], row["available_at"], row["available_at_estimated"]) == (NOW, NOW, True)


def test_an_article_is_known_by_its_address_or_else_by_its_words() -> None:
    rows: list[dict[str, str | None]] = [
        {"t": "2023-05-01 10:30", "title": "Up", "url": "https://a.org/1"},
        {"t": "2023-05-01 10:31", "title": "Up again", "url": "https://a.org/1"},
        {"t": "2023-05-01 10:30", "title": "Up", "url": ""},
        {"t": "2023-05-01 10:31", "title": "Up", "url": None},
        {"t": "2023-05-01 10:31", "title": "Down", "url": None},
    ]
    ids = read(NEWS, rows).good["id"].to_list()
    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert len({*ids}) == 3
    assert all(len(each) == 32 for each in ids)


@pytest.mark.parametrize(
    ("rule", "day", "known"),
    [
        ("", "2023-03-01", "2023-03-02 05:00"),
        ("", "2023-07-03", "2023-07-04 04:00"),
        ('lag = "45d"', "2023-03-01", "2023-04-16 04:00"),
        ("business_days = 1", "2023-03-01", "2023-03-03 05:00"),
        ("business_days = 1", "2023-03-03", "2023-03-07 05:00"),  # Friday: Monday
        ("business_days = 1", "2023-03-04", "2023-03-08 05:00"),  # Saturday counts as Monday
        ("business_days = 1", "2023-07-03", "2023-07-06 04:00"),  # over Independence Day
    ],
)
def test_a_series_is_known_at_the_end_of_the_day_of_its_release_in_new_york(rule: str, day: str, known: str) -> None:
    row = only(read(MACRO + rule, [{"t": day, "v": "1.5"}]).good)
    assert row["observed_at"] == at(day)
    assert row["available_at"] == at(known)


def test_news_without_a_date_were_first_seen_when_they_were_read_or_sighted() -> None:
    undated: list[dict[str, str | None]] = [{"t": None, "title": "Up", "url": None}]
    row = only(read(NEWS, undated).good)
    assert (row["observed_at"], row["available_at"], row["available_at_estimated"]) == (NOW, NOW, True)
    seen = NEWS.replace('observed_at = "t"', 'observed_at = "t"\navailable_at = "seen"').replace(
        'lag = "1h"\nday_end = "midnight"', 'base = "column"\nepoch = "s"\nestimated = false'
    )
    row = only(read(seen, [{**undated[0], "seen": "1682935200"}]).good)
    sighted = at("2023-05-01 10:00")
    assert (row["observed_at"], row["available_at"], row["available_at_estimated"]) == (sighted, sighted, True)
    assert only(read(seen, [{**undated[0], "seen": ""}]).bad)["reason"] == "available_at is empty"
    assert only(read(NEWS, [{"t": "", "title": "", "url": ""}]).bad)["reason"] == "empty row"
    assert only(read(NEWS, [{"t": "soon", "title": "Up", "url": ""}]).bad)["reason"] == (
        "observed_at: 'soon' is not an instant as declared"
    )


def test_what_is_read_now_is_known_now() -> None:
    text = NEWS.replace('lag = "1h"\nday_end = "midnight"', 'base = "now"\nestimated = false')
    row = only(read(text, [{"t": "2023-05-01 10:30", "title": "Up", "url": None}]).good)
    assert (row["observed_at"], row["available_at"]) == (at("2023-05-01 10:30"), NOW)
    assert not row["available_at_estimated"]
    # Stamped later than now, it cannot have been: that is no sighting as stated.
    row = only(read(text, [{"t": "2024-05-01 10:30", "title": "Up", "url": None}]).good)
    assert (row["observed_at"], row["available_at"], row["available_at_estimated"]) == (NOW, NOW, True)


POSTS = """
kind = "posts"
ignored = ["*"]
missing = ["[removed]"]
optional = ["edited_at"]
[columns]
id = "id"
observed_at = ["made", "t"]
title = "title"
text = "text"
[replace.edited_at]
false = ""
[constants]
site = "reddit"
channel = "Bitcoin"
[observed]
epoch = "s"
[available]
lag = "1h"
[[versions]]
absent = "restored"
columns = { edited_at = "edited" }
[[versions]]
present = "restored"
columns = { edited_at = "again" }
"""
MAY = 1682935200  # 2023-05-01 10:00


def post(**cells: str | None) -> dict[str, str | None]:
    """Return the cells of a sound post, but for those given."""
    sound = {"id": "a", "made": None, "t": str(MAY), "title": "Up", "text": "x", "edited": "false"}
    return {**sound, "restored": None, "again": None, "mood": "x", **cells}


@pytest.mark.parametrize(
    ("cells", "known"),
    [
        ({}, "2023-05-01 11:00"),
        ({"edited": None}, "2023-05-01 11:00"),
        ({"edited": f"{MAY + 7200}.0"}, "2023-05-01 13:00"),
        ({"edited": f"{MAY - 7200}"}, "2023-05-01 11:00"),  # no earlier than it was made
        ({"restored": "true", "again": f"{MAY + 86400}"}, "2023-05-02 11:00"),
        ({"restored": "true", "again": f"{MAY + 86400}", "edited": "x"}, "2023-05-02 11:00"),
        ({"made": f"{MAY + 3600}"}, "2023-05-01 12:00"),
    ],
)
def test_an_edited_text_is_not_known_before_its_edit(cells: dict[str, str], known: str) -> None:
    row = only(read(POSTS, [post(**cells)]).good)
    assert row["available_at"] == at(known)
    assert row["available_at_estimated"]
    assert row["channel"] == "bitcoin"


def test_an_edit_that_cannot_be_read_is_said() -> None:
    found = read(POSTS, [post(), post(id="b", edited="true")])
    assert only(found.bad)["reason"] == "edited_at: 'true' is not an instant as declared"
    assert only(found.bad)["row"] == 3
    assert found.read == 2


def test_all_columns_but_those_declared_may_be_ignored() -> None:
    rows = [post()]
    with pytest.raises(Drifted, match="'mood' is not declared"):
        read(POSTS.replace('ignored = ["*"]', 'ignored = ["made"]'), rows)


def test_a_removed_text_is_null_and_a_nul_is_no_text() -> None:
    row = only(read(POSTS, [post(text=" [removed] ", title="U\0p")]).good)
    assert (row["text"], row["title"]) == (None, "Up")


def test_a_text_without_end_is_cut_off_and_says_so() -> None:
    found = read(POSTS, [post(text="é" * LONGEST_TEXT), post(id="b", text="é" * (LONGEST_TEXT + 5)), post(id="c")]).good
    whole, cut, short = found["text"].to_list()
    assert whole == "é" * LONGEST_TEXT
    assert cut == "é" * LONGEST_TEXT + "… [cut off: 100005 characters]"
    assert short == "x"


def test_a_value_that_was_published_as_missing_is_a_fact() -> None:
    good = read(MACRO, [{"t": "2023-03-01", "v": "."}, {"t": "2023-03-02", "v": ""}]).good
    assert good["value"].to_list() == [None, None]


def test_a_series_without_a_rule_needs_one_by_hand() -> None:
    text = 'settings = ["lag"]\n' + MACRO + 'lag = "{lag}"\n'
    assert only(read(text, [{"t": "2023-03-01", "v": "1"}], lag="2d").good)["available_at"] == at("2023-03-04 05:00")
    with pytest.raises(BadInput, match="give --set lag="):
        read(text, [{"t": "2023-03-01", "v": "1"}])


VERSIONS = """
kind = "macro"
[columns]
observed_at = "quarter"
[constants]
series = "X"
units = "lin"
[observed]
stamp = "quarter end"
formats = ["%m/%d/%y"]
[available]
base = "column"
formats = ["%Y-%m-%d"]
day_end = "always"
estimated = false
archive_start = [2000-01-01]
[[versions]]
present = "d1"
columns = { available_at = "d1", value = "v1" }
[[versions]]
present = "d2"
columns = { available_at = "d2", value = "v2" }
constants = { units = "pca" }
"""


def test_a_row_may_hold_several_versions_each_a_fact_of_its_own() -> None:
    found = read(
        VERSIONS,
        [
            {"quarter": "3/31/23", "d1": "2023-04-27", "v1": "1", "d2": "2023-05-25", "v2": "2"},
            {"quarter": "6/30/23", "d1": "2023-07-27", "v1": "3", "d2": "", "v2": ""},
            {"quarter": "9/30/23", "d1": "2000-01-01", "v1": "x", "d2": "soon", "v2": "4"},
            {"quarter": "12/31/95", "d1": "2000-01-01", "v1": "5", "d2": "2000-02-01", "v2": "6"},
        ],
    )
    good = found.good.sort("@fact")
    assert good["@fact"].to_list() == [1, 2, 3, 7, 8]
    assert good["value"].to_list() == [1.0, 2.0, 3.0, 5.0, 6.0]
    assert good["units"].to_list() == ["lin", "pca", "lin", "lin", "pca"]
    assert good["observed_at"].dt.date().to_list()[:3] == [date(2023, 1, 1), date(2023, 1, 1), date(2023, 4, 1)]
    assert good["available_at"][1] == at("2023-05-26")
    assert good["available_at_estimated"].to_list() == [False, False, False, True, False]
    assert found.bad["row"].to_list() == [5, 6]
    assert found.read == 7


@pytest.mark.parametrize(
    ("stamp", "text", "expected"),
    [
        (Stamp(epoch="auto"), "1682935200", "2023-05-01 10:00"),
        (Stamp(epoch="auto"), "1682935200.5", "2023-05-01 10:00:00.5"),
        (Stamp(epoch="auto"), "1682935200000", "2023-05-01 10:00"),
        (Stamp(epoch="auto"), "1682935200000001", "2023-05-01 10:00:00.000001"),
        (Stamp(epoch="auto"), "1682935200000001999", "2023-05-01 10:00:00.000001"),
        (Stamp(epoch="s"), "1682935200000", None),
        (Stamp(epoch="ms"), "1682935200000", "2023-05-01 10:00"),
        (Stamp(epoch="us"), "1682935200000001", "2023-05-01 10:00:00.000001"),
        (Stamp(epoch="s"), "inf", None),
        (Stamp(epoch="s"), "", None),
        (Stamp(formats=("%d-%m-%Y %H:%M",)), "5-7-2022 04:24", "2022-07-05 04:24"),
        (Stamp(formats=("%m/%d/%y",)), "5/1/14", "2014-05-01"),
        (Stamp(formats=("%Y-%m-%d", "%Y/%m/%d")), "2016/6/30", "2016-06-30"),
        (Stamp(formats=("%Y-%m-%dT%H:%M:%S%z",)), "2025-05-04T21:33:43+02:00", "2025-05-04 19:33:43"),
        (Stamp(formats=("%Y-%m-%dT%H:%M:%S%.fZ",), zone="Asia/Tokyo"), "2025-05-04T21:33:43Z", "2025-05-04 21:33:43"),
        (Stamp(formats=("%Y-%m-%d %H:%M",), zone="America/New_York"), "2023-07-01 08:30", "2023-07-01 12:30"),
        (Stamp(formats=("%Y-%m-%d %H:%M",), zone="America/New_York"), "2023-11-05 01:30", None),  # twice
        (Stamp(formats=("%Y-%m-%d %H:%M",), zone="America/New_York"), "2023-03-12 02:30", None),  # never
        (Stamp(formats=("%Y-%m-%d",)), "2023-02-30", None),
        (Stamp(formats=("%Y-%m-%d",)), "2023-02-03 later", None),
    ],
)  # fmt: skip
def test_the_text_of_a_stamp(stamp: Stamp, text: str, expected: str | None) -> None:
    found = pl.DataFrame({"t": [text]}).select(instant(pl.col("t"), stamp)).item()
    assert found == (None if expected is None else at(expected))


def test_federal_holidays_are_observed_beside_a_weekend() -> None:
    holidays = set(federal_holidays())
    assert {date(2021, 7, 5), date(2021, 12, 24), date(2023, 11, 23), date(2024, 5, 27), date(2022, 6, 20)} <= holidays
    assert date(2024, 3, 29) not in holidays  # Good Friday is none
    years = [day.year for day in holidays if day.year == 2023]
    assert len(years) == 11


def test_days_of_release_do_not_move_with_the_clock_change() -> None:
    good = read(MACRO, [{"t": "2023-03-11", "v": "1"}, {"t": "2023-03-12", "v": "1"}]).good
    assert good["available_at"].to_list() == [at("2023-03-12 05:00"), at("2023-03-13 04:00")]
    assert good["available_at"].diff()[1] == timedelta(hours=23)
