#!/usr/bin/env python3
"""Writes the manual pages: synopsis and options as the programs tell them, the prose as docs/commands.md has it.

Usage: pages.py COMMAND_LINE.json FARSWAPD_HELP COMMANDS.md FOLDER       FOLDER/man1/farswap.1 and so on; needs go-md2man
"""
import datetime
import os
import pathlib
import re
import subprocess
import sys

import words

MANUAL = "Farswap Manual"
CODE = re.compile(r"(`+)(.+?)\1")
LINK = re.compile(r"\[([^\]]+)\]\(([^)]*)\)")


class Section:
    """A part of docs/commands.md below a heading of the second level."""

    def __init__(self, title, text):
        self.title = title
        head, *rest = re.split(r"^### (.+)\n", text, flags=re.M)
        self.body = head
        self.parts = list(zip(rest[::2], rest[1::2]))  # (heading, text)


def sections_of(document):
    """The text before the first heading, and all sections."""
    head, *rest = re.split(r"^## (.+)\n", document, flags=re.M)
    return head.partition("\n")[2], [Section(title, text) for title, text in zip(rest[::2], rest[1::2])]


def belongs_to(section, name):
    return re.match(rf"`(farswap )?{name}\b", section.title) is not None


def cells(row):
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip())[1:-1]]


def tables_of(text):
    """Splits into pairs: a piece of text, and its rows of cells if it is a table, else None."""
    for table, other in re.findall(r"((?:^\|.*\n)+)|((?:^(?!\|).*\n)+)", text, flags=re.M):
        rows = [cells(row) for row in table.splitlines()]
        yield table or other, [rows[0]] + rows[2:] if rows else None


def escaped(text):
    return re.sub(r"([\\`*_{}\[\]()#+\-.!<>|~])", r"\\\1", text)


def inline(text):
    """Code in bold, which is how manual pages show what is typed; links without their targets."""
    def link(match):
        return match[1] + (" **farswapd**(8)" if match[2] == "#farswapd" else "")
    def bold(match):
        before, word, after = re.fullmatch(r"(\s*)(.*?)(\s*)", match[2]).groups()
        return f"{before}**{escaped(word)}**{after}"
    return CODE.sub(bold, LINK.sub(link, text))


def definition(header, row):
    """A row of a table as an entry of a list: the first cell, and what the others say of it."""
    if len(row) == 2:
        meaning = inline(row[1])
    else:
        meaning = "; ".join(f"{inline(name)}: {inline(cell)}" for name, cell in zip(header[1:], row[1:]) if cell)
    return f"\n{inline(row[0])}\n: {meaning}\n"


def prose(text):
    """Markdown as go-md2man wants it. What stands in fences is left alone, tables become lists, pictures go."""
    out = []
    text = re.sub(r"^!\[[^\]]*\]\([^)]*\)\n", "", text, flags=re.M)
    for fence in re.split(r"(^```\n.*?^```\n)", text, flags=re.M | re.S):
        if fence.startswith("```"):
            out.append("\n" + fence + "\n")
            continue
        for text, rows in tables_of(fence):
            if rows is None:
                out.append(inline(text))
            else:
                out += [definition(rows[0], row) for row in rows[1:]]
    return "".join(out)


def is_option_table(rows):
    return rows is not None and rows[0][0] == "option" and any(row[0].startswith("`-") for row in rows[1:])


def option_texts(sections):
    """What the tables of options say, by long name."""
    texts = {}
    for section in sections:
        for _, rows in tables_of(section.body):
            if is_option_table(rows):
                texts |= {re.findall(r"--?[a-z][a-z-]*", term)[-1]: meaning for term, meaning in rows[1:]}
    return texts


def options_list(command, texts):
    out = ["## OPTIONS\n"]
    for option in command.options:
        value = f" *{escaped(option.value)}*" if option.value else ""
        names = ", ".join(f"**{escaped(name)}**" for name in option.names)
        out.append(f"{names}{value}\n: {inline(texts.get(option.long, option.help))}\n")
    return "\n".join(out) + "\n"


