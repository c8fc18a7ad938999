"""``backsight audit dataset``: a table that somebody trains on, with or without backsight."""

import json
from pathlib import Path

import click

from backsight_features.errors import BadInput
from backsight_features.options import JSON


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--time", required=True, metavar="COLUMN", help="Instant as of which a row is used.")
@click.option("--label", required=True, metavar="COLUMN", help="What is learnt.")
@click.option("--horizon", metavar="SPAN", help="How far after its instant a label reaches: 24h, 1d.")
@click.option("--split", metavar="COLUMN|FILE", help="Which rows are learnt from and judged: train, test; or folds.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="What is said of a model: MAPE=2.49%.")
@click.option("--prediction", metavar="COLUMN", help="What a model said of the label.")
@click.option("--price", metavar="COLUMN", help="Price that was known at the instant.")
@click.option("--symbol", metavar="COLUMN", help="Whose row it is, where several share an instant.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="A column that no model is given; repeatable.")
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Write one page as well.")
@JSON
@click.pass_context
def dataset(
    context: click.Context,
    file: Path,
    time: str,
    label: str,
    horizon: str | None,
    split: str | None,
    claims: tuple[str, ...],
    prediction: str | None,
    price: str | None,
    symbol: str | None,
    ignore: tuple[str, ...],
    page: Path | None,
    as_json: bool,
) -> None:
    """Look for what saw the future in FILE, a table (CSV, Parquet) that a model is trained on.

    Every numeric column that is not named is a feature. The more is named, the more can be seen. Exit code 1 if
    anything is convicted.

    \b
      backsight audit dataset table.parquet --time time --label ret_24h --horizon 24h --split part --price close
      backsight audit dataset table.csv --time date --label close --claim MAPE=2.49%
    """
    from backsight_features.audit.baselines import Claim
    from backsight_features.audit.dataset import audit_dataset
    from backsight_features.audit.table import Roles
    from backsight_features.clocks import timeframe

    if page is not None and not page.parent.is_dir():
        raise BadInput(f"--html {page}: there is no folder {page.parent}")
    if not file.is_file():
        raise BadInput(f"{file}: there is no such file")
    apart = split is not None and Path(split).suffix in {".csv", ".parquet"} and Path(split).is_file()
    roles = Roles(
        time=time,
        label=label,
        horizon=None if horizon is None else timeframe(horizon),
        split=None if apart else split,
        prediction=prediction,
        price=price,
        symbol=symbol,
        ignore=ignore,
    )
    found = audit_dataset(
        file, roles, split=Path(split) if apart and split else None, claims=[Claim.parse(one) for one in claims]
    )
    if page is not None:
        page.write_text(found.html(), encoding="utf-8")
    click.echo(json.dumps(found.to_json()) if as_json else found.text())
    context.exit(found.exit_code)
