"""The inputs that break jobs as they come in dumps: each with its number, its kind, and what becomes of it.

Those that only a live source can bring, and the same ones as such a source brings them, are tested beside the sources.
"""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import QUARANTINE
from backsight_features.texts import compose, normalise
from backsight_ingest.files import Named, decoded
from backsight_ingest.layouts import load
from backsight_ingest.pull import pull
from backsight_ingest.readings import LONGEST_TEXT

NOW = datetime(2025, 6, 1, tzinfo=UTC)
MAY = datetime(2025, 5, 1, 11, tzinfo=UTC)
"""When the bar stamped 2025-05-01 10:00 closes."""

BARS = """
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
formats = ["%Y-%m-%d %H:%M"]
[available]
lag = "15s"
"""
EPOCHS = BARS.replace('formats = ["%Y-%m-%d %H:%M"]', 'epoch = "auto"')
NEW_YORK = BARS.replace('%H:%M"]', '%H:%M"]\nzone = "America/New_York"')
MACRO = """
kind = "macro"
missing = ["."]
[columns]
observed_at = "day"
value = "value"
[constants]
series = "DGS10"
units = "lin"
[observed]
formats = ["%Y-%m-%d"]
[available]
day_end = "always"
day_zone = "America/New_York"
"""
NEWS = """
kind = "news"
[columns]
observed_at = "t"
title = "title"
text = "text"
url = "url"
[observed]
formats = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M %z"]
[available]
lag = "1h"
"""
SEEN = NEWS.replace('url = "url"', 'url = "url"\navailable_at = "seen"').replace(
    'lag = "1h"', 'base = "column"\nformats = ["%Y-%m-%d %H:%M"]\nestimated = false'
)
POSTS = "arctic-shift-posts"
COUNTS = "arctic-shift-counts"

BAR = "2025-05-01 10:00,2,4,1,3,10"
CREATED = 1746093600  # 2025-05-01 10:00


def bars(*rows: str) -> bytes:
    """Return the text of a file of bars."""
    return "\n".join(["t,o,h,l,c,v", *rows, ""]).encode()


def days(*rows: str) -> bytes:
    """Return the text of a file of a series."""
    return "\n".join(["day,value", *rows, ""]).encode()


def news(*rows: str, header: str = "t,title,text,url") -> bytes:
    """Return the text of a file of articles."""
    return "\n".join([header, *rows, ""]).encode()


