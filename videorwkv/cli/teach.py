"""`videorwkv teach`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from videorwkv.cli.options import add_command, add_device, data_name
from videorwkv.cli.serve import add_page_options

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands


def add_teach(commands: Commands) -> None:
    parser = add_command(
        commands,
        "teach",
        "Record, train and try in a browser on this machine.\n\n"
        "Opens a page in which you name classes, record a few clips of each from the camera or "
        "add files, train\non them, and see the trained model work on the camera. The clips lie "
        "in FOLDER, a folder for each\nclass, and the run in --out, as `videorwkv train FOLDER` "
        "would have it. Ctrl-C ends it. Needs\nvideorwkv[onnx].",
        "  videorwkv teach my_gestures\n  videorwkv teach my_videos --out runs/mine --steps 300",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="where the clips lie, in a folder for each class; made if it is missing",
    )
    parser.add_argument(
        "--out",
        metavar="RUN",
        help="folder of the first run; the next ones get -2, -3 and so on behind its name "
        "(default: runs/FOLDER)",
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="optimiser steps (default: as `train` chooses)"
    )
    add_page_options(parser, 8918)
    add_device(parser)
    parser.set_defaults(run=run_teach)


def run_teach(options: argparse.Namespace) -> int:
    import webbrowser
    from pathlib import Path

    from videorwkv.errors import UsageError
    from videorwkv.web.teach import TeachServer, check_ready
    from videorwkv.web.trainings import TrainingOptions

    if options.steps is not None and options.steps < 1:
        raise UsageError(f"--steps {options.steps}: wanted a number from 1 on.")
    # Before anybody records anything.
    check_ready(options.runtime)
    folder = Path(options.folder)
    out = options.out or f"runs/{data_name(folder.resolve().name)}"
    chosen = TrainingOptions(steps=options.steps, device=options.device, runtime=options.runtime)
    server = TeachServer(folder, out, chosen, options.port)
    try:
        print(
            f"Serving {server.url} to this machine; Ctrl-C ends it.\n"
            "The address has a key in it: who has it can record and train here.",
            flush=True,
        )
        if not options.no_browser and not webbrowser.open(server.url):
            print("note: no browser could be opened; open the address in one yourself.", flush=True)
        server.run()
    except KeyboardInterrupt:
        if server.trainings.is_running:
            print("Ending the training ...", flush=True)
    finally:
        server.close()
    print("Ended.")
    return 0
