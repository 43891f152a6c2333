#!/usr/bin/env python3
"""A dense GGUF model as a Hugging Face folder: every matrix multiplied out and rounded to float16, as Hearth itself does when it loads the file,
with config and tokenizer. What it writes `hearth quantize` and other libraries can quantize.

    python tools/gguf_to_safetensors.py MODEL.gguf OUT

Run with torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, accelerate 1.15.0, gguf 0.19.0.
"""
import argparse
import json
import pathlib

import gguf
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import pre_tokenizers

# What transformers makes of every GGUF's text, and what files ask for that it does not know.
AS_TRANSFORMERS = ("default", "gpt-2", "qwen2")
SMOLLM = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]


def load_tokenizer(path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    field = gguf.GGUFReader(path).fields.get("tokenizer.ggml.pre")
    pre = field.contents() if field else "default"
    if pre == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(SMOLLM)
    elif pre not in AS_TRANSFORMERS:
        raise SystemExit(f"{path}: tokenizer.ggml.pre: expected smollm, {', '.join(AS_TRANSFORMERS)}, found {pre}")
    return tokenizer


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    a = p.parse_args()
    if a.out.exists():
        raise SystemExit(f"{a.out}: is there already")
    tokenizer = load_tokenizer(a.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model.parent, gguf_file=a.model.name, dtype=torch.float32)
    state = {name: value.to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    config = json.loads(model.config.to_json_string())
    for stale in ("dtype", "quantization_config"):
        config.pop(stale, None)
    if config["tie_word_embeddings"]:
        state.pop("lm_head.weight", None)
    tokenizer.save_pretrained(a.out)
    save_file(state, a.out / "model.safetensors", metadata={"format": "pt"})
    config |= {"architectures": [type(model).__name__], "torch_dtype": "float16"}
    (a.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


main()
