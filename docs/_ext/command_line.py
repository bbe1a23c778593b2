"""The pages of the command line, made of the parsers that read it: usage, arguments, options, examples.

``{commands}`` makes a section for each command. Each option gets an entry in the index and an anchor such as
``cmdoption-im2colnet-train-epochs``, and other pages link it as ``{option}`im2colnet train --epochs```.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id

from im2colnet.cli.command_line import make_parser

#: more choices than these are listed after the help, and not in the place of the value
FEW = 4
#: the columns of a block of text
WIDTH = 75
#: of the second and the following lines of a command
INDENT = "    "
#: titles of groups as argparse gives them, and what the page says
TITLES = {"positional arguments": "Arguments", "options": "Options"}


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, in the order of the help."""
    (found,) = (a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


def value(action: argparse.Action) -> str:
    """Return what stands for the values of an argument, such as ``FILE...``; empty for a switch."""
    if action.nargs == 0:
        return ""
    name = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    if action.choices and not action.metavar:
        choices = [str(choice) for choice in action.choices]
        name = "|".join(choices) if len(choices) <= FEW else "NAME"
    return {"+": f"{name}...", "*": f"[{name}...]", "?": f"[{name}]"}.get(str(action.nargs), str(name))


def words(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Return the help of an argument as sentences."""
    text = " ".join(parser._get_formatter()._expand_help(action).split())
    if action.choices and not action.metavar and len([*action.choices]) > FEW:
        text += f"; one of {', '.join(map(str, action.choices))}"
    first = text.partition(" ")[0]
    return f"{text if first.endswith(',') else text[:1].upper() + text[1:]}."  # a list of names stays as it is


def paragraph(text: str) -> nodes.paragraph:
    """Return a paragraph whose options, and words between backticks, are code. In code the dashes of an option stay."""
    pieces = re.split(r"(`[^`]+`|(?<![\w-])--[a-z][a-z-]*)", text)
    made = [
        nodes.literal("", piece.strip("`")) if number % 2 else nodes.Text(piece) for number, piece in enumerate(pieces)
    ]
    return nodes.paragraph("", "", *made)


class CommandDirective(SphinxDirective):
    """The body of a command's section."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the description, the usage, a list for each group of arguments, and the examples."""
        name = self.arguments[0]
        parser = parsers()[name]
        usage = " ".join(parser.format_usage().removeprefix("usage:").split())
        about = parser.description or ""
        if parser.get_default("collective"):
            about += " Under mpiexec all ranks do the work together."
        found: list[nodes.Node] = [paragraph(about), literal(usage, "text")]
        for group in parser._action_groups:
            actions = [
                action
                for action in group._group_actions
                if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS
            ]
            if not actions:
                continue
            title = group.title or ""
            found.append(nodes.rubric("", TITLES.get(title, title.capitalize())))
            if group.description:
                found.append(paragraph(group.description))
            items = [self.entry(name, action, parser) for action in actions]
            found.append(nodes.definition_list("", *items, classes=["options"]))
        return [*found, *self.epilog(parser)]

    def entry(self, command: str, action: argparse.Action, parser: argparse.ArgumentParser) -> nodes.Node:
        """Make the entry of an argument."""
        shown = value(action)
        term = nodes.term()
        if action.option_strings:
            for spelling in action.option_strings:
                self.make_known(command, spelling, term)
            term += nodes.literal("", f"{', '.join(action.option_strings)} {shown}".rstrip())
        else:
            term += nodes.literal("", shown)
        text = nodes.definition("", paragraph(words(action, parser)))
        return nodes.definition_list_item("", term, text)

    def make_known(self, command: str, option: str, term: nodes.term) -> None:
        """Let the index, the search and links find an option."""
        program = f"im2colnet-{command}"
        anchor = make_id(self.env, self.state.document, f"cmdoption-{program}", option.lstrip("-"))
        term["ids"].append(anchor)
        domain = self.env.domains.standard_domain
        domain.add_program_option(program, option, self.env.docname, anchor)
        domain.note_object("cmdoption", f"{program}.{option}", anchor, location=term)

    def epilog(self, parser: argparse.ArgumentParser) -> list[nodes.Node]:
        """Make the examples, and what follows them as it stands in the terminal."""
        examples, _, more = (parser.epilog or "").removeprefix("examples:\n").partition("\n\n")
        lines = "\n".join(broken(line.removeprefix("  ")) for line in examples.splitlines())
        found: list[nodes.Node] = [nodes.rubric("", "Examples"), literal(lines, "console")]
        return [*found, literal("\n".join(map(folded, more.splitlines())), "text")] if more else found


def broken(command: str) -> str:
    """Return a long command on several lines, which begin with an option."""
    cut = command.rfind(" --", len(INDENT), WIDTH)
    return command if len(command) <= WIDTH or cut < 0 else f"{command[:cut]} \\\n{broken(INDENT + command[cut + 1 :])}"


def folded(line: str) -> str:
    """Return a long line on several lines, which begin where its second column does."""
    names = re.match(r"\s*\S+( \S+)*\s{2,}|\s*", line)
    indent = " " * (names.end() if names else 0)
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def literal(text: str, language: str) -> nodes.literal_block:
    """Make a block of text as it stands."""
    return nodes.literal_block(text, text, language=language)


class CommandsDirective(SphinxDirective):
    """A section for each command."""

    def run(self) -> list[nodes.Node]:
        """Parse a title and the directive of each command."""
        lines = [line for name in parsers() for line in (f"## {name}", "", f"```{{command}} {name}", "```", "")]
        node: Any = nodes.Element()
        self.state.nested_parse(StringList(lines, "command_line.py"), 0, node, match_titles=True)
        return list(node.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("commands", CommandsDirective)
    app.add_directive("command", CommandDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
