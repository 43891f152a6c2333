#!/usr/bin/env python3
"""Writes src/text/unicode_categories.inc: the general categories that tokenizers' own regex engine (Oniguruma) sees.

Asking the engine itself, one class at a time over all code points, keeps both sides on the same Unicode version.
Run with tokenizers installed (made with 0.23.3): python3 tools/make_unicode_tables.py
"""
import pathlib

from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES = ["Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S"]  # Category in unicode.h, from 1 on
ALL = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))


def code_points(pattern):
    matched = Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(ALL)
    return [ord(c) for piece, _ in matched for c in piece]


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
    words = [f"0x{c << 4 | category[c]:x}" for c in starts]
    lines = ["// (first code point << 4 | category) of each run; made by tools/make_unicode_tables.py."]
    for word in words:
        if len(lines) == 1 or len(lines[-1]) + len(word) + 2 > 120:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word + ","
    (ROOT / "src/text/unicode_categories.inc").write_text("\n".join(lines) + "\n")


main()
