"""What farswap and farswapd say of their own command lines, as objects. Knows nothing of pages and shells."""
import dataclasses
import json
import re


@dataclasses.dataclass
class Option:
    names: list[str]      # "-q", "--quiet"
    value: str            # "SIZE|PERCENT"; empty for a flag
    help: str
    repeats: bool = False

    @property
    def long(self):
        return self.names[-1]


@dataclasses.dataclass
class Argument:
    value: str            # "PID"
    help: str
    repeats: bool


@dataclasses.dataclass
class Command:
    name: str             # "run"; of a program without commands, the program
    summary: str          # half a line
    help: str             # some sentences
    usage: list[str]      # each begins with the program's name
    options: list[Option]
    arguments: list[Argument]

    @property
    def runs_a_program(self):
        """Whether what follows the options is another program's command line."""
        return any(line.endswith(" [ARGUMENT]...") for line in self.usage)

    @property
    def may_be_given_a_process(self):
        """Whether the number of a process may stand in that program's place."""
        return self.runs_a_program and any(line.endswith(" PID") for line in self.usage)


@dataclasses.dataclass
class Program:
    version: str
    help: str
    commands: list[Command]


def of_farswap(text):
    """From `farswap --help-json`."""
    said = json.loads(text)
    commands = []
    for entry in said["commands"]:
        syntax = entry["syntax"]
        options = [Option(**option) for option in syntax["options"]]
        options.sort(key=lambda option: option.long == "--help")
        commands.append(Command(syntax["name"], entry["summary"], syntax["help"], syntax["usage"], options,
                                [Argument(**argument) for argument in syntax["arguments"]]))
    return Program(said["version"], said["help"], commands)


def of_farswapd(text):
    """From `farswapd --help`: a paragraph, an empty line, a line for each option; the last one lists those without a value."""
    paragraph, _, lines = text.partition("\n\n")
    options = []
    for line in lines.splitlines():
        words = re.fullmatch(r"  (--[a-z-]+) ([A-Z]+)\s{2,}(.+)", line)
        if words:
            options.append(Option([words[1]], words[2], words[3], "several times" in words[3]))
        else:
            options += [Option([name], "", "Print this and exit") for name in re.findall(r"--[a-z-]+", line)]
    if not any(option.value for option in options):
        raise ValueError("farswapd --help shows no option with a value")
    help_text = " ".join(paragraph.partition(": ")[2].split())
    return Command("farswapd", "hand out what ordinary users of farswap lack", help_text,
                   ["farswapd [OPTIONS]"], options, [])


def choices(value):
    """What may stand for "wait|stop:SECONDS", as far as it is fixed: ["wait", "stop:"]. Capitals stand for anything."""
    fixed = [re.match(r"[a-z0-9.]+:?", word) for word in value.split("|")]
    return [match[0] for match in fixed if match]
