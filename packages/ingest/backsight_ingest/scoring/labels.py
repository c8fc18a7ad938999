"""What a label means, of a classifier or of a person: told by its name, since numbers differ from one to the next."""

from collections.abc import Mapping
from typing import Final

from backsight_features.errors import BadInput

MEANINGS: Final[Mapping[str, int]] = {
    "positive": 0,
    "pos": 0,
    "bullish": 0,
    "negative": 1,
    "neg": 1,
    "bearish": 1,
    "neutral": 2,
    "neu": 2,
}
"""The column of a score that a label in lower case stands for."""

COLUMNS: Final = ("positive", "negative", "neutral")


def columns(id2label: Mapping[str, str], *, model: str) -> tuple[int, int, int]:
    """Return the outputs that stand for positive, negative and neutral.

    Parameters
    ----------
    id2label : mapping of str to str
        Of the model's ``config.json``: the label of each output, by its number as text.
    model : str
        Its name, for the message.

    Raises
    ------
    BadInput
        If the labels are not these three, e.g. ``LABEL_0`` or only two: what they mean would be a guess.

    Examples
    --------
    >>> columns({"0": "Neutral", "1": "Positive", "2": "Negative"}, model="tone")
    (1, 2, 0)
    """
    found = {MEANINGS.get(label.strip().lower(), -1): int(number) for number, label in id2label.items()}
    if set(found) != {0, 1, 2} or len(id2label) != len(COLUMNS):
        raise BadInput(
            f"{model} labels its outputs {', '.join(id2label.values()) or 'not at all'}; id2label of its config.json "
            "has to name three: positive, negative and neutral (or bullish, bearish and neutral)"
        )
    return found[0], found[1], found[2]
