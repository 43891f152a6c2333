#!/usr/bin/env python3
"""Writes src/text/unicode_categories.inc: the general categories that tokenizers' own regex engine (Oniguruma) sees; and
src/text/unicode_nfc.inc: canonical decompositions and combining classes; and src/text/unicode_case_*.inc: what Python's str.upper and its
kin make of each character, and which characters str.isupper and its kin take (`case` alone needs no tokenizers).

Asking the engine itself, one class at a time over all code points, keeps both sides on the same Unicode version.
Run with tokenizers installed (made with 0.23.3 and Python 3.11): python3 tools/make_unicode_tables.py
"""
import pathlib
import sys
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES = ["Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S"]  # Category in unicode.h, from 1 on
ALL = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))


def code_points(pattern):
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    matched = Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(ALL)
    return [ord(c) for piece, _ in matched for c in piece]


def write(name, words, what):
    lines = [f"// {what}; made by tools/make_unicode_tables.py."]
    for word in words:
        if len(lines) == 1 or len(lines[-1]) + len(word) + 2 > 120:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word + ","
    (ROOT / "src/text" / name).write_text("\n".join(lines) + "\n")


def normalization():
    words = []
    for c in range(0x110000):
        parts = unicodedata.decomposition(chr(c)).split()
        if not parts or parts[0].startswith("<"):
            continue
        first, second = int(parts[0], 16), int(parts[1], 16) if len(parts) > 1 else 0
        words.append(f"{{0x{c:x}, 0x{first:x}, 0x{second:x}, {int(unicodedata.normalize('NFC', chr(c)) == chr(c))}}}")
    write("unicode_nfc.inc", words, "Character, what it decomposes into (the second 0 if one), and whether the two compose again")
    rank = [unicodedata.combining(chr(c)) for c in range(0x110000)]
    starts = [c for c in range(0x110000) if c == 0 or rank[c] != rank[c - 1]]
    write("unicode_combining.inc", [f"0x{c << 8 | rank[c]:x}" for c in starts], "(first code point << 8 | combining class) of each run")


def quoted(text):
    return '"' + "".join(f"\\{byte:03o}" for byte in text.encode()) + '"'


def case():
    """Mappings by runs of equal differences, those to several characters one by one; properties as the edges between no and yes."""
    every = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    runs, special = [], []
    for c in every:
        texts = chr(c).upper(), chr(c).lower(), chr(c).title()
        if all(text == chr(c) for text in texts):
            continue
        if any(len(text) > 1 for text in texts):
            special.append(f"{{0x{c:x}, {', '.join(map(quoted, texts))}}}")
            continue
        deltas = [ord(text) - c for text in texts]
        if runs and runs[-1][3] == deltas and c - runs[-1][1] in (1, 2) and runs[-1][2] in (0, c - runs[-1][1]):
            runs[-1][2] = c - runs[-1][1]
            runs[-1][1] = c
        else:
            runs.append([c, c, 0, deltas])
    write("unicode_case_runs.inc", [f"{{0x{a:x}, 0x{b:x}, {step or 1}, {{{', '.join(map(str, d))}}}}}" for a, b, step, d in runs],
          "First and last character of a run, the step between them, and what to add for upper, lower and title case")
    write("unicode_case_special.inc", special, "Character, and its upper, lower and title case where one of them is several characters")
    final = "\u03c2"  # what a capital sigma becomes at a word's end tells which characters are cased and which it overlooks
    properties = {
        "cased": lambda c: (c + "a").title()[-1] == "a",
        "ignorable": lambda c: ("a" + c + "\u03a3").lower()[-1] == final and (c + "\u03a3").lower()[-1] != final,
        "upper": str.isupper, "lower": str.islower, "digit": str.isdigit, "decimal": str.isdecimal, "numeric": str.isnumeric,
    }
    for name, holds in properties.items():
        edges, inside = [], False
        for c in every:
            if holds(chr(c)) != inside:
                inside = not inside
                edges.append(f"0x{c:x}")
        write(f"unicode_case_{name}.inc", edges, f"Where characters that are {name} begin, end, begin again, ...")


def main():
    case()
    if sys.argv[1:] == ["case"]:
        return
    category = [0] * 0x110000
    for number, name in enumerate(CLASSES, 1):
        for c in code_points(rf"\p{{{name}}}+"):
            assert category[c] == 0
            category[c] = number
    for c in code_points(r"\s+"):
        assert chr(c).isspace() and (category[c] == 0)
    starts = [c for c in range(0x110000) if c == 0 or category[c] != category[c - 1]]
    # Alternating capital and small letters, as in Latin Extended, make most of the runs; the table stays small anyway.
    write("unicode_categories.inc", [f"0x{c << 4 | category[c]:x}" for c in starts], "(first code point << 4 | category) of each run")
    normalization()


main()
