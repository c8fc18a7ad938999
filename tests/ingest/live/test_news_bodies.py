"""A feed is let pass if it is whole, however sloppily it is written, and refused if it is meant to do harm."""

from pathlib import Path

import pytest
from backsight_ingest.live.faults import Refused
from backsight_ingest.sources.news_bodies import LARGEST, MOST_ELEMENTS, feed_body

HEAD, TAIL = b'<?xml version="1.0"?><rss version="2.0"><channel>', b"</channel></rss>"
ITEM = b"<item><title>A title</title><link>https://example.com/1</link></item>"


@pytest.mark.parametrize(
    ("why", "body"),
    [
        ("RSS", HEAD + ITEM + TAIL),
        ("RSS without an article", HEAD + TAIL),
        ("RSS 1.0", b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>'),
        ("Atom", b'<feed xmlns="http://www.w3.org/2005/Atom"></feed>'),
        ("Atom with a prefix", b'<a:feed xmlns:a="http://www.w3.org/2005/Atom"></a:feed>'),
        ("an undeclared prefix", HEAD + b"<item><dc:creator>Jane</dc:creator></item>" + TAIL),
        ("an entity of HTML", HEAD + b"<title>a&nbsp;b</title>" + TAIL),
        ("a bare ampersand", HEAD + b"<link>https://example.com/?a=1&b=2</link>" + TAIL),
        ("a bare ampersand and a comment of a cache", HEAD + b"<link>?a=1&b=2</link>" + TAIL + b"\n<!-- cached -->\n"),
        ("a NUL", HEAD + b"<title>a\0b</title>" + TAIL),
        ("undeclared latin-1", HEAD + b"<title>caf\xe9</title>" + TAIL),
        ("UTF-16", '<?xml version="1.0" encoding="utf-16"?><rss><channel></channel></rss>'.encode("utf-16")),
        ("a byte order mark", b"\xef\xbb\xbf" + HEAD + TAIL),
        ("blanks before the declaration", b"\n  " + HEAD + TAIL),
    ],
)
def test_a_whole_feed_passes(why: str, body: bytes) -> None:
    feed_body(body)


def test_feeds_as_they_are_pass(shared_data: Path) -> None:
    feeds = sorted((shared_data / "api_fixtures" / "rss").glob("*.xml"))
    assert feeds
    for feed in feeds:
        feed_body(feed.read_bytes())


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("it is empty", b""),
        ("it is empty", b" \n"),
        ("a page for people", b"<!doctype html><html><body>Just a moment...</body></html>"),
        ("a page for people", b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"></html>'),
        ("a page for people", b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://x/x.dtd"><html/>'),
        ("no whole XML document", b'{"error": "try again"}'),
        ("no whole XML document", (HEAD + ITEM + TAIL)[:70]),
        ("no whole XML document", HEAD + b"<link>?a=1&b=2</link>" + ITEM[:20]),
        ("unknown encoding: klingon", b'<?xml version="1.0" encoding="klingon"?><rss></rss>'),
        ("its root is <svg>", b"<svg></svg>"),
    ],
)
def test_what_is_no_feed_may_be_one_the_next_time(reason: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=reason):
        feed_body(body)


BOMB = b'<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]><rss><channel>&b;</channel></rss>'
LOCAL_FILE = b'<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><channel>&x;</channel></rss>'
OTHER_DOCUMENT = b'<!DOCTYPE rss SYSTEM "http://127.0.0.1/x.dtd"><rss><channel></channel></rss>'


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("declares entities", BOMB),
        ("declares entities", LOCAL_FILE),
        ("asks for another document", OTHER_DOCUMENT),
        ("nests more than 100", HEAD + b"<a>" * 200 + b"</a>" * 200 + TAIL),
        ("more than 50,000 elements", HEAD + b"<a/>" * (MOST_ELEMENTS + 1) + TAIL),
        ("more than 50,000 elements", HEAD + b"a & b" + b"<a/>" * (2 * MOST_ELEMENTS) + TAIL),
        ("more than 8,388,608", HEAD + b"x" * LARGEST + TAIL),
    ],
)
def test_what_would_do_harm_is_refused(reason: str, body: bytes) -> None:
    with pytest.raises(Refused, match=reason):
        feed_body(body)