def post(**fields: Any) -> bytes:
    """Return the line of a sound post, but for the fields given."""
    sound = {
        "id": "a", "subreddit": "Bitcoin", "created_utc": CREATED, "title": "Up", "selftext": "x", "url": "",
        "edited": False, "score": 3, "num_comments": 1, "retrieved_on": CREATED + 9,
    }  # fmt: skip
    return json.dumps({**sound, **fields}).encode() + b"\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """An input, and what becomes of it.

    Parameters
    ----------
    number : int
        In the list of inputs that break jobs.
    kind, what : str
        In which kind of facts, and what it is.
    layout : str
        A shipped one, or the text of one.
    files : tuple of bytes
        Read one after the other.
    facts : list of dict
        What comes of it, in the order of time and of id; of each fact some columns.
    reasons : list of str
        Why rows were set aside, in their order.
    duplicates : int
        How many rows said nothing new.
    scored : list of str, optional
        What a scorer is given of the facts.
    """

    number: int
    kind: str
    what: str
    layout: str
    files: tuple[bytes, ...]
    facts: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    duplicates: int = 0
    scored: list[str | None] | None = None


SOUND = {"observed_at": MAY, "close": 3.0}
LATER = "2025-05-01 11:00,2,4,1,3,10"
ORDER = "open and close must lie between low and high"
TWICE = "another row says something else of the same"

CASES = [
    Case(
        number=1, kind="bars", what="a price that is no number", layout=BARS,
        files=(
            bars(BAR, "2025-05-01 11:00,nan,4,1,3,1", "2025-05-01 12:00,2,inf,1,3,1", "2025-05-01 13:00,2,4,1,-,1"),
        ),
        facts=[SOUND],
        reasons=["open: 'nan' is not a number", "high: 'inf' is not a number", "close: '-' is not a number"],
    ),
    Case(
        number=1, kind="macro", what="a value that is no number", layout=MACRO,
        files=(days("2025-05-01,inf", "2025-05-02,4.1"),), facts=[{"value": 4.1}],
        reasons=["value: 'inf' is not a number"],
    ),
    Case(
        number=1, kind="reactions", what="a count that is no number", layout=COUNTS,
        files=(post() + post(id="b", score=float("nan")) + post(id="c", score=2.5),), facts=[{"id": "a", "score": 3}],
        reasons=["score: 'NaN' is not a whole number", "score: '2.5' is not a whole number"],
    ),
    Case(
        number=2, kind="bars", what="high below low, close outside", layout=BARS,
        files=(bars(BAR, "2025-05-01 11:00,2,1,4,3,1", "2025-05-01 12:00,2,4,1,5,1"),), facts=[SOUND],
        reasons=[ORDER, ORDER],
    ),
    Case(
        number=3, kind="bars", what="no price, a volume below nothing", layout=BARS,
        files=(bars(BAR, "2025-05-01 11:00,0,4,0,3,1", "2025-05-01 12:00,2,4,1,3,-1"),), facts=[SOUND],
        reasons=["open must be a finite number above 0", "volume must be a finite number of 0 or more"],
    ),
    Case(
        number=4, kind="bars", what="the same twice, and something else at the same instant", layout=BARS,
        files=(bars(BAR, BAR, LATER, LATER.replace(",3,", ",2,")),), facts=[SOUND], reasons=[TWICE, TWICE],
        duplicates=1,
    ),
    Case(
        number=4, kind="bars", what="something else in a later file", layout=BARS,
        files=(bars(BAR), bars(BAR.replace(",3,", ",2,"))),
        facts=[SOUND, {"close": 2.0, "available_at": NOW}],  # a correction was known when it came
    ),
    Case(
        number=4, kind="news", what="an article seen again, and rewritten", layout=SEEN,
        files=(
            news(
                "2025-05-01 10:00,Up,x,https://a.org/1,2025-05-01 10:30",
                "2025-05-01 10:00,Up,x,https://a.org/1,2025-05-01 11:30",
                "2025-05-01 10:00,Down,x,https://a.org/1,2025-05-01 12:30",
                header="t,title,text,url,seen",
            ),
        ),
        facts=[{"title": "Up", "available_at": MAY - timedelta(minutes=30)}, {"title": "Down"}], duplicates=1,
    ),
    Case(
        number=5, kind="bars", what="a bar that is not finished", layout=BARS,
        files=(bars(BAR, "2025-05-31 23:30,2,4,1,3,1"),), facts=[SOUND],
        reasons=["observed_at: 2025-06-01T00:30:00Z lies in the future"],
    ),
    Case(
        number=6, kind="bars", what="a gap stays one", layout=BARS,
        files=(bars(BAR, "2025-05-02 10:00,2,4,1,3,1"),), facts=[SOUND, {"observed_at": MAY + timedelta(days=1)}],
    ),
    Case(
        number=7, kind="bars", what="epochs in s, ms, us and ns, and none", layout=EPOCHS,
        files=(
            bars(
                "1746093600,2,4,1,3,10", "1746097200000,2,4,1,3,10", "1746100800000000,2,4,1,3,10",
                "1746104400000000000,2,4,1,3,10", "1e30,2,4,1,3,10", "-3e9,2,4,1,3,10",
            ),
        ),
        facts=[{"observed_at": MAY + timedelta(hours=i)} for i in range(4)],
        reasons=["observed_at: '1e30' is not an instant", "observed_at: '-3e9' is not an instant"],
    ),
    Case(
        number=8, kind="bars", what="local times, one of which comes twice and one never", layout=NEW_YORK,
        files=(bars("2025-05-01 06:00,2,4,1,3,10", "2024-11-03 01:00,2,4,1,3,10", "2025-03-09 02:00,2,4,1,3,10"),),
        facts=[SOUND],
        reasons=["'2024-11-03 01:00' is not an instant", "'2025-03-09 02:00' is not an instant"],
    ),
    Case(
        number=9, kind="bars", what="stamped in the future", layout=BARS,
        files=(bars(BAR, "2035-05-01 10:00,2,4,1,3,1"),), facts=[SOUND], reasons=["lies in the future"],
    ),
    Case(
        number=9, kind="macro", what="stamped in the future", layout=MACRO,
        files=(days("2025-05-01,4.1", "2035-05-01,4.2"),), facts=[{"value": 4.1}], reasons=["lies in the future"],
    ),
    Case(
        number=9, kind="news", what="stamped in the future", layout=NEWS, files=(news("2035-05-01 10:00,Up,,"),),
        facts=[{"title": "Up", "observed_at": NOW, "available_at": NOW, "available_at_estimated": True}],
    ),
    Case(
        number=9, kind="posts", what="stamped in the future", layout=POSTS, files=(post(created_utc=CREATED + 10**9),),
        facts=[{"id": "a", "observed_at": NOW, "available_at": NOW, "available_at_estimated": True}],
    ),
    Case(
        number=10, kind="macro", what="published as missing", layout=MACRO,
        files=(days("2025-05-01,.", "2025-05-02,", "2025-05-03,4.1"),),
        facts=[
            {"value": None, "available_at": datetime(2025, 5, 2, 4, tzinfo=UTC)},
            {"value": None, "available_at": datetime(2025, 5, 3, 4, tzinfo=UTC)},
            {"value": 4.1},
        ],
    ),
    Case(
        number=11, kind="macro", what="a vintage from before the archive", layout="alfred-intervals",
        files=(
            b"series_id,date,realtime_start,realtime_end,value_pct_change\n"
            b"CPIAUCSL,1999-11-01,2000-01-01,2000-02-01,0.1\nCPIAUCSL,1999-12-01,2000-01-14,2000-02-01,0.2\n",
        ),
        facts=[{"value": 0.1, "available_at_estimated": True}, {"value": 0.2, "available_at_estimated": False}],
    ),
    Case(
        number=12, kind="posts", what="removed and deleted", layout=POSTS,
        files=(post(selftext="[removed]") + post(id="b", selftext="[deleted]", author="[deleted]"),),
        facts=[{"id": "a", "title": "Up", "text": None}, {"id": "b", "title": "Up", "text": None}],
        scored=["Up", "Up"],
    ),
    Case(
        number=12, kind="posts", what="a title that was removed is no text to score", layout=POSTS,
        files=(post(title="[deleted by user]", selftext="[removed]"),),
        facts=[{"id": "a", "title": "[deleted by user]", "text": None}], scored=[None],
    ),
    Case(
        number=13, kind="posts", what="HTML entities", layout=POSTS,
        files=(post(title="A&amp;B &amp;lt;", selftext=""),), facts=[{"title": "A&amp;B &amp;lt;"}],
        scored=["A&B &lt;"],
    ),
    Case(
        number=13, kind="news", what="HTML entities", layout=NEWS,
        files=(news("2025-05-01 10:00,Bitcoin&#39;s rise,,"),), facts=[{"title": "Bitcoin&#39;s rise"}],
        scored=["Bitcoin's rise"],
    ),
    Case(
        number=14, kind="posts", what="UTF-8 taken for Windows-1252", layout=POSTS,
        files=(post(title="it\u00e2\u20ac\u2122s", selftext=""),), facts=[{"title": "it\u00e2\u20ac\u2122s"}],
        scored=["it\u2019s"],
    ),
    Case(
        number=14, kind="news", what="UTF-8 taken for Windows-1252", layout=NEWS,
        files=(news("2025-05-01 10:00,sch\u00c3\u00b6n,,"),), facts=[{"title": "sch\u00c3\u00b6n"}],
        scored=["sch\u00f6n"],
    ),
    Case(
        number=15, kind="posts", what="zero width and bidi", layout=POSTS,
        files=(post(title="Bit\u200bcoin \u202eup", selftext=""),), facts=[{"title": "Bit\u200bcoin \u202eup"}],
        scored=["Bitcoin up"],
    ),
    Case(
        number=15, kind="news", what="zero width and bidi", layout=NEWS,
        files=(news("2025-05-01 10:00,Bit\u200bcoin \u202eup,,"),), facts=[{"title": "Bit\u200bcoin \u202eup"}],
        scored=["Bitcoin up"],
    ),
    Case(
        number=16, kind="posts", what="a text without end", layout=POSTS,
        files=(post(selftext="x" * 150_000) + post(id="b"),),
        facts=[{"text": "x" * LONGEST_TEXT + "… [cut off: 150000 characters]"}, {"id": "b", "text": "x"}],
    ),
    Case(
        number=16, kind="news", what="a text without end", layout=NEWS,
        files=(news(f"2025-05-01 10:00,Up,{'x' * 150_000},"),),
        facts=[{"text": "x" * LONGEST_TEXT + "… [cut off: 150000 characters]"}],
    ),
    Case(
        number=17, kind="posts", what="NUL and half a surrogate pair", layout=POSTS,
        files=(post(title="U\0p", selftext="\ud83da\udc00way"),), facts=[{"title": "Up", "text": "away"}],
    ),
    Case(
        number=17, kind="news", what="NUL", layout=NEWS, files=(news("2025-05-01 10:00,U\0p,,"),),
        facts=[{"title": "Up"}],
    ),
    Case(
        number=18, kind="news", what="no date: first seen", layout=NEWS, files=(news(",Up,,"),),
        facts=[{"title": "Up", "observed_at": NOW, "available_at": NOW, "available_at_estimated": True}],
    ),
    Case(
        # Of a dump the layout says how stamps are written. To take one that is written otherwise for none would date
        # a whole file of them wrongly, and quietly.
        number=19, kind="news", what="a zone that nobody knows", layout=NEWS,
        files=(news("2025-05-01 10:00 XQT,Up,,", "2025-05-01 12:00 +0200,Up,,"),),
        facts=[{"observed_at": MAY - timedelta(hours=1)}],
        reasons=["observed_at: '2025-05-01 10:00 XQT' is not an instant as declared"],
    ),
    Case(
        number=20, kind="posts", what="lists within lists without end", layout=POSTS,
        files=(post() + b'{"id": ' + b"[" * 200_000 + b"\n",), facts=[{"id": "a"}], reasons=["half a line, or no JSON"],
    ),
    Case(
        number=23, kind="bars", what="a line before the header", layout=BARS + "[format]\nskip = 1\n",
        files=(b"# downloaded, from somewhere\n" + bars(BAR),), facts=[SOUND],
    ),
    Case(
        number=23, kind="bars", what="no header",
        layout=BARS + '[format]\nheader = 0\nnames = ["t", "o", "h", "l", "c", "v"]\n',
        files=(f"{BAR}\n".encode(),), facts=[SOUND],
    ),
    Case(
        number=23, kind="bars", what="three header rows",
        layout=BARS + '[format]\nheader = 3\nmarks = ["t", "Ticker", "Date"]\n',
        files=(bars("Ticker,a,a,a,a,a", "Date,,,,,", BAR),), facts=[SOUND],
    ),
    Case(
        number=23, kind="bars", what="the header once more in the middle", layout=BARS,
        files=(bars(BAR, "t,o,h,l,c,v", LATER),), facts=[SOUND, {"observed_at": MAY + timedelta(hours=1)}],
        reasons=["open: 'o' is not a number"],
    ),
    Case(
        number=24, kind="bars", what="numbers as in Germany",
        layout=BARS + '[format]\ndelimiter = ";"\ndecimal = ","\nthousands = "."\n',
        files=(b"t;o;h;l;c;v\n2025-05-01 10:00;2.000,5;4.000;1;3,0;10\n",),
        facts=[{"open": 2000.5, "high": 4000.0, "close": 3.0}],
    ),
    Case(
        number=24, kind="news", what="UTF-16", layout=NEWS + '[format]\nencoding = "utf-16"\n',
        files=(news("2025-05-01 10:00,Sch\u00f6n,,").decode().encode("utf-16"),), facts=[{"title": "Sch\u00f6n"}],
    ),
    Case(
        number=24, kind="news", what="Latin-1", layout=NEWS + '[format]\nencoding = "latin-1"\n',
        files=(news("2025-05-01 10:00,Sch\u00f6n,,").decode().encode("latin-1"),), facts=[{"title": "Sch\u00f6n"}],
    ),
    Case(
        number=24, kind="macro", what="numbers with thousands", layout=MACRO + '[format]\nthousands = ","\n',
        files=(days('2025-05-01,"1,234.5"'),), facts=[{"value": 1234.5}],
    ),
    Case(
        number=24, kind="posts", what="bytes of another encoding", layout=POSTS,
        files=(post() + post(id="b", title="Sch?n").replace(b"?", b"\xf6"),), facts=[{"id": "a"}],
        reasons=["not valid utf-8"],
    ),
    Case(
        number=25, kind="bars", what="half a line at the end", layout=BARS, files=(bars(BAR)[:-1] + b"\n2025-05-01 1",),
        facts=[SOUND], reasons=["1 cells, the header has 6"],
    ),
    Case(
        number=25, kind="macro", what="half a line at the end", layout=MACRO,
        files=(days("2025-05-01,4.1") + b"2025-0",), facts=[{"value": 4.1}], reasons=["1 cells, the header has 2"],
    ),
    Case(
        number=25, kind="news", what="half a quoted line at the end", layout=NEWS,
        files=(news("2025-05-01 10:00,Up,,") + b'2025-05-01 10:00,"Down',), facts=[{"title": "Up"}],
        reasons=["half a line, a stray quote, or a cell too long"],
    ),
    Case(
        number=25, kind="posts", what="half a line at the end", layout=POSTS, files=(post() + post(id="b")[:40],),
        facts=[{"id": "a"}], reasons=["half a line, or no JSON"],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{each.number} {each.kind}: {each.what}" for each in CASES])
def test_an_input_that_breaks_jobs(tmp_path: Path, case: Case) -> None:
    if "\n" in case.layout:
        (tmp_path / "mine.toml").write_text(case.layout)
    layout = load(str(tmp_path / "mine.toml") if "\n" in case.layout else case.layout)
    lake = Lake(tmp_path / "lake")
    duplicates = 0
    for number, text in enumerate(case.files):
        (tmp_path / f"{number}.txt").write_bytes(text)
        (account,), _ = pull(lake, layout, [tmp_path / f"{number}.txt"], settings={}, now=NOW, tell=lambda _: None)
        assert account.error is None, account.error
        assert account.read == account.accepted + account.duplicate + account.quarantined
        duplicates += account.duplicate
    assert duplicates == case.duplicates
    order = [name for name in ("observed_at", "available_at", "id") if name in layout.table.columns]
    facts = lake.scan(layout.table).sort(order).collect()
    assert facts.height == len(case.facts)
    assert facts["available_at"].null_count() == 0
    for found, expected in zip(facts.to_dicts(), case.facts, strict=True):
        assert {name: found[name] for name in expected} == expected
    aside = lake.scan(QUARANTINE).sort("row").collect()
    assert aside.height == len(case.reasons)
    for found, reason in zip(aside.to_dicts(), case.reasons, strict=True):
        assert reason in found["reason"]
        assert found["original"]
    if case.scored is not None:
        said = facts.select(compose(normalise(pl.col("title")), normalise(pl.col("text")))).to_series()
        assert said.to_list() == case.scored


def zipped(text: bytes) -> bytes:
    """Return an archive with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.csv", text)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".csv.gz", gzip.compress),
        (".csv.xz", lzma.compress),
        (".csv.bz2", bz2.compress),
        (".csv.zst", zstandard.compress),
        (".zip", zipped),
    ],
)
def test_21_a_file_that_unpacks_without_end_is_stopped_while_it_does(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(pack(bytes(20_000_000)))
    assert path.stat().st_size < 100_000
    with (
        pytest.raises(BadInput, match=r"unpacks to more than 1000000 bytes; split it"),
        decoded(Named(path=path, origin=path.name, home=tmp_path), ("*.csv",), largest=1_000_000),
    ):
        pass


def test_22_a_dump_with_the_largest_window_is_read(tmp_path: Path) -> None:
    # A frame that asks for a window of 2**31 bytes and has one raw block, as in RFC 8878.
    line = post()
    block = ((len(line) << 3) | 1).to_bytes(3, "little") + line
    (tmp_path / "RS_2025-05.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes([0, (31 - 10) << 3]) + block)
    lake = Lake(tmp_path / "lake")
    (account,), _ = pull(lake, load(POSTS), [tmp_path], settings={}, now=NOW, tell=lambda _: None)
    assert (account.error, account.accepted) == (None, 1)


def test_each_input_has_its_case() -> None:
    assert {each.number for each in CASES} | {21, 22} == {*range(1, 26)}
