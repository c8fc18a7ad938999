"""The ``backsight`` command. Its verbs are the entry points of group ``backsight.commands`` that are installed."""

import re
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import click

from backsight_features import __version__
from backsight_features.errors import BacksightError, BadInput
from backsight_features.masking import masked
from backsight_features.workspace import Workspace

_NO_FOLDER: Final = re.compile(r"[\[\]^|\\]|%[0-9A-Fa-f]{2}")
"""What delta-rs cannot have in the path of a table: it makes an address of it and fails, or means another folder."""

_OBJECTS: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]+(/[\w.=-]+)*/?", re.ASCII)


class _Verbs(click.Group):
    """Loads a verb when it is named; a verb imports what is heavy when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({verb.name for verb in entry_points(group="backsight.commands")})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for verb in entry_points(group="backsight.commands", name=cmd_name):
            command = verb.load()
            if not isinstance(command, click.Command):
                raise TypeError(f"entry point {verb.value} is no click command")
            return command
        return None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="BACKSIGHT_HOME",
    default=Path(".backsight"),
    show_default=True,
    help="Folder for lake, features and models; also BACKSIGHT_HOME.",
)
@click.option(
    "--tables",
    envvar="BACKSIGHT_TABLES",
    help="Where lake and features are instead: a folder or s3://bucket/prefix; also BACKSIGHT_TABLES.",
)
@click.option("--debug", is_flag=True, help="Show the whole trace of an error.")
@click.version_option(__version__, prog_name="backsight")
@click.pass_context
def cli(ctx: click.Context, home: Path, tables: str | None, debug: bool) -> None:
    """Crypto forecasts that cannot see the future, and have to prove their skill.

    \b
    A first run on a made-up world:
      backsight sample world --seed 7
      backsight pull dump --layout binance-1h world/bars
    """
    ctx.obj = Workspace(root=_folder("--home", home), tables=_place(tables) if tables else None)


def _place(tables: str) -> Path | str:
    if "://" not in tables:
        return _folder("--tables", Path(tables))
    if not _OBJECTS.fullmatch(tables):
        raise BadInput(f"--tables {masked(tables)}: neither a folder nor an address such as s3://bucket/prefix")
    return tables


def _folder(option: str, path: Path) -> Path:
    folder = path.absolute()
    if found := _NO_FOLDER.search(folder.as_posix()):
        raise BadInput(f"{option} {folder}: Delta tables cannot lie in a folder with {found[0]!r} in its path")
    return folder


def main() -> None:
    """Run the command line; an error is one line on stderr and the exit code of its class."""
    # Read by hand: an error may come up before click has parsed the option.
    debug = "--debug" in sys.argv[1:]
    try:
        # Outside standalone mode click returns the code of an early exit instead of raising it.
        sys.exit(cli.main(prog_name="backsight", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        expected = isinstance(error, BacksightError | OSError)  # of the system: a full disk
        if debug or not expected:
            click.echo(masked("".join(traceback.format_exception(error))), err=True, nl=False)
        if expected:
            click.echo(f"error: {masked(' '.join(str(error).split()))}", err=True)
        sys.exit(error.exit_code if isinstance(error, BacksightError) else BacksightError.exit_code)
