#!/usr/bin/env python3
"""Writes the completions of bash, zsh and fish, from what the programs tell of their command lines.

Usage: completions.py COMMAND_LINE.json FARSWAPD_HELP FOLDER       bash/farswap, zsh/_farswap, fish/farswap.fish and farswapd's
"""
import pathlib
import re
import sys

import words

HERE = pathlib.Path(__file__).parent


def short(help_text):
    """The first sentence, for one line of a menu."""
    first = re.split(r"[.;] ", help_text.rstrip("."))[0]
    return first if first.count("(") == first.count(")") else help_text


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def patterns(names):
    return "|".join(names)


# bash: two tables, what is offered and what an option's value is; the rest does not depend on the options.

def bash_tables(commands):
    options, values, programs = [], [], []
    for command in commands:
        names = " ".join(name for option in command.options for name in option.names)
        options.append(f"        {command.name}) echo {quoted(names)} ;;")
        for option in command.options:
            if option.value:
                keys = patterns(f"{command.name}:{name}" for name in option.names)
                values.append(f"        {keys}) echo {quoted(bash_kind(option.value))} ;;")
        for argument in command.arguments:
            values.append(f"        {command.name}:) echo {quoted(bash_kind(argument.value))} ;;")
        if command.runs_a_program:
            programs.append(command.name)
    return options, values, programs


def bash_kind(value):
    """FILE, URL and PID as they are; else the words to choose from, which may be none."""
    return value if value in ("FILE", "URL", "PID") else "words " + " ".join(words.choices(value))


def bash(name, commands, has_commands):
    options, values, programs = bash_tables(commands)
    text = (HERE / "completion.bash").read_text()
    for key, value in {"@NAME@": name,
                       "@COMMANDS@": " ".join(command.name for command in commands) if has_commands else "",
                       "@OPTIONS@": "\n".join(options), "@VALUES@": "\n".join(values),
                       "@PROGRAMS@": " ".join(programs),
                       "@PROCESSES@": " ".join(command.name for command in commands if command.may_be_given_a_process),
                       }.items():
        text = text.replace(key, value)
    return text


# zsh: _arguments knows how options are written, and needs a line for each.

def zsh_escaped(text):
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def zsh_action(value):
    fixed = words.choices(value)
    actions = {"FILE": "_files", "URL": "_farswap_url", "PID": "_farswap_pid"}
    action = f"({' '.join(word.replace(':', chr(92) + ':') for word in fixed)})" if fixed else actions.get(value, " ")
    return f"{zsh_escaped(value)}:{action}"


def zsh_arguments(command):
    lines = []
    for option in command.options:
        text = f"[{zsh_escaped(short(option.help))}]" + (f":{zsh_action(option.value)}" if option.value else "")
        exclude = "" if option.repeats else "(" + " ".join(option.names) + ")"
        for name in option.names:
            written = name + ("=" if option.value and name.startswith("--") else "")
            lines.append(quoted(f"{'*' if option.repeats else ''}{exclude}{written}{text}"))
    if command.runs_a_program:
        first = "program or process:_farswap_program_or_pid" if command.may_be_given_a_process else "program: _command_names -e"
        lines += [quoted(f"(-)1:{first}"), quoted("*::argument:_normal")]
    lines += [quoted(("*" if argument.repeats else "") + f":{zsh_action(argument.value)}") for argument in command.arguments]
    return " \\\n        ".join(["_arguments -s -S"] + lines)


def zsh(name, commands, has_commands):
    out = [f"#compdef {name}\n# Completion of zsh for {name}.\n"]
    if not has_commands:
        return out[0] + "\n" + zsh_arguments(commands[0]) + "\n"
    out.append("""_farswap_url() {
    if compset -P 'file:'; then
        _files
    else
        compadd -S '' -- file: nfs:// nbd:// none
    fi
}

_farswap_pid() {
    local -a processes=(/proc/<->(N:t))
    _wanted processes expl process compadd -a processes
}

_farswap_program_or_pid() {
    # Behind -- it is a program.
    if (( words[(i)--] < CURRENT )); then
        _command_names -e
    else
        _alternative 'processes:process:_farswap_pid' 'commands:program: _command_names -e'
    fi
}
""")
    for command in commands:
        out.append(f"_farswap_{command.name}() {{\n    {zsh_arguments(command)}\n}}\n")
    listed = "\n".join(f"        {quoted(command.name + ':' + command.summary)}" for command in commands)
    cases = "\n".join(f"        {command.name}) _farswap_{command.name} ;;" for command in commands)
    out.append(f"""_farswap() {{
    local curcontext=$curcontext state line
    local -a farswap_commands=(
{listed}
    )
    _arguments -C '(- *)'{{-h,--help}}'[the commands]' '(- *)--version[the version]' '1: :->command' '*:: :->words' && return
    case $state in
        command) _describe command farswap_commands ;;
        words) curcontext=${{curcontext%:*}}-$line[1]: ; case $line[1] in
{cases}
        esac ;;
    esac
}}

_farswap "$@"
""")
    return "\n".join(out)


# fish: a line for each option, with the condition under which it is offered.

def fish_option(name, option, condition):
    line = f"complete -c {name}" + (f" -n {quoted(condition)}" if condition else "")
    for word in option.names:
        line += f" -l {word[2:]}" if word.startswith("--") else f" -s {word[1:]}"
    fixed = words.choices(option.value)
    if option.value == "FILE":
        line += " -rF"
    elif option.value == "URL":
        line += " -xa '(__farswap_urls)'"
    elif fixed:
        line += f" -xa {quoted(' '.join(fixed))}"
    elif option.value:
        line += " -x"
    return line + f" -d {quoted(short(option.help))}"


def fish(name, commands, has_commands):
    if not has_commands:
        lines = [f"# Completion of fish for {name}.", f"complete -c {name} -f"]
        return "\n".join(lines + [fish_option(name, option, "") for option in commands[0].options]) + "\n"
    with_value = {command.name: [word for option in command.options if option.value for word in option.names]
                  for command in commands if command.runs_a_program}
    cases = "\n".join(f"        case {command}\n            set with_value {' '.join(names)}"
                      for command, names in with_value.items())
    text = (HERE / "completion.fish").read_text().replace("@CASES@", cases).replace("@PROGRAMS@", " ".join(with_value))
    lines = []
    for command in commands:
        lines.append(f"complete -c farswap -n __farswap_no_command -a {command.name} -d {quoted(command.summary)}")
    for command in commands:
        condition = f"__farswap_options_of {command.name}"
        lines += [fish_option("farswap", option, condition) for option in command.options]
        taken = [argument.value for argument in command.arguments] + ["PID"] * command.may_be_given_a_process
        for value in taken:
            offered = {"URL": "(__farswap_urls)", "PID": "(__fish_complete_pids)"}.get(value)
            if offered:
                lines.append(f"complete -c farswap -n {quoted(condition)} -xa {quoted(offered)}")
    return text + "\n".join(lines) + "\n"


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    farswap = words.of_farswap(pathlib.Path(sys.argv[1]).read_text())
    farswapd = words.of_farswapd(pathlib.Path(sys.argv[2]).read_text())
    for shell, write, pattern in (("bash", bash, "{}"), ("zsh", zsh, "_{}"), ("fish", fish, "{}.fish")):
        folder = pathlib.Path(sys.argv[3]) / shell
        folder.mkdir(parents=True, exist_ok=True)
        (folder / pattern.format("farswap")).write_text(write("farswap", farswap.commands, True))
        (folder / pattern.format("farswapd")).write_text(write("farswapd", [farswapd], False))


if __name__ == "__main__":
    main()
