"""What an order book says at one look: how far bid and ask lie apart, and which side is deeper."""

import polars as pl


def spread_bp() -> pl.Expr:
    """Return the distance from bid to ask in basis points of their middle: ``10000 * (ask - bid) / middle``.

    Returns
    -------
    pl.Expr of Float64
        Needs the columns ``bid`` and ``ask``.

    Examples
    --------
    >>> pl.DataFrame({"bid": [99.0], "ask": [101.0]}).select(spread_bp()).item()
    200.0
    """
    bid, ask = pl.col("bid"), pl.col("ask")
    return (10_000 * (ask - bid) / ((bid + ask) / 2)).alias("spread_bp")


def imbalance() -> pl.Expr:
    """Return which side is deeper: ``(bid_depth - ask_depth) / (bid_depth + ask_depth)``.

    Returns
    -------
    pl.Expr of Float64
        In [-1, 1]: 1 where only bids are there, 0 where both sides are alike, null where neither has any depth. Needs
        the columns ``bid_depth`` and ``ask_depth``, both of one reach.

    Examples
    --------
    >>> pl.DataFrame({"bid_depth": [3.0], "ask_depth": [1.0]}).select(imbalance()).item()
    0.5
    """
    bid, ask = pl.col("bid_depth"), pl.col("ask_depth")
    return pl.when(bid + ask > 0).then((bid - ask) / (bid + ask)).alias("imbalance")
