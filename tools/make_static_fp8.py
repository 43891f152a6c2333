#!/usr/bin/env python3
"""Writes a model as the public "FP8 static" checkpoints are (AutoFP8, vLLM): e4m3 weights with a scale a matrix, and for each matrix a fixed scale
of what it is multiplied by, from the largest magnitude that a calibration text brought there.

    python tools/make_static_fp8.py MODEL calibration.txt OUT [--tokens 30000] [--dynamic | --static o_proj,down_proj]

MODEL is a Hugging Face folder, or with --gguf a GGUF file; experts are refused. Calibration runs in windows of 1,024 tokens in float32 on the CPU,
each window a text of its own, as `hearth eval perplexity` has it. --dynamic writes the same weights without fixed scales, --static NAMES keeps
those of matrices with these names only. Run with torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, safetensors 0.8.0,
for GGUF gguf 0.19.0.
"""
import argparse
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import nn

E4M3_MAX = 448
WINDOW = 1024


def split_as_gguf_says(tokenizer, path):
    """transformers splits every GGUF's text as GPT-2 does, which is not what every such file asks for."""
    import gguf

    field = gguf.GGUFReader(path).fields.get("tokenizer.ggml.pre")
    pre = field.contents() if field else "default"
    if pre == "smollm":
        both = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(both)
    elif pre not in ("default", "gpt-2"):
        raise SystemExit(f"{path}: tokenizer.ggml.pre: expected default, gpt-2 or smollm, found {pre}")


def load(path, is_gguf):
    folder, more = (path.parent, {"gguf_file": path.name}) if is_gguf else (path, {})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **more)
    if is_gguf:
        split_as_gguf_says(tokenizer, path)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **more).eval(), tokenizer


def largest_inputs(model, linears, ids):
    """Of each of `linears`, by name: the largest magnitude it read."""
    largest = {name: torch.tensor(0.0) for name in linears}

    def watch(name):
        def hook(_, inputs):
            largest[name] = torch.maximum(largest[name], inputs[0].abs().max())
        return hook

    hooks = [module.register_forward_pre_hook(watch(name)) for name, module in linears.items()]
    with torch.no_grad():
        for part in ids.split(WINDOW):
            model.model(part[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    return largest


def scale_of(largest):
    return (largest / E4M3_MAX).clamp(min=1e-12)  # a scale of 0 has no inverse


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("text", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--gguf", action="store_true", help="MODEL is a GGUF file")
    p.add_argument("--tokens", type=int, default=30000, help="of the text, from its beginning")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--dynamic", action="store_true", help="no fixed scales")
    which.add_argument("--static", help="names of matrices, with commas: only they get fixed scales")
    a = p.parse_args()

    model, tokenizer = load(a.model, a.gguf)
    if any("experts" in name for name, _ in model.named_modules()):
        raise SystemExit(f"{a.model}: has experts, whose inputs are not calibrated here")
    linears = {f"model.layers.{name}": m for name, m in model.model.layers.named_modules() if isinstance(m, nn.Linear)}
    state = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    for name, module in linears.items():
        scale = scale_of(module.weight.data.abs().max())
        state[f"{name}.weight"] = (module.weight.data / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)
        state[f"{name}.weight_scale"] = scale
    if not a.dynamic:
        fixed = {name: m for name, m in linears.items() if not a.static or name.rpartition(".")[2] in a.static.split(",")}
        backend = tokenizer.backend_tokenizer
        ids = torch.tensor(backend.encode(a.text.read_text(), add_special_tokens=False).ids[: a.tokens])
        for name, largest in largest_inputs(model, fixed, ids).items():
            state[f"{name}.input_scale"] = scale_of(largest)
        print(f"calibrated {len(fixed)} matrices on {len(ids)} tokens")

    a.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(a.out)
    save_file(state, a.out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads(model.config.to_json_string())
    config.pop("dtype", None)
    quantization = {"quant_method": "fp8", "activation_scheme": "dynamic" if a.dynamic else "static", "ignored_layers": ["lm_head"]}
    config |= {"architectures": [type(model).__name__], "torch_dtype": "bfloat16", "quantization_config": quantization}
    (a.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


main()
