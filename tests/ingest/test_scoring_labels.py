"""Outputs are told by the name of their label, never by their order."""

import pytest
from backsight_features.errors import BadInput
from backsight_ingest.scoring.labels import columns


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["positive", "negative", "neutral"], (0, 1, 2)),
        (["Neutral", "Positive", "Negative"], (1, 2, 0)),
        (["Bearish", "Neutral", "Bullish"], (2, 0, 1)),
    ],
)
def test_by_name(labels: list[str], expected: tuple[int, int, int]) -> None:
    assert columns({str(i): label for i, label in enumerate(labels)}, model="m") == expected


@pytest.mark.parametrize(
    "labels",
    [
        ["LABEL_0", "LABEL_1", "LABEL_2"],
        ["positive", "negative"],
        ["positive", "negative", "neutral", "mixed"],
        ["positive", "negative", "bullish"],
        [],
    ],
)
def test_what_would_be_a_guess_is_refused(labels: list[str]) -> None:
    with pytest.raises(BadInput, match=r"my-model labels its outputs .*positive, negative and neutral"):
        columns({str(i): label for i, label in enumerate(labels)}, model="my-model")
