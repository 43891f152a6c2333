#!/usr/bin/env python3
"""Writes a folder that `hearth serve FOLDER --load-format dummy` serves with random weights: the config of a Mixtral (8x7B
unless told otherwise) and a tokenizer whose every token is some text, so that a client sees each one arrive."""
import argparse
import json
import pathlib

SPECIAL = ["<unk>", "<s>", "</s>"]


def config(a):
    out = {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "torch_dtype": "bfloat16",
        "hidden_size": a.hidden, "intermediate_size": a.intermediate, "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads, "num_key_value_heads": a.kv_heads, "head_dim": a.head_dim,
        "num_local_experts": a.experts, "num_experts_per_tok": a.top_k, "vocab_size": a.vocab,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "hidden_act": "silu",
        "sliding_window": None, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    }
    if a.fp8:
        out["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "static"}
    return out


def tokenizer(vocab_size):
    # Byte-level BPE without merges: its 256 letters for bytes, then words no text is split into.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(c) for c in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    tokens = SPECIAL + letters
    tokens += [f"t{i}" for i in range(len(tokens), vocab_size)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0", "normalizer": None, "post_processor": None, "pre_tokenizer": byte_level, "decoder": byte_level,
        "added_tokens": [{"id": i, "content": text, **flags} for i, text in enumerate(SPECIAL)],
        "model": {"type": "BPE", "unk_token": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": []},
    }


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=pathlib.Path)
    for name, value in {"hidden": 4096, "intermediate": 14336, "layers": 32, "heads": 32, "kv-heads": 8,
                        "head-dim": 128, "experts": 8, "top-k": 2, "vocab": 32000}.items():
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--fp8", action="store_true", help="the layout of the public FP8 checkpoints: a scale a matrix and one for what it is multiplied by")
    a = p.parse_args()
    if a.vocab < 259:
        p.error("--vocab: at least 259, three special tokens and 256 bytes")
    a.folder.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "config.json": config(a),
        "tokenizer.json": tokenizer(a.vocab),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"},
    }.items():
        (a.folder / name).write_text(json.dumps(content))


main()
