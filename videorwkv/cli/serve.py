"""`videorwkv serve`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from videorwkv.cli.options import add_command

if TYPE_CHECKING:
    from pathlib import Path

    from videorwkv.cli.options import Commands

RUNTIME_HELP = (
    "the archive of ONNX Runtime for browsers that `npm pack` makes, for a machine without npm "
    "(default: npm fetches it once)"
)


def add_serve(commands: Commands) -> None:
    parser = add_command(
        commands,
        "serve",
        "Show a run live in a browser on this machine: its camera or a file, recognised in the "
        "page.\n\n"
        "Exports the run as a page first if that has not been done (`videorwkv export --to web`), "
        "serves\nit to this machine alone and opens the browser. Ctrl-C ends it.",
        "  videorwkv serve runs/mine\n  videorwkv serve site/ --no-browser --port 8000",
    )
    parser.add_argument(
        "model",
        metavar="RUN",
        help="the folder of a trained run, RUN/best or RUN/last, or a folder that "
        "`videorwkv export --to web` wrote",
    )
    add_page_options(parser, 8917)
    parser.set_defaults(run=run_serve)


def add_page_options(parser: argparse.ArgumentParser, port: int) -> None:
    """How a page is served; for every command that does."""
    parser.add_argument(
        "--port",
        type=int,
        metavar="N",
        help=f"the port on 127.0.0.1; 0: any that is free (default: {port}, or any that is free)",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address and open no browser"
    )
    parser.add_argument("--runtime", metavar="FILE", help=RUNTIME_HELP)


def run_serve(options: argparse.Namespace) -> int:
    import webbrowser

    from videorwkv.web.server import Server

    server = Server(_site(options.model, options.runtime), options.port)
    try:
        print(f"Serving {server.url} to this machine; Ctrl-C ends it.", flush=True)
        if not options.no_browser and not webbrowser.open(server.url):
            print("note: no browser could be opened; open the address in one yourself.", flush=True)
        server.run()
    except KeyboardInterrupt:
        print("Ended.")
    finally:
        server.close()
    return 0


def _site(place: str, runtime: str | None) -> Path:
    """The folder to serve; a run is exported where its site is missing or another's."""
    from pathlib import Path

    from videorwkv.errors import UsageError
    from videorwkv.inference.exported import ExportedRun
    from videorwkv.inference.recogniser import load_run
    from videorwkv.web.site import default_folder, export_site, is_current, is_site

    if is_site(place):
        return Path(place)
    run = load_run(place)
    if isinstance(run, ExportedRun):
        raise UsageError(
            f"{place} is an exported file; give the run that it came from, or a folder that "
            "`videorwkv export RUN --to web` wrote."
        )
    folder = default_folder(run)
    if not is_current(folder, run):
        print(f"Exporting to {folder} ...", flush=True)
        export_site(run, folder, runtime=runtime)
    return folder
