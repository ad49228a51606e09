"""`videorwkv push`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from videorwkv.cli.options import add_command, refuse
from videorwkv.errors import UsageError

if TYPE_CHECKING:
    from videorwkv.cli.options import Commands


def add_push(commands: Commands) -> None:
    parser = add_command(
        commands,
        "push",
        "Share a run on the Hugging Face Hub.\n\nThe repository gets config.json, "
        "model.safetensors, a model card (README.md) and what transformers\nasks for; nothing else "
        "of the run's folder. The card says what the run knows: data set and its hash,\nsplits, "
        "accuracy with its interval, command, machine, limits. Look at it first, with --out.\n"
        "The account is that of `hf auth login`, or HF_TOKEN.",
        "  videorwkv push runs/mine --out shared --licence apache-2.0\n"
        "  videorwkv push runs/mine me/waving --licence apache-2.0 --data-licence 'own clips'\n"
        "  videorwkv push runs/mine/last me/waving --private --branch last\n"
        "  videorwkv predict hf:me/waving clip.mp4",
    )
    parser.add_argument(
        "model", metavar="RUN", help="the folder of a trained run, RUN/best or RUN/last"
    )
    parser.add_argument(
        "repo", metavar="OWNER/NAME", nargs="?", help="the repository, which is made if need be"
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="write the repository's files into this folder; without OWNER/NAME that is all",
    )
    parser.add_argument(
        "--licence",
        "--license",
        metavar="NAME",
        default="",
        help="licence of the weights, as the Hub writes it: apache-2.0, cc-by-4.0, other, ... "
        "(default: the card says that it is not stated)",
    )
    parser.add_argument(
        "--data-licence",
        "--data-license",
        metavar="TEXT",
        default="",
        help="licence of the data that it was trained on, in your words (default: not stated)",
    )
    parser.add_argument(
        "--description", metavar="TEXT", default="", help="what the model is for, for the card"
    )
    parser.add_argument(
        "--private", action="store_true", default=None, help="make a new repository private"
    )
    parser.add_argument(
        "--branch", metavar="NAME", help="branch to push to, made if need be (default: main)"
    )
    parser.add_argument("--pr", action="store_true", help="propose it as a pull request")
    parser.add_argument("--message", metavar="TEXT", help="message of the commit")
    parser.set_defaults(run=run_push)


def run_push(options: argparse.Namespace) -> int:
    from videorwkv.run.hub import load_model
    from videorwkv.run.run import read_run
    from videorwkv.utils.hub import parse

    if options.repo is not None:
        try:  # before anything is written
            _, revision = parse(options.repo)
        except UsageError:
            raise UsageError(
                f"push: {options.repo!r} is no repository of the Hub; OWNER/NAME is wanted, such "
                "as me/waving."
            ) from None
        if revision is not None:
            raise UsageError(
                f"push: {options.repo!r} names a revision; name the branch with --branch "
                f"{revision}."
            )
    if options.repo is None:
        if options.out is None:
            raise UsageError(
                "push: name the repository, OWNER/NAME, or a folder with --out FOLDER to look at "
                "what would be pushed."
            )
        refuse(options, ("private", "branch", "pr", "message"), "needs OWNER/NAME")
    facts = {name: getattr(options, name) for name in ("licence", "data_licence", "description")}
    model = load_model(read_run(options.model))
    if options.out is not None:
        folder = model.save_pretrained(options.out, repo=options.repo or "", **facts)
        print(f"Written to {folder}: look at README.md, the model card")
    if options.repo is not None:
        address = model.push_to_hub(
            options.repo,
            private=options.private,
            branch=options.branch,
            create_pr=options.pr,
            commit_message=options.message or "",
            **facts,
        )
        print(f"Pushed: {address}")
        revision = f"@{options.branch}" if options.branch and not options.pr else ""
        if not options.pr:
            print(f"Use it: videorwkv predict hf:{options.repo}{revision} CLIP.mp4")
    for name, value in (("--licence", options.licence), ("--data-licence", options.data_licence)):
        if not value:
            print(f"note: {name} was not given; the card says that it is not stated")
    return 0
