#!/usr/bin/env python3
"""Writes tests/golden/text/jinja_expressions.json: expressions drawn from a grammar, with what jinja2 renders, null where it refuses.

Judge: jinja2 3.1.6 on Python 3.11, configured as transformers configures it. Left out is what Hearth refuses by name: integers beyond 64 bit,
keys of dictionaries that are no strings, negative precisions of round, printing a range, a function or a generator (Python prints an address).
"""
import json
import pathlib
import random
import re

import jinja2
import jinja2.ext
import jinja2.filters
import jinja2.sandbox

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/text/jinja_expressions.json"
VARIABLES = {
    "s": " Hello, Wörld 🙂\n", "u": "straße ΑΣΟΣ ΣΑΣ. ǆuro İIı ﬁn Ⅷ", "e": "", "n": 7, "z": 0, "neg": -3, "f": 2.675, "big": 1e20, "t": True, "none": None,
    "l": [3, 1, 2], "w": ["b", "A", "c", "a", "B"], "mixed": [1, "a", None, 2.5], "d": {"b": 2, "A": 1, "c": [1, {"x": "y"}], "a": 3}, "o": {},
    "m": [{"role": "user", "content": "x", "k": 2}, {"role": "Tool", "content": "Y", "k": 0}, {"role": "user", "content": "z", "n": {"v": [5, 6]}}],
    "lines": "a\n\nb\r\nc\x0bd\u2028e\r", "num": " 0x1F ", "nums": ["10", "ff", "1_000", "-5", "0b11", "1e3", "nan", "x", " 7 ", "7.9", "0o17", "+4"],
}

