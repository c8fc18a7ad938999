"""Quantiles that cannot cross, and what they lose, on numbers that can be checked by hand."""

import numpy as np
from backsight_model.linear import QUANTILES, distribution, heads
from backsight_model.quantiles import GAUSSIAN, LEVELS, MIDDLE, MOVES, ordered, pinball, unordered

RNG = np.random.default_rng(0)


def test_no_numbers_make_quantiles_that_cross() -> None:
    raw = 30 * RNG.standard_normal((2000, len(LEVELS)))
    made = ordered(raw)
    assert (np.diff(made, axis=1) >= 0).all()
    np.testing.assert_array_equal(made[:, MIDDLE], raw[:, MIDDLE])
    unmoved = np.zeros(len(LEVELS))
    np.testing.assert_allclose(np.diff(ordered(unmoved)), np.log(2), rtol=1e-12)


def test_quantiles_can_be_taken_apart_and_put_in_order_again() -> None:
    np.testing.assert_allclose(ordered(unordered(GAUSSIAN)), GAUSSIAN, rtol=1e-12)
    equal = np.array([-2.0, -1.0, -1.0, 0.0, 0.0, 0.0, 3.0])
    np.testing.assert_allclose(ordered(unordered(equal)), equal, atol=1e-5)


def test_the_pinball_loss_by_hand() -> None:
    quantiles = np.array([[0.0] * 7, [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]])
    # 2 above all of them: each level times 2. At 0: each loses min(level, 1 - level) for each unit between.
    by_hand = [2 * sum(LEVELS) / 7, 2 * (0.05 * 3 + 0.1 * 2 + 0.25 * 1) / 7]
    np.testing.assert_allclose(pinball(quantiles, np.array([2.0, 0.0])), by_hand, rtol=1e-12)
    assert pinball(quantiles[None], np.array([2.0, 0.0])).shape == (1, 2)


def test_right_quantiles_lose_least() -> None:
    came = RNG.standard_normal(20_000)
    losses = [
        pinball(np.tile(shift + spread * GAUSSIAN, (len(came), 1)), came).mean()
        for shift, spread in ((0.0, 1.0), (0.2, 1.0), (0.0, 0.7), (0.0, 1.4))
    ]
    assert min(losses) == losses[0]


def test_the_line_moves_and_widens_what_moves_and_widens() -> None:
    rows = RNG.standard_normal((20_000, 3)).astype(np.float32)
    moves, widens = 0.3 * rows[:, 0], 0.2 * rows[:, 1]
    scaled = moves + np.exp(widens) * RNG.standard_normal(len(rows))
    line = heads(rows, 2.0 * widens, scaled > 0, scaled, unit=1.0, strength=1e-6)
    some = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 9]], dtype=np.float32)
    plain, moved, wider, narrower = line.predict(some)[:, QUANTILES]
    np.testing.assert_allclose(plain, GAUSSIAN, atol=0.05)
    np.testing.assert_allclose(moved, GAUSSIAN + 0.3, atol=0.06)
    for quantiles, width in ((wider, np.exp(0.2)), (narrower, np.exp(-0.2))):
        np.testing.assert_allclose(quantiles - quantiles[MIDDLE], width * GAUSSIAN, atol=0.1)
    far = line.predict(50 * RNG.standard_normal((500, 3)).astype(np.float32))[:, QUANTILES]
    assert (np.diff(far, axis=1) >= 0).all()


def test_two_numbers_move_and_widen_a_gaussian() -> None:
    moved, wider = unordered(GAUSSIAN) + np.array([[0.5, 0.0], [0.0, 0.1]]) @ MOVES
    np.testing.assert_allclose(ordered(moved), GAUSSIAN + 0.5, rtol=1e-12)
    np.testing.assert_allclose(ordered(wider), 1.1 * GAUSSIAN, rtol=0.01)


def test_a_constant_return_has_quantiles_all_the_same() -> None:
    rows = RNG.standard_normal((50, 2)).astype(np.float32)
    weights, bias = distribution(rows, np.full(50, 0.7), np.zeros(2), strength=0.1)
    np.testing.assert_allclose(weights, 0, atol=1e-12)
    np.testing.assert_allclose(ordered(bias), 0.7, atol=1e-4)
