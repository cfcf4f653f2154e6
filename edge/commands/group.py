"""The `samedge` command's group: commands that other packages add, and how a failed one ends."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from edge.errors import SamedgeError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

COMMANDS_GROUP = "samedge.commands"


class Commands(TyperGroup):
    """This package's commands and those that installed packages add; errors meant for a user end in exit code 1.

    `ctx` is click's context, which Typer brings under another name from one version to the next.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_added_commands())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in (added := _added_commands()):
            return own
        command = typer.main.get_command(added[cmd_name].load())
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SamedgeError as error:
            fail([str(error)])
        except KeyboardInterrupt:
            print("interrupted; what is finished is kept, run the same command again to go on", file=sys.stderr)
            sys.exit(130)


def fail(errors: Sequence[str | None]) -> None:
    """Name every failure on stderr and exit with 1; nothing where there is none."""
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if errors:
        sys.exit(1)


def _added_commands() -> "dict[str, EntryPoint]":
    from importlib import metadata  # 0.015 s, which a command of this package does not need

    return {entry.name: entry for entry in metadata.entry_points(group=COMMANDS_GROUP)}
