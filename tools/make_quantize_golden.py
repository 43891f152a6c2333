#!/usr/bin/env python3
"""What each matrix of two tiny checkpoints reads at most, by transformers: tests/golden/quantize/largest_inputs.json, for quantize/calibrate.h.
One text of 40 tokens, in float32. Run with torch 2.15.0, transformers 5.23.0: python tools/make_quantize_golden.py"""
import json
import pathlib

import torch
import transformers
from safetensors.torch import load_file

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests/golden"


def largest(x):
    return x.abs().max().item() if x.numel() else 0.0


def largest_inputs(name):
    folder = GOLDEN / "models" / name
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = load_file(folder / "expected.safetensors")["tokens"].long()
    out = {}

    def experts_hook(prefix):
        def hook(module, inputs):
            x, chosen = inputs[0].reshape(-1, inputs[0].shape[-1]), inputs[1]
            for e in range(module.gate_up_proj.shape[0]):
                rows = x[(chosen == e).any(-1)]
                gate, up = (rows @ module.gate_up_proj[e].T).chunk(2, dim=-1)
                out[f"{prefix}.{e}.gate"] = out[f"{prefix}.{e}.up"] = largest(rows)
                out[f"{prefix}.{e}.down"] = largest(torch.nn.functional.silu(gate) * up)
        return hook

    for path, module in model.model.layers.named_modules():
        layer, _, rest = path.partition(".")
        if isinstance(module, torch.nn.Linear) and rest != "mlp.gate":
            own = f"layers.{layer}.{rest.split('.')[-1].removesuffix('_proj')}"
            module.register_forward_pre_hook(lambda _, inputs, own=own: out.__setitem__(own, largest(inputs[0])))
        elif hasattr(module, "gate_up_proj") and isinstance(module.gate_up_proj, torch.nn.Parameter):
            module.register_forward_pre_hook(experts_hook(f"layers.{layer}.experts"))
    with torch.no_grad():
        model(tokens[None])
    return {"tokens": tokens.tolist(), "largest": dict(sorted(out.items()))}


goldens = {name: largest_inputs(name) for name in ("llama_float32", "mixtral_transformers4")}
(GOLDEN / "quantize/largest_inputs.json").write_text(json.dumps(goldens, indent=0) + "\n")