METHODS = {
    "strip": ["", "' '", "'lHo '", "none", "'W', 1"], "lstrip": ["", "' H'"], "rstrip": ["", "'\\n🙂'"], "upper": [""], "lower": [""], "title": [""],
    "capitalize": [""], "swapcase": [""], "casefold_": [],
    "split": ["", "'l'", "'l', 1", "none, 1", "sep='l'", "maxsplit=1", "sep='l', maxsplit=1", "''", "'l', maxsplit=0", "1", "sep=' ', other=1"],
    "rsplit": ["", "'l', 1", "none, 1", "sep='o', maxsplit=1", "maxsplit=1"], "splitlines": ["", "true", "keepends=true", "false"],
    "startswith": ["'H'", "' H'", "'H', 1", "'He', 1, 3", "'He', 1, 2", "('x', ' H')", "['H']", "'b', 1", "'', 99", "prefix='a'", "", "1"],
    "endswith": ["'\\n'", "'🙂', 0, -1", "('x', '\\n')", "'d', 0, 13"], "find": ["'l'", "'l', 4", "'l', -5", "'l', 0, 3", "'zz'", "''", "'', 99", "'🙂'", "sub='l'"],
    "rfind": ["'l'", "'l', 0, 5", "'zz'"], "index": ["'l'", "'zz'", "'o', 6"], "rindex": ["'l'"], "count": ["'l'", "''", "'l', 4", "'l', 0, 4", "'z'"],
    "replace": ["'l', 'L'", "'l', 'L', 1", "'', '-'", "'', '-', 3", "'l', ''", "'l'", "'l', 'L', count=1", "old='l', new='L'", "1, 2"],
    "removeprefix": ["' H'", "'x'", "1"], "removesuffix": ["'\\n'", "'x'"], "join": ["['a', 'b']", "'abc'", "[1]", "w", "d", "()", "1"],
    "isalpha": [""], "isdigit": [""], "isalnum": [""], "isspace": [""], "isupper": [""], "islower": [""], "isnumeric": [""], "isdecimal": [""], "isascii": [""],
    "center": ["20", "21, '*'", "3", "20, 'ab'", "width=20"], "ljust": ["20", "20, '.'"], "rjust": ["20", "20, '🙂'"], "zfill": ["20", "2"],
    "partition": ["','", "'zz'", "''"], "rpartition": ["'l'", "'zz'"], "nothing": [""],
    "format": ["", "1, 2", "a=1", "'x'"],
}
STRINGS = ["s", "u", "e", "'abc'", "'-12'", "'ab cd-ef (gh'", "'they\\'re x1y'", "'１２'", "'²'", "lines", "'a{}b{}c'", "'{0}{1}{0}'", "'ÀÉß'", "'Ǆ'", "'aʰΣ'"]
FILTERS = {
    "abs": ["", "1"], "batch": ["2", "2, 'x'", "linecount=3, fill_with=0", "0", ""], "capitalize": [""], "center": ["", "12", "width=5", "'x'"], "count": [""], "length": [""],
    "default": ["'x'", "'x', true", "default_value='y'", "boolean=true", "'x', boolean=true", "other=1", ""], "d": ["1"],
    "dictsort": ["", "true", "by='value'", "false, 'value'", "reverse=true", "case_sensitive=true, by='key', reverse=true", "by='x'", "order=1"],
    "first": ["", "1"], "last": [""], "float": ["", "1.5", "default=2.5", "'x'"], "int": ["", "5", "default=6", "0, 16", "base=16", "default=1, base=2", "base=8", "0, 0", "none"],
    "indent": ["", "2", "2, true", "width=1, blank=true", "'>>'", "first=true", "indentfirst=true"], "items": [""],
    "join": ["", "', '", "d='-'", "attribute='role'", "'-', 'role'", "'-', attribute='n.v.0'", "1", "sep='x'"], "list": [""], "lower": [""], "upper": [""], "title": [""], "trim": ["", "' '", "chars='H \\n'", "none"],
    "map": ["'upper'", "'string'", "attribute='role'", "attribute='n.v.1', default='-'", "attribute='k', default=9", "'default', 'q'", "'replace', 'a', 'X'", "'nothing'", "attribute='k', other=1", "", "'int', base=16", "'truncate', 3, end='.'"],
    "max": ["", "true", "case_sensitive=true", "attribute='k'", "attribute='content'"], "min": ["", "case_sensitive=true", "attribute='content'"],
    "reject": ["'gt', 1", "'string'", "", "'in', [1, 'a']"], "select": ["'gt', 1", "'odd'", "", "'defined'", "'nothing'", "'eq', other=1", "'divisibleby', 2"],
    "rejectattr": ["'k'", "'k', 'defined'", "'role', 'eq', 'user'"], "selectattr": ["'k'", "'role', 'equalto', 'user'", "'n.v.0', 'defined'", "'role', 'in', ['Tool']", "", "'role', 'user'"],
    "replace": ["'l', 'L'", "'l', 'L', 1", "old='a', new='b'", "'l', 'L', count=2", "'l', 'L', none", "1, 2", "'l'", "'', '-'"], "reverse": [""],
    "round": ["", "1", "2", "precision=1", "0, 'ceil'", "1, 'floor'", "method='ceil'", "method='x'", "'x'"], "slice": ["2", "2, 'x'", "slices=4, fill_with=0", "9"],
    "sort": ["", "true", "reverse=true", "case_sensitive=true", "attribute='content'", "attribute='role,content'", "false, true, 'content'", "attribute='content', reverse=true", "key=1"], "string": [""],
    "sum": ["", "attribute='k'", "start=10", "'k', 5", "start=none", "start=[]", "begin=1"],
    "tojson": ["", "indent=2", "true", "ensure_ascii=true", "sort_keys=true", "separators=(',', ':')", "indent=0", "indent='--'", "none, 1", "ascii=1"],
    "unique": ["", "case_sensitive=true", "attribute='role'", "true"], "wordcount": [""], "truncate": ["5", "5, true", "5, true, ''", "length=9, end='…', leeway=0", "8, leeway=0", "1"],
    "groupby": ["'role'", "attribute='role', case_sensitive=true", "'k', default=0", "'k', 7", "'missing', default='-'", "'n.v.0', default=1", ""], "attr": ["'role'", "'upper'", "'index'"], "format": ["1", "1, 2", "a=1", "'x', b=2"],
}
INPUTS = ["s", "u", "e", "n", "neg", "f", "t", "none", "l", "w", "mixed", "d", "o", "m", "lines", "missing", "(1, 'a', 2)", "()", "range(5)", "d.items()", "d.keys()", "l|map('string')", "'%s-%s'", "'%(a)s'", "'x %% %d'", "2.5", "3.5", "-2.5", "0.1",
          "nums[0]", "nums[1]", "nums[2]", "nums[3]", "nums[4]", "nums[5]", "nums[6]", "nums[7]", "nums[8]", "nums[9]", "nums[10]", "nums[11]", "num"]
