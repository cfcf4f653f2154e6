"""The `samedge` command's group: its commands, each imported when it is called, and how a failed one ends.

A command is a module with a Typer app, `app`, made by `command_app`.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from edge.errors import RunError, SamedgeError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OWN = ("predict", "bench", "evaluate", "inspect", "serve", "doctor", "cases")  # modules of this folder
COMMANDS_GROUP = "samedge.commands"


def command_app(**given: Any) -> typer.Typer:
    """A Typer app for a command, or for a few of one name, that looks like all the others: plain text."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **given)


class Commands(TyperGroup):
    """This package's commands and those that installed packages add; errors meant for a user end in exit code 1.

    `ctx` is click's context, which Typer brings under another name from one version to the next.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return [*OWN, *sorted(_added_commands())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in OWN:
            app = import_module(f"edge.commands.{cmd_name}").app
        elif (added := _added_commands().get(cmd_name)) is not None:
            app = added.load()
        else:
            return None
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in OWN and args[0] not in _added_commands():
            self.commands = dict.fromkeys(self.list_commands(ctx))  # type: ignore[assignment]  # for "Did you mean"
        return super().resolve_command(ctx, args)

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


def write_all(writers: Sequence[tuple[Path | None, Callable[[Path], None]]]) -> list[str]:
    """Write each file that was asked for; one that cannot be written costs none of the others. Returns why."""
    failures = []
    for file, write in writers:
        try:
            if file is not None:
                write(file)
        except RunError as error:
            failures.append(str(error))
    return failures


def _added_commands() -> "dict[str, EntryPoint]":
    from importlib import metadata  # 0.015 s, which a command of this package does not need

    return {entry.name: entry for entry in metadata.entry_points(group=COMMANDS_GROUP)}
