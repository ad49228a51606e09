"""The directive `commands`: the reference of the command line, from its argparse parsers.

sphinx-argparse reads help texts as reStructuredText, in which `path label` or *.mp4 mean something
else. Here they stay what a terminal shows.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from videorwkv.cli.main import make_parser

COLUMNS = 88  # of a usage line; a code block scrolls beyond


class Commands(SphinxDirective):
    """A section for each command, in the order of `videorwkv --help`."""

    def run(self) -> list[nodes.Node]:
        return [self._section(parser) for parser in _leaves(make_parser())]

    def _section(self, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[parser.prog.replace(" ", "-")])
        section += nodes.title(text=parser.prog)
        self.state.document.note_explicit_target(section)
        for paragraph in (parser.description or "").split("\n\n"):
            section += nodes.paragraph("", "", *_marked(" ".join(paragraph.split())))
        section += _code(_usage(parser), "text")
        for group in parser._action_groups:
            actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
            actions = [a for a in actions if not isinstance(a, argparse._HelpAction)]
            if actions:
                section += nodes.rubric(text=(group.title or "").capitalize())
                section += nodes.definition_list("", *(_option(parser, a) for a in actions))
        if parser.epilog:
            section += nodes.rubric(text="Examples")
            examples = parser.epilog.removeprefix("examples:\n").splitlines()
            section += _code("\n".join(line.strip() for line in examples), "bash")
        return section


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command; one that only groups others is left to them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _leaves(command)
            return
    yield parser


def _usage(parser: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(parser.prog, width=COLUMNS)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().strip()


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> nodes.definition_list_item:
    formatter = parser._get_formatter()
    text = formatter._expand_help(action) if action.help else ""
    term = nodes.term("", "", nodes.literal(text=formatter._format_action_invocation(action)))
    return nodes.definition_list_item(
        "", term, nodes.definition("", nodes.paragraph("", "", *_marked(text)))
    )


def _code(text: str, language: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language=language)


def _marked(text: str) -> list[nodes.Node]:
    """Text with `code` in single backticks, and options, which are code as they stand."""
    parts = re.split(r"(`[^`]+`|(?<![\w-])--[a-z][\w-]*)", text)
    return [
        nodes.literal(text=part.strip("`")) if i % 2 else nodes.Text(part)
        for i, part in enumerate(parts)
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