def synopsis(lines, program):
    def styled(line):
        fixed, rest = re.match(rf"({program}(?: [a-z]+)?)(.*)", line).groups()
        rest = re.sub(r"[A-Z]{2,}", lambda word: f"*{word[0]}*", re.sub(r"([\[\]<|\-])", r"\\\1", rest))
        return f"**{fixed}**{rest}"
    return "## SYNOPSIS\n\n" + "\n\n".join(styled(line) for line in lines) + "\n"


def description(command, sections, texts):
    """The section's text, its table of options replaced by what the program itself lists."""
    before, after, seen = [], [], False
    for section in sections:
        if section is not sections[0]:
            before.append(f"\n### {section.title}\n")
        for text, rows in tables_of(section.body):
            if is_option_table(rows):
                seen = True
            else:
                (after if seen else before).append(text)
    # Fences hold no tables, and text is joined again before it is split by them.
    text = "## DESCRIPTION\n\n" + prose("".join(before)) + "\n" + options_list(command, texts) + prose("".join(after))
    for section in sections:
        for heading, part in section.parts:
            text += f"\n## {heading.upper()}\n\n{prose(part)}"
    return text


def see_also(names):
    pages = ", ".join(f"**{name}**({section})" for name, section in names)
    return (f"\n## SEE ALSO\n\n{pages}\n\nThe documents of farswap, in *share/doc/farswap* of the installation: "
            "stores.md, stats.md, metrics.md, containers.md, pinning.md\n")


def roff(title, section, date, version, markdown):
    """Through go-md2man, without what mandoc's check finds superfluous in its output."""
    head = f'# {title.upper()} {section} "{date}" "farswap {version}" "{MANUAL}"\n\n'
    text = subprocess.run(["go-md2man"], input=head + markdown, text=True, capture_output=True, check=True).stdout
    text = re.sub(r"^(\.S[HS] .*\n)\.PP\n", r"\1", text, flags=re.M)
    return re.sub(r"[ \t]+$", "", text, flags=re.M)


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    farswap = words.of_farswap(pathlib.Path(sys.argv[1]).read_text())
    farswapd = words.of_farswapd(pathlib.Path(sys.argv[2]).read_text())
    document = pathlib.Path(sys.argv[3])
    head, sections = sections_of(document.read_text())
    # The same pages from the same source: https://reproducible-builds.org/specs/source-date-epoch
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", document.stat().st_mtime))
    date = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).date()

    def write(name, section, markdown):
        folder = pathlib.Path(sys.argv[4]) / f"man{section}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.{section}").write_text(roff(name, section, date, farswap.version, markdown))

    names = [("farswap", 1), *[(f"farswap-{command.name}", 1) for command in farswap.commands], ("farswapd", 8)]
    common = option_texts([section for section in sections if belongs_to(section, "run")])
    for command in [*farswap.commands, farswapd]:
        page = command.name if command is farswapd else f"farswap-{command.name}"
        own = [section for section in sections if belongs_to(section, command.name)]
        if not own:
            sys.exit(f"pages.py: {sys.argv[3]} has no section on {page}; begin one with: ## `{command.usage[0]}`")
        texts = {**(common if command.name == "attach" else {}), **option_texts(own)}
        unknown = set(option_texts(own)) - {option.long for option in command.options}
        if unknown:
            sys.exit(f"pages.py: {page} has no {', '.join(sorted(unknown))}, and {sys.argv[3]} tells of it")
        write(page, 8 if command is farswapd else 1,
              f"## NAME\n\n{page} \\- {command.summary}\n\n"
              + synopsis(command.usage, command.name if command is farswapd else "farswap")
              + "\n" + description(command, own, texts) + see_also([name for name in names if name[0] != page]))
    commands = "".join(f"\n**farswap-{command.name}**(1)\n: {command.summary}\n" for command in farswap.commands)
    rest = "".join(f"\n## {section.title.upper()}\n\n{prose(section.body)}"
                   for section in sections if "`" not in section.title)
    write("farswap", 1,
          "## NAME\n\nfarswap \\- run a program that needs more memory than the machine has\n\n"
          + synopsis(["farswap COMMAND [OPTIONS]...", "farswap COMMAND --help", "farswap --version"], "farswap")
          + f"\n## DESCRIPTION\n\n{farswap.help}\n\n{prose(head)}\n## COMMANDS\n{commands}{rest}" + see_also(names[1:]))


if __name__ == "__main__":
    main()
