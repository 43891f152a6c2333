#!/usr/bin/env python3
"""Writes src/text/unicode_categories.inc: the general categories that tokenizers' own regex engine (Oniguruma) sees; and
src/text/unicode_nfc.inc: canonical decompositions and combining classes.

Asking the engine itself, one class at a time over all code points, keeps both sides on the same Unicode version.
Run with tokenizers installed (made with 0.23.3 and Python 3.11): python3 tools/make_unicode_tables.py
"""
import pathlib
import unicodedata

from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES = ["Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S"]  # Category in unicode.h, from 1 on
ALL = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))


def code_points(pattern):
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


def main():
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
