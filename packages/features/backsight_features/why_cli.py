"""``backsight why``: every fact behind a value."""

from typing import TYPE_CHECKING, Any

import click

from backsight_features.options import JSON
from backsight_features.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

    from backsight_features.why import Stored, Why


@click.command()
@click.argument("symbol")
@click.argument("instant")
@click.argument("feature")
@click.option("--bars", "name", metavar="VENUE:SYMBOL:TIMEFRAME", help="Whose row, if there are several timeframes.")
@JSON
@click.pass_obj
def why(workspace: Workspace, symbol: str, instant: str, feature: str, name: str | None, as_json: bool) -> None:
    """Say why a feature has the value it has at an instant.

    The row it is from, every fact that was read for it with its three clocks, and those that were passed over with the
    reason: known only later, superseded, outside the lookback, another scorer. The value is computed again from just
    the facts that were read; where that is not what is stored, the exit code is 1.

    \b
      backsight why BTC-USD 2024-05-03T12:30:00Z rsi_14
      backsight why BTC-USD 2024-05-03 cpiaucsl_yoy --json
    """
    import json

    from backsight_features.bars import BarSeries
    from backsight_features.clocks import parse_instant
    from backsight_features.errors import BacksightError
    from backsight_features.lake import Lake
    from backsight_features.why import explain_stored, find

    at = parse_instant(instant)
    stored = find(workspace.features, symbol, feature, at, None if name is None else BarSeries.parse(name))
    found = explain_stored(Lake(workspace.lake), workspace.features, stored, at)
    if as_json:
        click.echo(json.dumps(_document(found, stored)))
    else:
        _show(found)
    if stored.differs(found):
        raise BacksightError(
            f"{feature} of {symbol} is stored as {stored.value} in the row of {stored.available_at:%FT%TZ}, but "
            f"{found.value} follows from the facts that were visible then; run `backsight build`, or "
            "`backsight audit pipeline` to find what was read beyond them"
        )


def _document(found: "Why", stored: "Stored") -> dict[str, Any]:
    facts = found.facts.with_columns(
        found.facts.select("observed_at", "available_at", "ingested_at")
        .select(_iso("observed_at"), _iso("available_at"), _iso("ingested_at"))
        .get_columns()
    )
    return {
        "symbol": found.series.symbol,
        "bars": str(found.series),
        "table": found.table,
        "feature": found.feature.name,
        "formula": found.feature.description,
        "unit": found.feature.unit,
        "at": found.at.isoformat(),
        "row": {"observed_at": found.observed_at.isoformat(), "available_at": found.available_at.isoformat()},
        "value": found.value,
        "stored": stored.value,
        "same": not stored.differs(found),
        "facts": facts.to_dicts(),
        "notes": found.notes,
    }


def _iso(name: str) -> "pl.Expr":
    import polars as pl

    return pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").alias(name)


_SHOWN = 30
"""Lines of each part: the first and the last half of it, where there are more."""


def _show(found: "Why") -> None:
    value = "undefined" if found.value is None else f"{found.value:.9g}"
    click.echo(f"{found.feature.name} of {found.series.symbol} at {found.at:%Y-%m-%d %H:%M:%S}: {value}")
    click.echo(f"  {found.feature.description} ({found.feature.unit})")
    click.echo(
        f"  row of {found.table}, available {found.available_at:%Y-%m-%d %H:%M:%S}, newest close "
        f"{found.observed_at:%Y-%m-%d %H:%M:%S}, from {found.series}"
    )
    for part in ("read", "row", "passed over"):
        for (source, table), rows in sorted(
            found.facts.filter(part=part).partition_by("source", "table", as_dict=True, maintain_order=True).items()
        ):
            click.echo(f"\n{part}: {rows.height:,} of {table} from {source}")
            click.echo("  observed_at          available_at         ingested_at")
            for line in _lines(rows):
                click.echo(f"  {line}")
    for note in found.notes:
        click.echo(f"\nnote: {note}")


def _lines(rows: "pl.DataFrame") -> list[str]:
    lines = [
        f"{row['observed_at']:%Y-%m-%d %H:%M:%S}  {row['available_at']:%Y-%m-%d %H:%M:%S}"
        f"{'~' if row['available_at_estimated'] else ' '} {row['ingested_at']:%Y-%m-%d %H:%M:%S}  "
        f"{row['fact']}: {row['says']}  ({row['reason']})"
        for row in rows.iter_rows(named=True)
    ]
    left = len(lines) - _SHOWN
    half = _SHOWN // 2
    return [*lines[:half], f"… {left:,} more; --json has all", *lines[-half:]] if left > 1 else lines
