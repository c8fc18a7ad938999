"""What the body of a feed has to be before a parser sees it: a whole document, and none that is meant to do harm."""

import re
from typing import Final
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.sax import parseString  # type: ignore[import-untyped]

from backsight_ingest.live.faults import Refused

LARGEST: Final = 8 * 2**20
"""Bytes of a feed. feedparser needs a second and a half for each million."""

MOST_ELEMENTS: Final = 50_000
DEEPEST: Final = 100
_TOO_MANY: Final = f"the feed holds more than {MOST_ELEMENTS:,} elements"

_ROOTS: Final = frozenset({"rss", "feed", "rdf"})
_PAGE: Final = re.compile(rb"<!doctype\s+html|<html[\s>]", re.IGNORECASE)
_HEAD: Final = 1_000
_TAIL: Final = 1_000


def feed_body(body: bytes) -> None:
    """Check the body of a feed.

    Not well-formed is what many feeds are and feedparser puts up with: an undeclared prefix, ``&nbsp;``, a bare ``&``.
    It is taken if it is whole: if its end closes what its beginning opened.

    Parameters
    ----------
    body : bytes
        Of an answer of status 200.

    Raises
    ------
    ValueError
        If it is no feed, or cut off: the next answer may be one.
    Refused
        If it declares entities or asks for other documents, or is too large, too deep, or of too many parts.
    """
    body = body.strip()
    if not body:
        raise ValueError("it is empty")
    if len(body) > LARGEST:
        raise Refused(f"the feed holds {len(body):,} bytes, more than {LARGEST:,}")
    if _PAGE.search(body[:_HEAD]):
        raise ValueError("it is a page for people")
    outline = _Outline()
    try:
        parseString(body, outline, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    except DefusedXmlException:
        raise Refused("the feed declares entities or asks for another document, which no feed needs") from None
    except LookupError as error:
        raise ValueError(f"no whole XML document ({error})") from None
    except SAXParseException as error:
        if not outline.root or f"</{outline.root}".encode() not in body[-_TAIL:]:
            raise ValueError(f"no whole XML document ({error.getMessage()})") from None
        if body.count(b"<") > 2 * MOST_ELEMENTS:
            raise Refused(_TOO_MANY) from None
    if outline.root.rpartition(":")[2].lower() not in _ROOTS:
        raise ValueError(f"its root is <{outline.root}>, which is no feed")


class _Outline(ContentHandler):
    """The root of a document; refuses one that would take long."""

    def __init__(self) -> None:
        super().__init__()
        self.root = ""
        self._depth = 0
        self._elements = 0

    def startElement(self, name: str, attrs: object) -> None:
        self.root = self.root or name
        self._depth += 1
        self._elements += 1
        if self._depth > DEEPEST:
            raise Refused(f"the feed nests more than {DEEPEST} elements")
        if self._elements > MOST_ELEMENTS:
            raise Refused(_TOO_MANY)

    def endElement(self, name: str) -> None:
        self._depth -= 1
