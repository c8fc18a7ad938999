"""Sections of the report: words that follow from numbers, on losses and rules whose truth is known."""

import numpy as np
import pytest
from backsight_model import evidence
from backsight_model.proof import pesaran_timmermann
from backsight_model.trading import Costs, Tape, book, trade
from backsight_model.verdict import Losses, against_each
from backsight_model.walk import MODEL

HORIZON = 24
VOLATILITY = ("persistence", "log-HAR", "HAR-X", "linear", MODEL)
DIRECTION = ("base rate", "persistence", "one-bar reversal", "logistic", MODEL)
RETURN = ("persistence", "HAR-X", "linear", MODEL)


def lost(seed: int, *, better: float, n: int = 3000) -> Losses:
    """Losses of forecasters that are equally bad, apart from a model that loses less by a share."""
    rng = np.random.default_rng(seed)

    def of(names: tuple[str, ...]) -> dict[str, np.ndarray]:
        shared = rng.gamma(2.0, 0.5, n)
        losses = {name: shared + 0.3 * rng.gamma(2.0, 0.5, n) for name in names}
        return {**losses, MODEL: (1 - better) * losses[MODEL]}

    return Losses(
        service="all",
        at=np.datetime64("2024-01-01", "us") + np.arange(n) * np.timedelta64(3600, "s"),
        fold=1 + np.arange(n) * 2 // n,
        volatility=of(VOLATILITY),
        qlike=of(VOLATILITY),
        direction=of(DIRECTION),
        pinball=of(RETURN),
        hit={name: rng.integers(2, size=n).astype(np.float64) for name in DIRECTION},
        directional=pesaran_timmermann(rng.random(n) < 0.5, rng.random(n) < 0.5, lag=4 * HORIZON),
        lag=4 * HORIZON,
    )


def caption(title: str) -> str:
    return f"{title}!"


@pytest.mark.parametrize("better", [0.0, 0.2, -0.2])
def test_words_on_all_forecasters_follow_from_the_numbers(better: float) -> None:
    for section in evidence.confidence_sets(lost(1, better=better), horizon=HORIZON, caption=caption):
        kept = {row["forecaster"]: row["kept"] for row in section["rows"]}
        assert [row["loss"] for row in section["rows"]] == sorted(row["loss"] for row in section["rows"])
        assert all(row["kept"] == (row["p_value"] > 0.05) for row in section["rows"])
        assert kept[MODEL] == (better >= 0)
        assert ("the model is in the 95 % set" in section["words"]) == kept[MODEL]
        benchmark = evidence.BENCHMARKS[section["what"]]
        assert (f"Some forecaster beats {benchmark}" in section["words"]) == (section["superior"][benchmark] <= 0.05)
        assert ("some beats the model" in section["words"]) == (section["superior"][MODEL] <= 0.05) == (better < 0)
        assert f"of {len(kept)} forecasters" in section["words"]
        assert section["caption"].endswith("!")


def test_the_instants_needed_are_those_that_would_show_the_gain() -> None:
    losses = lost(2, better=0.01)
    sections = evidence.comparisons(losses, against_each(losses), horizon=HORIZON, caption=caption)
    section = sections["volatility"]
    assert [row["reference"] for row in section["rows"]] == [name for name in VOLATILITY if name != MODEL]
    for row in section["rows"]:
        assert (row["needed"] is None) == (row["gain"] <= 0)
        if row["gain"] > 0:
            assert (row["needed"] > row["count"]) == (row["detectable"] > row["gain"])
        assert row["drawn_low"] < row["skill"] < row["drawn_high"]
        assert row["drawn_high"] - row["drawn_low"] == pytest.approx(row["skill_high"] - row["skill_low"], rel=0.4)


def test_a_winner_by_merit_stays_one_and_one_by_luck_does_not() -> None:
    merit, luck = (
        {row["chosen"]: row for row in evidence.candidates(lost(3, better=better), None)} for better in (0.2, 0.0)
    )
    assert set(merit) == {f"forecasters, {said}" for said in evidence.PLAIN.values()}
    assert all(row["probability"] < 0.01 and row["candidates"] >= 4 for row in merit.values())
    assert all(row["probability"] > 0.1 for row in luck.values())


def test_more_trials_deflate_more() -> None:
    rng = np.random.default_rng(4)
    n = 6000
    closed_at = np.datetime64("2024-01-01", "us") + np.arange(n) * np.timedelta64(3600, "s")
    returns = 0.005 * rng.standard_normal(n)
    coming = np.convolve(returns, np.ones(HORIZON), mode="full")[HORIZON:][: n - HORIZON]
    held = book(
        Tape(closed_at=closed_at, returns=returns, step=np.timedelta64(1, "h").item()),
        closed_at[: len(coming)],
        p_up=np.clip(0.5 + 2 * coming + 0.1 * rng.standard_normal(len(coming)), 0.05, 0.95),
        volatility=np.full(len(coming), 0.025),
        usual=0.025,
        horizon=HORIZON,
    )
    traded = trade({"BTC-USD": held}, horizon=HORIZON, lag=4 * HORIZON, costs=Costs())
    one, many = (evidence.deflated(traded, trials=trials, caption=caption) for trials in (1, 1000))
    best = max(traded.rules, key=lambda rule: rule.sharpe)
    for section in (one, many):
        assert section["rule"] == best.rule
        assert section["sharpe_year"] == pytest.approx(best.sharpe)
        assert section["discovery"] == (section["probability"] > 0.95)
    assert (one["trials"], many["trials"]) == (4, 4000)
    assert many["luck_year"] > one["luck_year"]
    assert many["probability"] < one["probability"]
