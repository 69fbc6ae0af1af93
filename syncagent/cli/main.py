"""The command `syncagent`: which commands there are, and how a run of one ends.

A command's module is imported when it is run, so that `syncagent status` and
`syncagent --help` do not load the engine.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from syncagent import __version__
from syncagent.cli import exit as exits
from syncagent.cli.output import Output
from syncagent.cli.session import common_options, note_common


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is not imported yet: its function, as `module:name`, and its line in the list."""

    function: str
    help: str


COMMANDS = {
    "init": Lazy("syncagent.cli.membership:init", "Make a new vault and print its recovery code."),
    "join": Lazy("syncagent.cli.membership:join", "Make this device part of a vault that another one has."),
    "put": Lazy("syncagent.cli.put:put", "Store a file, standard input or a folder."),
    "get": Lazy("syncagent.cli.get:get", "Write a blob to standard output or a file."),
    "ls": Lazy("syncagent.cli.ls:ls", "List namespaces or the blobs of one."),
    "rm": Lazy("syncagent.cli.rm:rm", "Delete blobs, here and with the next syncs everywhere."),
    "flags": Lazy("syncagent.cli.flags:flags", "Show and change the flags of a blob."),
    "expire": Lazy("syncagent.cli.expire:expire", "Show and say when a blob is to be gone."),
    "history": Lazy("syncagent.cli.versions:history", "List the versions of a blob."),
    "tag": Lazy("syncagent.cli.versions:tag", "Put a name on a version of a blob."),
    "conflicts": Lazy("syncagent.cli.conflicts:conflicts", "List blobs that two devices have put at once."),
    "resolve": Lazy("syncagent.cli.conflicts:resolve", "End a conflict."),
    "sync": Lazy("syncagent.cli.sync:sync", "Send and fetch what is missing."),
    "send": Lazy("syncagent.cli.sync:send", "Send what the remote lacks."),
    "fetch": Lazy("syncagent.cli.sync:fetch", "Fetch what this device lacks."),
    "status": Lazy("syncagent.cli.status:status", "Show counts, the last sync and what is in the way."),
    "explain": Lazy("syncagent.cli.explain:explain", "Show why a blob is not in sync and what would help."),
    "retry": Lazy("syncagent.cli.explain:retry", "Make what waits after a failure due at the next sync."),
    "pin": Lazy("syncagent.cli.holding:pin", "Want content on this device, with its later versions."),
    "evict": Lazy("syncagent.cli.holding:evict", "Free the space of content that the remote holds."),
    "config": Lazy("syncagent.cli.config:config", "Show and change how a namespace is kept."),
    "remote": Lazy("syncagent.cli.remote:remote", "Show or change the place that the vault is synced with."),
    "device": Lazy("syncagent.cli.device:device", "List, rename and remove the vault's devices."),
    "key": Lazy("syncagent.cli.key:key", "List and replace the passphrase and the recovery code."),
    "serve": Lazy("syncagent.cli.serve:serve", "Run a server that keeps vaults, and manage its users."),
    "demo": Lazy(
        "syncagent.cli.demo:demo", "Show two devices and a remote at work, and prove what is promised."
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of a first use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module, _, name = lazy.function.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


@click.group(cls=LazyGroup, invoke_without_command=True)
@click.version_option(__version__, message="%(prog)s %(version)s")
@common_options
@click.pass_context
def cli(context: click.Context, /, **common: Any) -> None:
    """Keep blobs in sync between your devices, over storage that need not be trusted.

    Everything is encrypted before it leaves this device. Begin with `init` on the
    first device and `join` on the others; `demo` shows it all in a temporary folder.

    Exit codes: 0 done, 1 failed, 2 usage or no vault, 3 some blobs failed, 4 remote not
    reached (work is kept), 5 something for you to do, 6 integrity alarm, 130 interrupted.
    """
    note_common(context, common)
    if context.invoked_subcommand is None:
        (context.find_object(Output) or Output()).result(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run the command; its exit code. Says on stderr what went wrong, in one line."""
    # A usage error may come up before `--json` is parsed.
    output = Output(is_json="--json" in arguments)
    try:
        code = (
            cli.main(list(arguments), prog_name="syncagent", standalone_mode=False, obj=output) or exits.DONE
        )
        output.flush()
    except (Exception, KeyboardInterrupt) as exc:
        code = exits.tell(exc, output)
        output.flush_quietly()
    return int(code)