TESTS = ["boolean", "callable", "defined", "divisibleby 2", "divisibleby(0)", "eq 1", "eq('')", "even", "false", "filter", "float", "ge 1", "gt 'a'", "in [1, 'a', s]", "in d", "integer", "iterable", "le 7", "lower", "lt 3", "mapping", "ne 7",
         "none", "number", "odd", "sameas true", "sameas none", "sequence", "string", "test", "true", "undefined", "upper", "not defined", "not none", "greaterthan 1", "lessthan 1", "defined(1)", "eq", "nothing", "equalto 7"]
FIXED = r"""
'%s' % 'x' | '%s %s' % ('a', 1) | '%s' % l | '%s' % (l,) | '%d items' % 3 | '%05d|%-5d|%+d|% d' % (42, 42, 42, 42) | '%x %X %o %#x' % (255, 255, 8, 255) | '%5.2f|%.0f|%e|%g' % (3.14159, 2.5, 12345.678, 0.0001)
'%r' % 'a' | '%10s|%-10s|%.2s' % ('a', 'b', 'cde') | '%%' % () | '%(b)s-%(a)d' % d | '%s' % () | '%s' % (1, 2) | '%d' % 'x' | '%d' % 2.9 | '%s' % none | '%s' % missing | '%z' % 1 | '%' % 1 | 'x' % 1 | 'x' % l | 'x' % d | '%*d' % (5, 1) | '%c' % 'x'
'%s' % true | '%d' % true | '%5s' % 'é' | '%05.1f' % -2.5 | '%i' % 3 | '%G' % 1e10 | '%.3d' % 5
'{}'.format('x') | '{} {}'.format(1, 'a') | '{1} {0}'.format('a', 'b') | '{a}-{b}'.format(a=1, b='x') | '{0.role}'.format(m[0]) | '{0[role]} {0[k]}'.format(m[0]) | '{0[1]}'.format(l) | '{{}} {}'.format(1) | '{:>10}|{:<5}|{:^7}'.format('a', 'b', 'c')
'{:05d}|{:+d}|{:,}|{:x}|{:b}|{:#x}'.format(42, 42, 1234567, 255, 5, 255) | '{:.2f}|{:10.3f}|{:e}|{:%}|{:.1%}'.format(3.14159, 2.5, 12345.678, 0.25, 0.255) | '{:*^9}|{:->6}'.format('ab', 'c') | '{!r} {!s}'.format('a', 'b') | '{} {0}'.format(1) | '{} {1}'.format(1, 2)
'{}'.format() | '{a}'.format() | '{'.format() | '}'.format() | '{:d}'.format('x') | '{:d}'.format(2.5) | '{:s}'.format(1) | '{:.2}'.format('abc') | '{}'.format(none) | '{:>5}'.format(none) | '{}'.format(l) | '{}'.format(2.0) | '{:5}|{:<5}'.format(1, 2) | '{:5}'.format(true) | '{:,.2f}'.format(1234567.891)
'{0.__class__}'.format(1) | '{:010.2f}'.format(-3.14159) | '{: d}'.format(5) | '{:=+6d}'.format(5) | '{:g}'.format(1000000.0) | '{:x}'.format(-255) | '{:c}'.format(65)
[1, 2] == (1, 2) | (1, 2) == (1, 2) | (1,) | () | ((1, 2), [3]) | (1, 2) + (3,) | (1, 2) + [3] | [1] * 3 | (1, 2) * 2 | 2 * [1, 'a'] | [1] * -1 | (1, 2) < (1, 3) | [1] < (2,) | d.items() | d.keys() | d.values() | d.items()|list | d|items|list | d.items()[0] | d.keys()|first | d.items()|length
l|select('gt', 9) is true | 'yes' if l|select('gt', 9) else 'no' | 'yes' if l|select('gt', 9)|list else 'no' | l|map('string')|length | (l|map('string'))[0] | l|reverse|first | l|reverse|list | 'abc'|reverse | d|reverse|list | l|map('string')|last | l|map('string')|tojson | 3 in l|reverse | range(4)[1:] |list | range(0, 9, 3)|list | range(5)[-1] | range(3) == range(3) | range(3)|length
l[1:] | l[::-1] | (1, 2, 3)[1:] | 'héllo'[1:3] | 'héllo'[::-1] | 'héllo'[-1] | 'abc'[5] | l[9] | l['x'] | d['x'] | d.x | none.x | n.x | s.x | 'abc'[true] | l[1.0] | d[1] | 'abc'['upper']() | l[none:2] | s['a':] | m[0].role.upper().lower() | m[2].n.v[-1] | d.get('b') | d.get('q') | d.get('q', 5) | d.get('q', default=5) | d.get() | d.copy() | l.copy() | l.count(3) | l.index(9) | l.index(2)
1 < 2 < 3 | 'a' < 'B' | none == missing | missing == missing | 1 == true | 1.0 == 1 | 'a' in missing | 1 in 'abc' | none in [none] | [1] in [[1], 2] | not missing | missing or 'x' | missing and 'x' | missing + 1 | -missing | missing() | missing.x | missing[0] | none + 1 | none ~ 'x' | 1 ~ 2.50 | true + true | 7 // -2 | -7 % 3 | 7 % -3 | 7.5 // 2 | -7.5 % 2 | 2 ** 0.5 | 1 / 3 | 1e300 * 1e10 | -1e300 * 1e10 | 0.1 + 0.2 | 1e22 | 1e-5 | 123456789012345680.0 | 5 // 0 | 5.0 % 0
{'a': 1}.items()|list | {'a': {'b': (1, 2)}}|tojson | {'a': none, 'b': true, 'c': 1.0}|tojson | {'k': 'v'} | dict(a=1) | dict({'a': 1}, b=2) | dict([('a', 1)]) | dict(d.items()|list, q=1)|length | namespace(a=1).a | namespace(a=1).b is defined | joiner('-')()
'a' 'b' ~ 'c' | 'a\tb' | "it's" ~ 'q"' | ['it\'s'] | ['a\u2028b', '\x7f', '\xa0', 'é', '\n', '🙂'] | 'é'|tojson(ensure_ascii=true) | '</script>&<>\''|tojson | '\u2028'|tojson | '\x7f\x01'|tojson
"""
BLOCKS = [
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in 'a', %}{{ x }}{% endfor %}", "{% for a, b in (1, 2), (3, 4) %}{{ a }}{{ b }};{% endfor %}", "{% for x in 1, 2, 3 if x > 1 %}{{ x }}{{ loop.length }}{% endfor %}",
    "{% for k in tree recursive %}{{ k.n }}{% if k.c %}({{ loop(k.c) }}){% endif %}{% endfor %}", "{% for k in tree recursive %}{{ loop.depth }}{{ loop.depth0 }}{{ loop.index }}{{ k.n }}{{ loop(k.c) if k.c }}{% endfor %}",
    "{% for x in l %}{{ loop(l) }}{% endfor %}", "{% for x in tree recursive %}{{ loop() }}{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{% if loop.changed(x) %}{{ x }}{% endif %}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x, 1) }}{% endfor %}",
    "{% set g = l|map('string') %}{{ g|join }}{{ g|join }}", "{% set g = l|map('string') %}{{ g|first }}{{ g|join }}", "{% set v = d.items() %}{{ v|length }}{{ v|list|length }}{{ v|list|length }}",
    "{% for role, items in m|groupby('role') %}{{ role }}:{{ items|map(attribute='content')|join }};{% endfor %}", "{% for g in m|groupby('role') %}{{ g.grouper }}={{ g.list|length }} {{ g[0] }}{% endfor %}",
    "{% for b in l|batch(2, 0) %}{{ b }}{% endfor %}", "{% for b in 'abcdefg'|slice(3) %}{{ b|join }} {% endfor %}", "{% set j = joiner(' | ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{% set j = joiner() %}{{ j() }}{{ j() }}{{ j(1) }}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(b=3, a=4) }}{{ f(1, b=5) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(c=2) }}", "{% macro f(a) %}[{{ a }}]{% endmacro %}{{ f() }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}", "{% filter replace('a', 'b') %}banana{% endfilter %}", "{% filter indent(2, first=true) %}a\nb{% endfilter %}", "{% set x | upper | replace('A', 'é') %}abc{% endset %}{{ x }}",
    "{% set a, b = b, a %}{{ a is defined }}", "{% set (a, b) = (1, 2) %}{{ a + b }}", "{% set a = 1, 2 %}{{ a }}", "{% set ns = namespace(x=(1,)) %}{% set ns.x = ns.x + (2,) %}{{ ns.x }}", "{{ 1, 2 }}", "{{ (1, 2)|tojson }}",
    "{% for x in d %}{{ x }}{% endfor %}", "{% for x in missing %}x{% else %}none{% endfor %}", "{% for x in none %}{% endfor %}", "{% for x in range(3) %}{{ loop.revindex }}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for a, b in l %}{% endfor %}",
    "{% for x in l|sort|reverse %}{{ x }}{{ loop.last }}{% endfor %}", "{% if l|selectattr('x') %}always{% endif %}", "{% for x in 'ab' recursive %}{{ x }}{% endfor %}", "{% if tools is not none %}T{% else %}N{% endif %}",
]
VARIABLES["tree"] = [{"n": "a", "c": [{"n": "b"}, {"n": "c", "c": [{"n": "d"}]}]}, {"n": "e"}]


