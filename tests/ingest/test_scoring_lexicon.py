"""The stand-in counts words, turns them around after a negation, and goes by its own name."""

import numpy as np
import pytest
from backsight_ingest.sample import phrases
from backsight_ingest.scoring.lexicon import LexiconStandIn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Strong gains", [2 / 3, 0, 1 / 3]),
        ("STRONG losses!", [1 / 3, 1 / 3, 1 / 3]),
        ("No gains", [0, 1 / 2, 1 / 2]),
        ("This isn't good", [0, 1 / 2, 1 / 2]),
        ("This isn\u2019t very good", [0, 1 / 2, 1 / 2]),
        ("Not a day later it gains", [1 / 2, 0, 1 / 2]),
        ("A meeting", [0, 0, 1]),
        ("2024 ₿ 日本", [0, 0, 1]),
        ("", [0, 0, 1]),
    ],
)
def test_counts(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(LexiconStandIn().score([text]), [expected])


def test_a_negation_stays_in_its_text() -> None:
    np.testing.assert_allclose(LexiconStandIn().score(["why not", "gains"])[1], [1 / 2, 0, 1 / 2])


def test_each_text_has_its_row() -> None:
    scorer = LexiconStandIn()
    texts = ["", "gains", "", "loss", "x"]
    np.testing.assert_array_equal(scorer.score(texts), np.concatenate([scorer.score([text]) for text in texts]))
    assert scorer.score([]).shape == (0, 3)


def test_goes_by_its_own_name() -> None:
    scorer = LexiconStandIn()
    assert scorer.name == "lexicon-standin"
    assert len(scorer.revision) == 12
    assert scorer.revision == LexiconStandIn().revision


@pytest.mark.parametrize("write", [phrases.news, phrases.posts])
def test_recovers_the_polarity_of_made_up_texts_with_noise(write) -> None:
    polarity = np.random.default_rng(0).integers(-1, 2, size=3000)
    title, text = write(np.random.default_rng(1), polarity)
    scores = LexiconStandIn().score((title + " " + text).to_list())
    lean = scores[:, 0] - scores[:, 1]
    assert 0.8 < np.corrcoef(lean, polarity)[0, 1] < 0.999
