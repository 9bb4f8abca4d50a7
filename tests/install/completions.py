#!/usr/bin/env python3
"""Asks bash, zsh and fish themselves what they would complete, with farswap's files as they are installed.

Usage: completions.py FOLDER FARSWAP        FOLDER holds bash/farswap, zsh/_farswap and fish/farswap.fish
"""
import json
import os
import pathlib
import pty
import shlex
import subprocess
import sys
import tempfile

TIME_MAX_S = 30


class Bash:
    """`words` is the line as bash cuts it: at blanks, and at '=' and ':', which are words of their own."""

    def __init__(self, file, with_package):
        self.name = "bash with bash-completion" if with_package else "bash"
        package = "/usr/share/bash-completion/bash_completion"
        self.setup = f". {package}\n" if with_package else ""
        self.setup += f". {shlex.quote(str(file))}\n"

    def complete(self, line):
        words = [word for part in line.split(" ") for word in cut(part)]
        listed = " ".join(shlex.quote(word) for word in words)
        script = (f"{self.setup}COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}\n"
                  f"COMP_LINE={shlex.quote(line)}; COMP_POINT={len(line)}\n"
                  "compopt() { :; }\n_farswap farswap\nprintf '%s\\n' \"${COMPREPLY[@]}\"")
        done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=TIME_MAX_S)
        if done.stderr:
            raise AssertionError(f"{self.name}, {line!r}: {done.stderr}")
        return set(done.stdout.split("\n")) - {""}


def cut(part):
    words, word = [], ""
    for letter in part:
        if letter in "=:":
            words += [word, letter] if word else [letter]
            word = ""
        else:
            word += letter
    return words + [word] if word or not words else words


class Fish:
    name = "fish"

    def __init__(self, file, home):
        self.file = file
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home)}

    def complete(self, line):
        script = f"source {shlex.quote(str(self.file))}; complete -C {shlex.quote(line)}"
        done = subprocess.run(["fish", "-c", script], capture_output=True, text=True, timeout=TIME_MAX_S,
                              env=self.environment)
        if done.stderr:
            raise AssertionError(f"fish, {line!r}: {done.stderr}")
        return {row.split("\t")[0] for row in done.stdout.splitlines()}


class Zsh:
    """Its completion works at a prompt only: a shell on a pseudo-terminal, which tells a pipe what is added to the list."""
    name = "zsh"
    RC = r"""
fpath=($FARSWAP_FOLDER $fpath)
autoload -Uz compinit && compinit -u -D
exec 9>$FARSWAP_PIPE
LISTMAX=100000
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    (( $#hits )) && print -rl -u9 -- $hits
    builtin compadd "$@"
}
tell() { zle list-choices; print -u9 END; zle kill-buffer }
zle -N tell
bindkey '^I' tell
"""

    def __init__(self, file, folder):
        (folder / ".zshrc").write_text(self.RC)
        pipe = folder / "pipe"
        os.mkfifo(pipe)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "ZDOTDIR": str(folder), "TERM": "dumb",
                       "FARSWAP_FOLDER": str(file.parent), "FARSWAP_PIPE": str(pipe)}
        self.shell, self.terminal = pty.fork()
        if self.shell == 0:
            os.execvpe("zsh", ["zsh", "-i"], environment)
        self.answers = open(pipe)

    def complete(self, line):
        os.write(self.terminal, line.encode() + b"\t")
        hits = set()
        for answer in self.answers:
            if answer == "END\n":
                return hits
            hits.add(answer.rstrip("\n"))
        raise AssertionError(f"zsh, {line!r}: it ended")

    def close(self):
        os.close(self.terminal)
        self.answers.close()
        os.waitpid(self.shell, 0)


def check(shell, line, wanted, unwanted=()):
    """0, or 1 and a line that says what is wrong."""
    # What stands before the cursor within a word may be shown or not: --on-full=stop, stop.
    hits = {hit.rpartition("=")[2] if hit.startswith("--") and "=" in hit[:-1] else hit for hit in shell.complete(line)}
    hits = {hit.rstrip("= ") for hit in hits}
    missing, surplus = set(wanted) - hits, set(unwanted) & hits
    if missing or surplus:
        print(f"{shell.name}: {line!r} lacks {sorted(missing)} and should not have {sorted(surplus)}; "
              f"it has {sorted(hits)[:20]}")
    return bool(missing or surplus)


def check_all(shell, described, scratch):
    commands = [entry["syntax"] for entry in described["commands"]]
    names = [command["name"] for command in commands]
    failed = check(shell, "farswap ", names)
    failed += check(shell, "farswap att", ["attach"], ["run"])
    for command in commands:
        options = [name for option in command["options"] for name in option["names"] if name.startswith("--")]
        failed += check(shell, f"farswap {command['name']} --", options)
    failed += check(shell, "farswap run --on-full ", ["wait", "stop"], ["lz4", "--ram"])
    failed += check(shell, "farswap run --ram 1G --compress z", ["zstd"], ["lz4", "off"])
    failed += check(shell, "farswap run --compress=", ["zstd", "lz4", "off"], ["wait"])
    process = str(os.getpid())
    for command in ("detach", "attach", "set", "core", "resume"):
        failed += check(shell, f"farswap {command} ", [process])
    # What `size` takes is a process or a program; behind -- it is a program, as with `run` always.
    failed += check(shell, f"farswap size {process[0]}", [process])
    failed += check(shell, f"farswap size --json {process[0]}", [process])
    failed += check(shell, "farswap size mkdi", ["mkdir"], [process])
    failed += check(shell, "farswap size --ram 1G -- mkdi", ["mkdir"])
    failed += check(shell, f"farswap size -- {process[0]}", [], [process])
    failed += check(shell, f"farswap run {process[0]}", [], [process])
    file = "some_file" if shell.name == "zsh" else f"{scratch}/some_file"
    failed += check(shell, f"farswap core -o {scratch}/some", [file])
    # A program's own words, and its arguments, are no business of farswap's.
    failed += check(shell, "farswap run --ram 1G mkdi", ["mkdir"], ["--swap"])
    failed += check(shell, "farswap run -- mkdi", ["mkdir"])
    failed += check(shell, "farswap run mkdir --", [] if shell.name == "bash" else ["--parents"], ["--ram", "--swap"])
    failed += check(shell, "farswap top --once --", ["--json"])
    folder = {"fish": "file:/usr/", "zsh": "usr"}.get(shell.name, "/usr")
    failed += check(shell, "farswap check file:/us", [folder])
    return failed


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1]).resolve()
    described = json.loads(subprocess.run([sys.argv[2], "--help-json"], capture_output=True, check=True).stdout)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "some_file").touch()
        zsh = Zsh(folder / "zsh" / "_farswap", scratch)
        for shell in (Bash(folder / "bash" / "farswap", False), Bash(folder / "bash" / "farswap", True),
                      zsh, Fish(folder / "fish" / "farswap.fish", scratch)):
            try:
                wrong = check_all(shell, described, scratch)
            except AssertionError as error:
                print(error)
                wrong = 1
            print(f"{shell.name}: {wrong} failed")
            failed += wrong
        zsh.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
