#!/usr/bin/env python3
"""Checks rules of the source tree that no compiler checks. Knows the layers' names and order; nothing of what they do.

Usage: check_source.py layers|style|documents ROOT        prints one line a violation, exits 1 when there is one
"""
import pathlib
import re
import sys

# Each may include itself and what stands before it.
LAYERS = ["base", "keeper", "page", "io", "store", "swap", "target", "memory", "pager", "cli", "daemon"]
# What the order alone would allow: a target is one managed process and knows no slots and no stores.
# The helper of ordinary users is small, and shares with the pager only how they talk.
FORBIDDEN_LAYERS = {"target": {"store", "swap"}, "daemon": {"page", "io", "store", "swap", "memory", "pager"},
                    # The other pager is another library.
                    "pager": {"memory"}, "cli": {"memory"}}
# What of a layer may be included where the rest of it may not.
ONLY_HEADERS = {("daemon", "target"): {"target/helper_protocol.h", "target/uapi.h"},
                ("daemon", "cli"): {"cli/share_protocol.h"}}
# System interfaces that belong to one layer. A second user would mean that a layer knows what it must not know.
OWNED_HEADERS = {
    "liburing.h": {"io"},
    "libnbd.h": {"store"},
    # The command line tries out what the machine allows, for `farswap check`.
    "linux/userfaultfd.h": {"target", "cli"},
    "sys/ptrace.h": {"keeper", "target", "cli"},
    "CLI/": {"cli"},
    "toml++/": {"daemon"},
}
FOLDERS = ["include", "src", "tests", "bench", "examples", "script", "cmake", "docs"]
CODE = {".h", ".c", ".cpp", ".S", ".py", ".sh", ".cmake", ".md", ".js", ".css", ""}
LINES_MAX = 600
# Written in two halves so that this file passes its own check.
UNFINISHED = re.compile("|".join([r"\bTO" r"DO\b", r"\bFIX" r"ME\b", r"\bXX" r"X\b", r"\bHA" r"CK\b", "not " "implemented"]))
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def code_files(root):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in CODE and "__pycache__" not in path.parts:
                yield path


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def layer_violation(layer, quoted, target):
    """Why `layer` may not include `target`, or None."""
    for prefix, owners in OWNED_HEADERS.items():
        if target.startswith(prefix) and layer not in owners:
            return f"<{target}> belongs to {' and '.join(sorted(owners))}"
    if not quoted or target.startswith("farswap/") or "/" not in target:
        return None
    other = target.split("/")[0]
    if other not in LAYERS:
        return f'"{target}" is in no layer'
    if LAYERS.index(other) > LAYERS.index(layer):
        return f'"{target}" is above {layer}'
    if other in FORBIDDEN_LAYERS.get(layer, ()):
        return f"{layer} may know nothing of {other}"
    if target not in ONLY_HEADERS.get((layer, other), {target}):
        return f"{layer} may know of {other} only {' and '.join(sorted(ONLY_HEADERS[layer, other]))}"
    return None


def check_layers(root):
    for path in sorted((root / "src").rglob("*")):
        if path.suffix not in {".h", ".c", ".cpp", ".S"}:
            continue
        layer = path.relative_to(root / "src").parts[0]
        if layer not in LAYERS:
            yield f"{path.relative_to(root)}: not in a layer's folder"
            continue
        for number, quoted, target in includes(path):
            why = layer_violation(layer, quoted, target)
            if why:
                yield f"{path.relative_to(root)}:{number}: {why}"
    for path in sorted((root / "include").rglob("*.h")):
        for number, quoted, target in includes(path):
            if quoted and not target.startswith("farswap/"):
                yield f'{path.relative_to(root)}:{number}: "{target}" is not public, and this header is'


def check_style(root):
    for path in code_files(root):
        name = path.relative_to(root)
        lines = path.read_text().splitlines()
        if len(lines) > LINES_MAX:
            yield f"{name}: {len(lines)} lines, more than {LINES_MAX}: it has more than one job"
        if path.suffix == ".h" and lines and not lines[0].startswith(("//", "/*")):
            yield f"{name}:1: a header begins with a comment that says what it does"
        for number, line in enumerate(lines, 1):
            if UNFINISHED.search(line):
                yield f"{name}:{number}: unfinished: {line.strip()}"


def named_after(word, text):
    """`a`, `b` behind a word: "scenario `a`", "Checks `a`, `b`"."""
    for names in re.findall(rf"\b[{word[0].upper()}{word[0]}]{word[1:]}s?((?:[\s,]+`\w+`)+)", text):
        yield from re.findall(r"\w+", names)


def missing_tests(root, text):
    """What a document names and the tests have not: `Suite.Case`, scenarios, checks of tests/e2e, C tests."""
    tests = "\n".join(path.read_text() for path in sorted((root / "tests").rglob("*.cpp")))
    for suite, case in re.findall(r"`([A-Z]\w*)\.([A-Z]\w*)`", text):
        if not re.search(rf"^TEST\w*\({suite}, {case}\)", tests, re.M):
            yield f"there is no test {suite}.{case}"
    for name in named_after("scenario", text):
        if name != "x" and not (root / f"tests/workloads/{name}.cpp").exists():
            yield f"there is no scenario {name}"
    sources = {"check": ("tests/e2e/*.py", r"^def {}\("), "C test": ("tests/*/*.c", r"^static void {}\(void\)")}
    for word, (files, pattern) in sources.items():
        code = "\n".join(path.read_text() for path in sorted(root.glob(files)))
        for name in named_after(word, text):
            if not re.search(pattern.format(name), code, re.M):
                yield f"there is no {word} {name}"


def check_documents(root):
    """Links lead somewhere, and every test that the kernel facts and the contract of the pins name exists."""
    for path in sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "tests").rglob("*.md")]):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            if not (path.parent / target).exists():
                yield f"{path.relative_to(root)}: the link to {target} leads nowhere"
    for name in ("docs/kernel-facts.md", "docs/pinning.md"):
        if (root / name).exists():
            for missing in missing_tests(root, (root / name).read_text()):
                yield f"{name}: {missing}"


def main():
    checks = {"layers": check_layers, "style": check_style, "documents": check_documents}
    if len(sys.argv) != 3 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    violations = list(checks[sys.argv[1]](pathlib.Path(sys.argv[2]).resolve()))
    print("\n".join(violations) or "clean")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
