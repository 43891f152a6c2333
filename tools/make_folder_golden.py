#!/usr/bin/env python3
"""Writes tests/golden/text/tokenizer_folders.json: small files of model folders, and what transformers makes of their tokens.

Judge: transformers 5.24.0 (PreTrainedTokenizerFast.from_pretrained), tokenizers 0.23.3.
"""
import json
import pathlib
import tempfile

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/text/tokenizer_folders.json"
TEXTS = ["a<s>b", "ab</s> a", "<|im_start|>a<|im_end|>\n", "a <pad> b", "<unk>", "a  <|im_end|>  b", "x<|tool|>y", "AB<|im_end|>", "it's 1234 caf\u00e9, cafe\u0301\r\n\n  ab", "a<|endoftext|>b"]


def tokenizer_json():
    symbols = sorted(set(pre_tokenizers.ByteLevel.alphabet()))
    vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
    for extra in ["ab", "<s>", "</s>", "<|im_end|>"]:
        vocabulary[extra] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return json.loads(tokenizer.to_str()), len(vocabulary)


def added(content, id, special=True, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special, **flags}


def decoder(*tokens):
    return {str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in tokens}


def folders():
    base, size = tokenizer_json()
    ids = {name: base["model"]["vocab"][name] for name in ["<s>", "</s>", "<|im_end|>"]}
    listed = [added("<s>", ids["<s>"]), added("</s>", ids["</s>"])]
    start = added("<|im_start|>", size)
    yield "nothing named", base, {}
    yield "config names", base | {"added_tokens": listed}, {"tokenizer_config.json": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": None}}
    yield "config names by objects", base, {"tokenizer_config.json": {name: {"__type": "AddedToken", **decoder(added(text, 0))["0"]} for name, text in [("bos_token", "<s>"), ("eos_token", "</s>")]}}
    yield "map alone", base, {"special_tokens_map.json": {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}}}
    yield "map beside a config that names none", base, {"tokenizer_config.json": {"model_max_length": 10}, "special_tokens_map.json": {"eos_token": "<|im_end|>", "pad_token": "</s>"}}
    yield "map over config", base, {"tokenizer_config.json": {"eos_token": "</s>"}, "special_tokens_map.json": {"eos_token": "<|im_end|>"}}
    yield "complete config over map", base | {"added_tokens": listed}, {
        "tokenizer_config.json": {"eos_token": "</s>", "added_tokens_decoder": decoder(*listed)}, "special_tokens_map.json": {"eos_token": "<|im_end|>"}}
    yield "decoder adds a token", base | {"added_tokens": listed}, {
        "tokenizer_config.json": {"bos_token": "<s>", "eos_token": "<|im_end|>", "added_tokens_decoder": decoder(*listed, added("<|im_end|>", ids["<|im_end|>"]), start)}}
    yield "decoder changes flags", base | {"added_tokens": listed}, {
        "tokenizer_config.json": {"added_tokens_decoder": decoder(added("<s>", ids["<s>"]), added("</s>", ids["</s>"], special=False, lstrip=True, rstrip=True))}}
    yield "added_tokens.json", base, {
        "added_tokens.json": {"<|im_start|>": size, "<|tool|>": size + 1}, "tokenizer_config.json": {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}}
    yield "extra special tokens", base, {"tokenizer_config.json": {"eos_token": "</s>", "extra_special_tokens": ["<|im_end|>"]}}
    yield "additional special tokens", base, {"special_tokens_map.json": {"eos_token": "</s>", "additional_special_tokens": ["<|im_end|>"]}}
    yield "own names", base, {"tokenizer_config.json": {"eos_token": "</s>", "image_token": "<|im_end|>", "pad_token": "<s>"}}
    yield "own names by dictionary", base, {"tokenizer_config.json": {"eos_token": "</s>", "extra_special_tokens": {"image_token": "<|im_end|>"}}}
    yield "listed beats named", base | {"added_tokens": [added("</s>", ids["</s>"], lstrip=True)]}, {"tokenizer_config.json": {"eos_token": "</s>"}}


def two_files():
    """Without a tokenizer.json: the class that the config names makes it."""
    base, size = tokenizer_json()
    vocabulary = {**base["model"]["vocab"], "<|endoftext|>": size}
    merges = "#version: 0.2\na b\n"
    for kind, config in [(GPT2Tokenizer, {}), (GPT2Tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "add_prefix_space": True}), (Qwen2Tokenizer, {}),
                         (Qwen2Tokenizer, {"eos_token": "<|im_end|>", "pad_token": "</s>"})]:
        yield f"vocab and merges, {kind.__name__} {sorted(config)}", kind, {
            "vocab.json": vocabulary, "merges.txt": merges, "tokenizer_config.json": {"tokenizer_class": kind.__name__, **config}}


def cases_to_judge():
    for name, tokenizer, files in folders():
        yield name, PreTrainedTokenizerFast, {"tokenizer.json": tokenizer, **files}
    yield from two_files()


def text_of(content):
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def main():
    cases = []
    for name, kind, files in cases_to_judge():
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                (pathlib.Path(folder) / file).write_text(text_of(content))
            read = kind.from_pretrained(folder)
        encoded = [read.encode(text, add_special_tokens=False) for text in TEXTS]
        cases.append({
            "name": name, "files": {file: text_of(content) for file, content in files.items()},
            "names": read.special_tokens_map, "bos": read.bos_token_id, "eos": read.eos_token_id, "ids": encoded,
            "text": [read.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in encoded],
        })
        print(name, read.special_tokens_map, encoded[2])
    text = json.dumps({"texts": TEXTS, "cases": cases}, ensure_ascii=False, separators=(",", ":"))
    OUT.write_text(text + "\n", encoding="utf-8")
    print(len(text.encode()), "bytes")


main()
