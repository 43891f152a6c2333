"""What Qwen2's tokenizer makes of the strings of tests/golden/text/strings.json, with the vocabulary of Qwen2.5-Coder's GGUF file and
transformers' own tokenizer class. Writes tests/golden/text/qwen2.json. Run with gguf 0.19.0, transformers 5.23.0:
tools/fetch_qwen_coder.sh && python tools/make_qwen_text_golden.py"""
import json
import pathlib
import struct
import zlib

import gguf
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / ".cache/models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"


def main():
    fields = gguf.GGUFReader(MODEL).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    tokens, merges = get("tokens"), [tuple(merge.split(" ")) for merge in get("merges")]
    tokenizer = transformers.Qwen2Tokenizer(vocab={text: i for i, text in enumerate(tokens)}, merges=merges).backend_tokenizer
    tokenizer.encode_special_tokens = True  # what a text says is no control token
    assert "NFC" in tokenizer.to_str()  # as the published tokenizer.json
    stored = json.loads((ROOT / "tests/golden/text/strings.json").read_text())
    strings = stored["strings"] + [unit * count for unit, count in stored["long"]]
    crc = ""
    for text in strings:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        wide = zlib.crc32(tokenizer.decode(ids, skip_special_tokens=False).encode(), zlib.crc32(struct.pack(f"<{len(ids)}i", *ids)))
        crc += f"{wide:08x}"
    golden = {"every": 1, "parse_special": False, "crc": crc}
    (ROOT / "tests/golden/text/qwen2.json").write_text(json.dumps(golden) + "\n")


main()
