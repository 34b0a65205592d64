"""The command line: parses, calls the library, prints. Importing it imports neither torch nor any plugin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from gftzoo import __version__
from gftzoo.cli import edge
from gftzoo.errors import PluginError, nearest
from gftzoo.homes import spare_a_home
from gftzoo.plugins.discovery import COMMANDS, Plugin, active, hide_malformed
from gftzoo.plugins.loading import load_object

# In the order in which they are told of; each is `command` in a module of `gftzoo.cli.commands`.
BUILT_IN = {
    "list": "list",
    "info": "info",
    "plugins": "plugins",
    "new-plugin": "new_plugin",
    "check-plugin": "check_plugin",
    "train": "train",
    "runs": "runs",
    "report": "report",
    "compare": "compare",
    "sample": "sample",
    "evaluate": "evaluate",
    "sweep": "sweep",
    "cache": "cache",
    "import": "import_",
    "export": "export",
    "push": "push",
    "demo": "demo",
}


def built_in(name: str) -> click.Command:
    """A command of the zoo's own; its module is imported now, what it does when it is called."""
    found: click.Command = import_module(f"gftzoo.cli.commands.{BUILT_IN[name]}").command
    return found


class PluginCommand(click.Command):
    """A plugin's command in the list of all; it is imported when it is called."""

    def __init__(self, plugin: Plugin) -> None:
        super().__init__(plugin.name, help=f"From {plugin.distribution} {plugin.version}.")
        self.plugin = plugin

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        command = load_object(self.plugin)
        if not issubclass(type(command), click.Command):  # asks the object nothing
            raise PluginError(f"plugin {self.plugin.label} is no click.Command.")
        context: click.Context = command.make_context(info_name, args, parent, **extra)
        return context


class Commands(click.Group):
    """The zoo's commands and those of plugins; suggests the nearest for one that there is not."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*BUILT_IN, *(plugin.name for plugin in active(COMMANDS))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in BUILT_IN:
            return built_in(cmd_name)
        found = next((plugin for plugin in active(COMMANDS) if plugin.name == cmd_name), None)
        return None if found is None else PluginCommand(found)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"no command {args[0]!r}{nearest(args[0], self.list_commands(ctx))}; `gftzoo --help` shows all.")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, package_name="gftzoo")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def gftzoo(debug: bool) -> None:
    """Train, sample and browse visual generators without guidance (Guidance-Free Training)."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line; exit code 0 done, 1 our error, 2 usage, 3 a plugin failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    edge.prepare_streams()
    try:
        hide_malformed()
        spare_a_home()
        gftzoo.main(args=words, prog_name="gftzoo", standalone_mode=False)
        code = edge.DONE
    except BaseException as error:  # a plugin's hook may raise anything; a plugin's command may exit as it likes
        leaves = isinstance(error, SystemExit) and getattr(edge.culprit(error), "group", "") in ("", COMMANDS)
        if "--debug" in words or leaves:
            raise
        code = edge.report(error)
    sys.exit(code)
