"""``backsight audit``: what saw the future. Its subcommands are the entry points of group ``backsight.audit``."""

from importlib.metadata import entry_points

import click


class _Audits(click.Group):
    """Loads an audit when it is named, so that packages that are installed can bring their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({audit.name for audit in entry_points(group="backsight.audit")})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for audit in entry_points(group="backsight.audit", name=cmd_name):
            command = audit.load()
            if not isinstance(command, click.Command):
                raise TypeError(f"entry point {audit.value} is no click command")
            return command
        return None


@click.group(cls=_Audits)
def audit() -> None:
    """Look for what saw the future: in a table, a lake, a model.

    Exit code 1 if anything is convicted, so that a job of continuous integration can stand on it.

    \b
      backsight audit dataset table.parquet --time time --label ret_24h --horizon 24h --split part
    """