class Unprintable(BaseException):
    pass


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    printed = jinja2.filters.soft_str

    def soft_str(value):  # what prints an address, or where it lies in memory, is left out
        if type(value).__name__ in ("generator", "function", "Macro", "list_reverseiterator", "range", "builtin_function_or_method", "method"):
            raise Unprintable
        return printed(value)

    jinja2.filters.soft_str = soft_str
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def render(env, source):
    try:
        return env.from_string(source).render(**json.loads(json.dumps(VARIABLES)))
    except Unprintable:
        return "at 0x"
    except Exception:
        return None


def expressions(rng):
    for name, choices in METHODS.items():
        for arguments in choices:
            for subject in rng.sample(STRINGS, 3):
                yield f"{subject}.{name}({arguments})"
    for name, choices in FILTERS.items():
        for arguments in choices:
            for subject in rng.sample(INPUTS, 7):
                yield f"{subject}|{name}" + (f"({arguments})" if arguments else "")
    for test in TESTS:
        for subject in rng.sample(INPUTS, 5):
            yield f"{subject} is {test}"
    for line in FIXED.strip("\n").split("\n"):
        yield from line.split(" | ")
    for operator in ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", "in", "not in", "and", "or"]:
        for _ in range(10):
            yield f"{rng.choice(INPUTS)} {operator} {rng.choice(INPUTS)}"
    for _ in range(150):  # chains
        text = rng.choice(INPUTS)
        for _ in range(rng.randrange(2, 4)):
            name = rng.choice(list(FILTERS))
            arguments = rng.choice(FILTERS[name])
            text += f"|{name}" + (f"({arguments})" if arguments else "")
        yield text


def main():
    rng = random.Random(7)
    env = environment()
    # A generator prints its address: it is shown as a list, and what is inside a list is left out.
    sources = []
    for text in expressions(rng):
        sources.append("{{ " + text + " }}")
    sources += BLOCKS
    cases = []
    for source in dict.fromkeys(sources):
        rendered = render(env, source)
        if rendered is not None and "at 0x" in rendered.lower():
            listed = source[:-2] + "|list }}"
            rendered = render(env, listed)
            if rendered is None or "at 0x" in rendered.lower():
                continue
            source = listed
        # What str() inside a filter made of one, too.
        if rendered is not None and (re.search("r.nge.?\\(|generator|built.?in|< ?method|'<', '[gr]'", rendered, re.I) or len(rendered) > 600):
            continue
        cases.append([source, rendered])
    text = json.dumps({"variables": VARIABLES, "cases": cases}, ensure_ascii=False, separators=(",", ":"))
    OUT.write_text(text + "\n", encoding="utf-8")
    print(len(cases), "cases,", sum(rendered is None for _, rendered in cases), "refused,", len(text.encode()), "bytes")


main()
