"""What an audit says: text, JSON, one page, and the exit code."""

from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from backsight_features.audit import Audit, Finding, LookedFor
from backsight_features.audit.findings import Score

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
EVIL = "<script>alert('x')</script>"


def finding(name: str = "mood", *, check: str = "target", rows: int = 1, severity: str = "error") -> Finding:
    return Finding(
        check=check,
        name=name,
        where="table.csv",
        instant=NOON,
        datum=f"{name} is 1 at 2024-03-01 12:00",
        said=f"{name} is a copy.",
        right=f"leave {name} out",
        severity=severity,  # type: ignore[arg-type]
        rows=rows,
    )


def audit(*findings: Finding, of: str = "table.csv") -> Audit:
    looked_for = (
        LookedFor(check="target", said="copies"),
        LookedFor(check="overlap", said="needs --split", skipped=True),
    )
    scores = (Score(forecaster="claim", values={"mape": 2.49}), Score(forecaster="persistence", values={"mape": 1.95}))
    return Audit(of=of, findings=findings, looked_for=looked_for, scores=scores, notes=("3 rows were left out.",))


def test_the_smallest_example_is_told_first_and_errors_before_warnings() -> None:
    told = audit(finding("far", rows=90), finding("doubt", severity="warning"), finding("near", rows=2)).told
    assert [one.name for one in told] == ["near", "far", "doubt"]


@pytest.mark.parametrize(("severity", "code"), [("error", 1), ("warning", 0)])
def test_only_errors_set_the_exit_code(severity: str, code: int) -> None:
    assert audit(finding(severity=severity)).exit_code == code


def test_the_text_names_feature_instant_datum_and_what_would_be_right() -> None:
    text = audit(finding()).text()
    assert "error: target: mood" in text
    assert "2024-03-01T12:00:00Z: mood is 1 at 2024-03-01 12:00" in text
    assert "right would be: leave mood out" in text
    assert "persistence        1.95" in text
    assert "not looked for: overlap (needs --split)" in text
    assert text.endswith("table.csv: convicted, with 1 finding about 1 name.")


def test_json_holds_plain_values() -> None:
    document = audit(finding()).to_json()
    assert document["convicted"] is True
    assert document["findings"][0]["instant"] == "2024-03-01T12:00:00Z"
    assert document["findings"][0]["datum"] == "mood is 1 at 2024-03-01 12:00"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_is_escaped_and_needs_nothing_beside_it() -> None:
    page = audit(finding(EVIL), of=EVIL).html()
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert tags.addresses == []
    assert "&lt;script&gt;" in page
    assert "2.49" in page
