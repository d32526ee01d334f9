"""``%%remote`` and ``%avlab``."""

from __future__ import annotations

from pathlib import Path

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from avlab.core.errors import BundleError
from avlab.remote.stand_ins import original_of

from . import options, reports
from .cells import Cell
from .home import Home, SourceHome
from .live_table import LiveTable
from .sessions import Desk


@magics_class
class AvlabMagics(Magics):  # type: ignore[misc]
    """The magics of one notebook; ``desk`` owns what they open."""

    def __init__(self, shell: InteractiveShell, desk: Desk) -> None:
        super().__init__(shell)
        self.desk = desk

    @cell_magic  # type: ignore[untyped-decorator]
    def remote(self, line: str, body: str) -> None:
        """Define classes and functions that run in a sandbox.

        %%remote [--on URL] [--files PATH…] [--memory 512M] [--cpu SECONDS] [--timeout SECONDS] [--tier TIER]
                 [--pip REQUIREMENT…] [--python MINOR] [--name NAME] [--explain] [--remote-imports]

        --on              executor, for example grpc://host:port (default: the one of %avlab connect, or the embedded one)
        --files           data files and folders next to the notebook that the code reads; modules are found by themselves
        --memory --cpu    bytes and seconds of CPU time that one session may use
        --timeout         seconds of wall time for one item or call
        --tier            isolation tier: gvisor, namespaces, landlock
        --pip             packages that the executor installs for the cell, for example "scipy>=1.14"
        --python          minor version of Python to run with, for example 3.12 (with --remote-imports)
        --name            what the sessions are called in %avlab status
        --explain         show what would be sent and open nothing
        --remote-imports  the cell's imports exist on the executor only: it is executed there, not here
        """
        # IPython hides the frames above this one from tracebacks.
        __tracebackhide__ = "__ipython_bottom__"
        given = options.REMOTE.parse(line)
        base = Path.cwd()
        for named in given.files:
            if not (base / named).exists():
                raise BundleError(f"%%remote --files {named}: there is no such file or folder in {base}")
        settings = {
            "on": options.url(given),
            "files": given.files,
            "label": given.name,
            "limits": options.limits(given),
        }
        self.desk.modules.reload_changed(base)
        if given.remote_imports:
            home: Home = SourceHome(self.desk, base, **settings, state=self.shell.user_ns)
            cell = Cell(self.shell, home, f"%%remote {line}", body)
            cell.outline()
        else:
            cell = Cell(self.shell, Home(self.desk, base, **settings), f"%%remote {line}", body)
            cell.run()
        if given.explain:
            for name, proxy in cell.defined.items():
                print(f"{name}:\n{cell.home.explain(original_of(proxy))}\n")  # noqa: T201

    @line_magic  # type: ignore[untyped-decorator]
    def avlab(self, line: str) -> object:
        """Executors and sessions of this notebook.

        %avlab connect URL [NAME=VALUE…]   use this executor from now on, for example grpc://host:port
        %avlab status                      open sessions, drawn again every second while there are any
        %avlab doctor                      isolation tiers that are possible, with reasons, and versions
        %avlab logs [LINES]                recent output of the workers
        %avlab stop [NAME]                 end the sessions of that name, or all sessions and executors
        """
        __tracebackhide__ = "__ipython_bottom__"
        command, _, rest = line.strip().partition(" ")
        match command, rest.split():
            case "connect", [_, *_]:
                given = options.CONNECT.parse(rest)
                executor = self.desk.connect(given.url, **options.pairs(given.options))
                print(f"connected to {executor.url}")  # noqa: T201
            case "status", []:
                table = LiveTable(
                    reports.status(self.desk),
                    lambda: reports.status(self.desk, reports.figures_of(self.desk)),
                    self.desk.sessions,
                )
                self.desk.watch(table)
                return table
            case "doctor", []:
                return reports.doctor(self.desk)
            case "logs", [] | [_] as words:
                lines = words[0] if words else "100"
                if not lines.isdigit():
                    raise UsageError(f"%avlab logs {lines}: LINES is a number")
                print(self.desk.outputs.recent(int(lines)), end="")  # noqa: T201
            case "stop", [] | [_] as words:
                count = self.desk.stop(*words)
                print(f"stopped {count} session{'' if count == 1 else 's'}")  # noqa: T201
            case _:
                raise UsageError("%avlab connect URL | status | doctor | logs [LINES] | stop [NAME]")
        return None
