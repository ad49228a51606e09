"""The arguments of `videorwkv study`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from videorwkv.cli_options import DATA_HELP, add_command, add_data_options, add_device

if TYPE_CHECKING:
    from videorwkv.cli_options import Commands


def add_study(commands: Commands) -> None:
    parser = add_command(
        commands,
        "study",
        "Answer a question about the model with trainings and intervals.\n\nTrains the variants "
        "of a study under equal budget, over several seeds, and writes a page\n(Markdown and HTML) "
        "with tables, plots, commands and a sentence for each finding. A study that\nwas stopped "
        "goes on; what was trained once, for any study, is not trained again.",
        "  videorwkv study --list\n"
        "  videorwkv study ablation --quick\n"
        "  videorwkv study ablation my_videos --set steps=2000 --only 'no edges'\n"
        "  videorwkv study ablation clips --recipe handwash --fold-by 'session_(\\d+)' "
        "--folds 1+2,3+4\n"
        "  videorwkv study my_study.py my_videos\n"
        "  videorwkv study all --quick --jobs 2",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="a study, a Python file that defines one, or all"
    )
    parser.add_argument(
        "data", metavar="DATA", nargs="?", help=f"{DATA_HELP} (default: the study's generated one)"
    )
    parser.add_argument("--list", action="store_true", help="name the studies and their questions")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few steps and seeds: minutes, wide intervals (own data: a quarter of the recipe)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="trainings of each variant (default: 3 or 5, the study says which; --quick: 2)",
    )
    parser.add_argument(
        "--recipe", metavar="NAME", help="the recipe that is varied (own data: default, lcr_nano)"
    )
    parser.add_argument(
        "--set",
        dest="assignments",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an option of the recipe for all variants, as in `train`; repeatable",
    )
    parser.add_argument(
        "--only",
        metavar="VARIANT",
        action="append",
        default=[],
        help="train this variant (and the default) alone; repeatable",
    )
    parser.add_argument(
        "--no-frames",
        action="store_true",
        help="no picture of a clip on the pages: for clips that may not be shown to others",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="trainings side by side, a process of one thread each (default: the CPU's cores; one "
        "on a GPU)",
    )
    parser.add_argument(
        "--out", default="runs/study", metavar="FOLDER", help="pages (default: runs/study)"
    )
    parser.add_argument(
        "--runs",
        default="runs/study/runs",
        metavar="FOLDER",
        help="trainings, shared by all studies (default: runs/study/runs)",
    )
    add_data_options(parser)
    add_device(parser)
    parser.set_defaults(run="commands_study:study")
