"""Makes a page that looks as a terminal does, of what `tmux capture-pane -e -p` prints: colours, bold, reverse, dim. Reads
standard input, writes standard output. Knows only the escape sequences that tmux writes there (SGR, ECMA-48 8.3.117).
"""
import html
import re
import sys

COLOURS = ["#1c2128", "#ff7b72", "#56d364", "#e3b341", "#79b8ff", "#d2a8ff", "#39c5cf", "#d0d7de"]
TEXT, PAGE = "#d0d7de", "#0f1318"


def colour_of(number):
    """Of the 256: the first sixteen twice eight, a cube of six, greys."""
    if number < 16:
        return COLOURS[number % 8]
    if number < 232:
        levels = [0, 95, 135, 175, 215, 255]
        return "#%02x%02x%02x" % tuple(levels[(number - 16) // step % 6] for step in (36, 6, 1))
    return "#%02x%02x%02x" % ((8 + 10 * (number - 232),) * 3)


def apply(codes, style):
    codes = [int(code or 0) for code in codes.split(";")]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style.clear()
        elif code in (1, 2, 7):
            style[{1: "bold", 2: "dim", 7: "reverse"}[code]] = True
        elif code in (38, 48) and codes[:1] == [5]:
            style["text" if code == 38 else "page"] = colour_of(codes[1])
            del codes[:2]
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style["text"] = colour_of(code % 10)
        elif 40 <= code <= 47 or 100 <= code <= 107:
            style["page"] = colour_of(code % 10)
        elif code == 39:
            style.pop("text", None)
        elif code == 49:
            style.pop("page", None)


def span(text, style):
    if not text:
        return ""
    colours = [style.get("text", TEXT), style.get("page", "transparent")]
    if style.get("reverse"):
        colours = [style.get("page", PAGE), style.get("text", TEXT)]
    more = "font-weight:bold;" * bool(style.get("bold")) + "opacity:.6;" * bool(style.get("dim"))
    return f'<span style="color:{colours[0]};background:{colours[1]};{more}">{html.escape(text)}</span>'


def main():
    style, parts = {}, []
    for line in sys.stdin.read().split("\n"):
        for i, part in enumerate(re.split(r"\x1b\[([0-9;]*)m|\x0e|\x0f", line)):
            if part is None:
                continue
            if i % 2:
                apply(part, style)
            else:
                parts.append(span(part, style))
        parts.append("\n")
    print(f'<!doctype html><meta charset="utf-8"><style>body {{ margin: 16px; background: {PAGE}; }} pre {{ margin: 0; '
          'font: 14px/1.3 "DejaVu Sans Mono", monospace; }</style><pre>' + "".join(parts) + "</pre>")


main()
