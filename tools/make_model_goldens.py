"""Tiny random checkpoints in every layout Hearth reads, with the logits transformers computes from them on the CPU in float32.
Writes tests/golden/models/NAME/: the checkpoint, and expected.safetensors with `tokens` [n], `logits` [n, vocab] and, for FP8,
`logits_w8a8` by the NumPy reference below; where it says so `logits_fp8_kv`, by the same reference: the logits with an FP8 KV cache and
activations left alone. Run with gguf 0.19.0, numpy 2.3.5, safetensors 0.8.0, torch 2.15.0, transformers 5.23.0:
python tools/make_model_goldens.py [NAME ...], of those names alone where there are some."""
import json
import math
import pathlib
import shutil
import sys

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/models"
NUM_TOKENS = 40
Q = gguf.GGMLQuantizationType
SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=64, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
MOE = dict(SMALL, num_local_experts=4, num_experts_per_tok=2)


def wanted(name):
    return len(sys.argv) == 1 or name in sys.argv[1:]


def random_model(cls, config, dtype):
    """A model whose weights are exact in `dtype`, to be run in float32."""
    torch.manual_seed(len(json.dumps(config.to_diff_dict(), default=str)))
    config._attn_implementation = "eager"
    model = cls(config).eval()
    for name, p in model.named_parameters():
        if "norm" in name:
            p.data = 1 + 0.2 * torch.randn_like(p)
        elif p.dim() == 1:
            p.data = 0.3 * torch.randn_like(p)
        else:
            p.data = torch.randn_like(p) * 1.5 / math.sqrt(p.shape[-1])
        p.data = p.data.to(dtype).float()
    for name, b in model.named_buffers():
        if name.endswith("e_score_correction_bias"):  # as large as differences between scores
            b.data = (0.3 * torch.randn_like(b)).to(dtype).float()
    model.tie_weights()
    return model


def llama(dtype=torch.bfloat16, **more):
    return random_model(transformers.LlamaForCausalLM, transformers.LlamaConfig(**(SMALL | more)), dtype)


def mistral(dtype=torch.bfloat16, **more):
    return random_model(transformers.MistralForCausalLM, transformers.MistralConfig(**(SMALL | more)), dtype)


def mixtral(dtype=torch.bfloat16, **more):
    return random_model(transformers.MixtralForCausalLM, transformers.MixtralConfig(**(MOE | more)), dtype)


def qwen2(dtype=torch.bfloat16, **more):
    return random_model(transformers.Qwen2ForCausalLM, transformers.Qwen2Config(**(SMALL | more)), dtype)


def qwen3(dtype=torch.bfloat16, **more):
    return random_model(transformers.Qwen3ForCausalLM, transformers.Qwen3Config(**(SMALL | more)), dtype)


def qwen3_moe(dtype=torch.bfloat16, **more):
    sizes = SMALL | dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, norm_topk_prob=True)
    return random_model(transformers.Qwen3MoeForCausalLM, transformers.Qwen3MoeConfig(**(sizes | more)), dtype)


def olmoe(dtype=torch.bfloat16, **more):
    sizes = SMALL | dict(num_experts=6, num_experts_per_tok=3, pad_token_id=None)
    return random_model(transformers.OlmoeForCausalLM, transformers.OlmoeConfig(**(sizes | more)), dtype)


def glm4_moe(dtype=torch.bfloat16, **more):
    """A group of 12 query heads, 12 of 24 channels rotated, 6 experts of 40 and a shared one of 80; layer 0 is dense."""
    sizes = SMALL | dict(num_attention_heads=12, num_key_value_heads=1, head_dim=24, n_routed_experts=6, num_experts_per_tok=3,
                         moe_intermediate_size=40, n_shared_experts=2, routed_scaling_factor=1.75, attention_bias=True, num_mtp_layers=0)
    return random_model(transformers.Glm4MoeForCausalLM, transformers.Glm4MoeConfig(**(sizes | more)), dtype)


def minimax_m2(dtype=torch.bfloat16, **more):
    """A group of 6 query heads, 8 of 24 channels rotated."""
    sizes = MOE | dict(num_attention_heads=6, num_key_value_heads=1, head_dim=24, rotary_dim=8, num_local_experts=6, num_experts_per_tok=3)
    return random_model(transformers.MiniMaxM2ForCausalLM, transformers.MiniMaxM2Config(**(sizes | more)), dtype)


def qwen2_moe(dtype=torch.bfloat16, **more):
    sizes = SMALL | dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=40, shared_expert_intermediate_size=56)
    return random_model(transformers.Qwen2MoeForCausalLM, transformers.Qwen2MoeConfig(**(sizes | more)), dtype)


GRANITE = dict(embedding_multiplier=12.0, residual_multiplier=0.22, attention_multiplier=0.3, logits_scaling=6.0)


def granite(dtype=torch.bfloat16, **more):
    return random_model(transformers.GraniteForCausalLM, transformers.GraniteConfig(**(SMALL | GRANITE | more)), dtype)


def granite_moe(dtype=torch.bfloat16, shared=0, **more):
    """A vocabulary of no round number, tied."""
    sizes = SMALL | GRANITE | dict(vocab_size=67, tie_word_embeddings=True, num_attention_heads=6, num_key_value_heads=2, hidden_size=48,
                                   intermediate_size=40, num_local_experts=6, num_experts_per_tok=3)
    if shared == 0:
        return random_model(transformers.GraniteMoeForCausalLM, transformers.GraniteMoeConfig(**(sizes | more)), dtype)
    config = transformers.GraniteMoeSharedConfig(**(sizes | dict(shared_intermediate_size=shared) | more))
    return random_model(transformers.GraniteMoeSharedForCausalLM, config, dtype)


def gpt_oss(dtype=torch.bfloat16, **more):
    """6 and 2 heads, 5 experts, windows of 5 in every other layer."""
    sizes = SMALL | dict(hidden_size=96, intermediate_size=64, num_hidden_layers=3, num_attention_heads=6, head_dim=24, num_local_experts=5,
                         num_experts_per_tok=3, sliding_window=5, swiglu_limit=1.5,
                         rope_parameters=dict(rope_type="yarn", rope_theta=150.0, factor=4.0, original_max_position_embeddings=32, truncate=False))
    return random_model(transformers.GptOssForCausalLM, transformers.GptOssConfig(**(sizes | more)), dtype)


def head_dim_of(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def tokens_for(config):
    return np.random.default_rng(7).integers(0, config.vocab_size, NUM_TOKENS)


def expect(folder, model, **more):
    """Writes the expected logits of `model`, which has the weights as they are to be read."""
    tokens = tokens_for(model.config)
    with torch.no_grad():
        logits = model.float()(torch.tensor(tokens[None])).logits[0]
    save_file({"tokens": torch.tensor(tokens, dtype=torch.int32), "logits": logits.contiguous()}
              | {k: torch.tensor(v, dtype=torch.float32) for k, v in more.items()}, folder / "expected.safetensors")


def add_draft_layer(name, layer):
    if not wanted(name):
        return
    file = OUT / name / "model.safetensors"
    tensors = load_file(file)
    size = tensors["model.norm.weight"].shape[0]
    tensors |= {f"model.layers.{layer}.eh_proj.weight": torch.ones(2, 2 * size, dtype=torch.bfloat16),
                f"model.layers.{layer}.input_layernorm.weight": torch.ones(size, dtype=torch.bfloat16)}
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((OUT / name / "config.json").read_text())
    for key in ("num_nextn_predict_layers", "num_mtp_layers"):
        config.pop(key, None)
    (OUT / name / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 1}, indent=2) + "\n")


def new_folder(name):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def save(name, model, dtype=torch.bfloat16, fp8_kv=False, **how):
    """By transformers itself: its newest config form."""
    if not wanted(name):
        return
    folder = new_folder(name)
    wide = {k: v.float().numpy() for k, v in original_names(model).items()}
    expect(folder, model, **({"logits_fp8_kv": Reference(model.config, wide, kv={}).logits(tokens_for(model.config))} if fp8_kv else {}))
    model.to(dtype).save_pretrained(folder, **how)


# Checkpoints written by hand: transformers 4's config form, and FP8.

def expert_names(config):
    """What published checkpoints call a layer's router and experts: folder, gate, up, down."""
    return ("block_sparse_moe", "w1", "w3", "w2") if config.model_type in ("mixtral", "minimax_m2") else ("mlp", "gate_proj", "up_proj", "down_proj")


def original_names(model):
    """State in the names of published checkpoints: a matrix an expert."""
    state, (moe, w1, w3, w2) = {}, expert_names(model.config)
    for name, value in model.state_dict().items():
        name = granite_name(name)
        if name.endswith(GRANITE_SHARED):
            prefix = name.removesuffix(GRANITE_SHARED)
            state |= {f"{prefix}mlp.shared_experts.{part}_proj.weight": v.clone() for part, v in zip(("gate", "up"), value.chunk(2))}
            continue
        if model.config.model_type == "gpt_oss" and ("mlp.experts." in name or name.endswith("sinks")):
            state |= gpt_oss_parts(name, value)
        elif name.endswith("mlp.experts.gate_up_proj"):
            for e, both in enumerate(value):
                gate, up = both.chunk(2)
                prefix = name.replace("mlp.experts.gate_up_proj", f"{moe}.experts.{e}.")
                state[f"{prefix}{w1}.weight"], state[f"{prefix}{w3}.weight"] = gate.clone(), up.clone()
        elif name.endswith("mlp.experts.down_proj"):
            for e, down in enumerate(value):
                state[name.replace("mlp.experts.down_proj", f"{moe}.experts.{e}.{w2}.weight")] = down.clone()
        elif name != "lm_head.weight" or not model.config.tie_word_embeddings:
            state[original_name(name, moe)] = value.clone()
    return state


GRANITE_SHARED = "shared_mlp.input_linear.weight"  # gate above up


def granite_name(name):
    """A tensor of Granite by the names of the others'."""
    for theirs, others in (("block_sparse_moe.experts.", "mlp.experts."), ("block_sparse_moe.router.", "mlp.gate."),
                           ("shared_mlp.output_linear.", "mlp.shared_experts.down_proj.")):
        name = name.replace(theirs, others)
    return name


def original_name(name, moe):
    name = name.replace("mlp.gate.weight", f"{moe}.gate.weight").replace("mlp.router.", "mlp.gate.")
    return name.replace("mlp.e_score_correction_bias", f"{moe}.e_score_correction_bias")


def gpt_oss_parts(name, value):
    """A tensor of gpt-oss by the names of the others' matrices: experts stand transposed in it, gate and up in turns."""
    if name.endswith("sinks"):
        return {name + ".weight": value.clone()}
    prefix, kind = name.rsplit(".", 1)
    matrix, bias = kind.removesuffix("_bias"), kind.endswith("_bias")
    out = {}
    for e, rows in enumerate(value if bias else value.transpose(1, 2)):
        parts = {"gate_proj": rows[::2], "up_proj": rows[1::2]} if matrix == "gate_up_proj" else {"down_proj": rows}
        out |= {f"{prefix}.{e}.{part}.{'bias' if bias else 'weight'}": v.clone() for part, v in parts.items()}
    return out


def load_original(model, state):
    """The reverse of original_names, into `model`."""
    own, (moe, w1, w3, w2) = model.state_dict(), expert_names(model.config)
    for name, value in own.items():
        name = granite_name(name)
        if name.endswith(GRANITE_SHARED):
            prefix = name.removesuffix(GRANITE_SHARED) + "mlp.shared_experts."
            value.copy_(torch.cat([state[f"{prefix}{part}_proj.weight"] for part in ("gate", "up")]))
            continue
        if model.config.model_type == "gpt_oss" and ("mlp.experts." in name or name.endswith("sinks")):
            for part, view in zip(gpt_oss_parts(name, value), gpt_oss_views(name, value)):
                view.copy_(state[part])
            continue
        for fused, parts in ((".mlp.experts.gate_up_proj", (w1, w3)), (".mlp.experts.down_proj", (w2,))):
            if name.endswith(fused):
                prefix = name.replace(fused, f".{moe}.experts.")
                value.copy_(torch.stack([torch.cat([state[f"{prefix}{e}.{p}.weight"] for p in parts])
                                         for e in range(value.shape[0])]))
                break
        else:
            old = original_name(name, moe)
            if old in state:
                value.copy_(state[old])


def gpt_oss_views(name, value):
    """The places in `value` of what gpt_oss_parts gives, in its order."""
    if name.endswith("sinks"):
        return [value]
    bias, fused = name.endswith("_bias"), "gate_up_proj" in name
    return [view for rows in (value if bias else value.transpose(1, 2)) for view in ((rows[::2], rows[1::2]) if fused else (rows,))]


def old_config(model, **more):
    c = model.config
    rope = dict(c.rope_parameters)
    out = {"architectures": [type(model).__name__], "model_type": c.model_type, "torch_dtype": "bfloat16",
           "hidden_act": "silu", "rope_theta": rope.pop("rope_theta"), "tie_word_embeddings": c.tie_word_embeddings}
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                "vocab_size", "max_position_embeddings", "rms_norm_eps", "bos_token_id", "eos_token_id", "sliding_window",
                "num_local_experts", "num_experts_per_tok"):
        if hasattr(c, key):
            out[key] = getattr(c, key)
    if c.model_type == "qwen3_moe":
        del out["num_local_experts"]
        out |= {key: getattr(c, key) for key in ("num_experts", "moe_intermediate_size", "norm_topk_prob", "decoder_sparse_step",
                                                 "mlp_only_layers", "head_dim", "attention_bias", "use_sliding_window")}
    if rope.get("rope_type", "default") != "default":
        rope["type"] = rope.pop("rope_type")
        out["rope_scaling"] = rope
    return out | more


def write_sharded(folder, state, shards):
    names = sorted(state)
    index = {}
    for i in range(shards):
        part = names[i::shards]
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        save_file({n: state[n].contiguous() for n in part}, folder / file)
        index |= {n: file for n in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}, indent=0))


def e4m3(x):
    return np.clip(x, -448, 448).astype(np.float32)


def round_e4m3(x):
    return torch.from_numpy(e4m3(x)).to(torch.float8_e4m3fn).float().numpy()


def quantize(weight, form):
    """Weight to e4m3 and a scale for each tensor, channel or 128x128 block; also the float32 product of both."""
    w = weight.float()
    if form == "tensor":
        scale = w.abs().max() / 448
        spread = scale.expand(w.shape)
    elif form == "channel":
        scale = w.abs().amax(1, keepdim=True) / 448
        spread = scale.expand(w.shape)
    else:
        rows, columns = -(-w.shape[0] // 128), -(-w.shape[1] // 128)
        scale = torch.stack([torch.stack([w[128 * i:128 * i + 128, 128 * j:128 * j + 128].abs().max() / 448
                                          for j in range(columns)]) for i in range(rows)])
        spread = scale.repeat_interleave(128, 0)[:w.shape[0]].repeat_interleave(128, 1)[:, :w.shape[1]]
    q = (w / spread).clamp(-448, 448).to(torch.float8_e4m3fn)
    return q, scale, q.float() * spread


def fused(state):
    """State of original_names in transformers 5's layout: all experts of a layer in one tensor, gate above up, with their scales."""
    out, parts = {}, {}
    for name, value in state.items():
        prefix, experts, rest = name.partition(".block_sparse_moe.experts.")
        if not experts:
            out[name.replace("block_sparse_moe.gate", "mlp.gate")] = value
            continue
        expert, matrix, kind = rest.split(".", 2)
        parts.setdefault((prefix, kind), {})[int(expert), matrix] = value
    for (prefix, kind), part in parts.items():
        suffix = {"weight": "", "weight_scale_inv": "_scale_inv", "activation_scale": "_activation_scale"}[kind]
        rows = lambda e, m: part[e, m].reshape(-1, 1) if part[e, m].dim() < 2 else part[e, m]
        experts = range(1 + max(e for e, _ in part))
        gate_up = torch.stack([torch.cat([rows(e, "w1"), rows(e, "w3")]) for e in experts])
        down = torch.stack([rows(e, "w2") for e in experts])
        if kind == "activation_scale":  # [experts], gate's and up's the same
            gate_up, down = gate_up[:, 0, 0], down[:, 0, 0]
        out[f"{prefix}.mlp.experts.gate_up_proj{suffix}"], out[f"{prefix}.mlp.experts.down_proj{suffix}"] = gate_up, down
    return out


def fp8(name, model, form, config, *, suffix="weight_scale", scale_dtype=torch.float32, scale_shape=None, static=None,
        kv=(), keep=("lm_head", "block_sparse_moe.gate", "mlp.gate."), files=None, layout=lambda state: state):
    """An FP8 checkpoint of `model`; keep: matrices left in bfloat16; static: what its activation scales are called."""
    if not wanted(name):
        return
    folder = new_folder(name)
    state, stored, wide, fp8_names = original_names(model), {}, {}, set()
    for i, (key, value) in enumerate(sorted(state.items())):
        module = key.removesuffix(".weight")
        if value.dim() != 2 or "embed_tokens" in key or any(k in key for k in keep):
            stored[key], wide[key] = value.to(torch.bfloat16), value
            continue
        # Each matrix of its own magnitude, so that a merged scale would show.
        value = value * (0.6 + 0.05 * (i % 17))
        q, scale, _ = quantize(value, form)
        scale = scale.to(scale_dtype)
        spread = scale.float()
        if form == "block":
            spread = spread.repeat_interleave(128, 0)[:q.shape[0]].repeat_interleave(128, 1)[:, :q.shape[1]]
        stored[key], wide[key] = q, q.float() * spread
        stored[f"{module}.{suffix}"] = scale.reshape(scale_shape) if scale_shape is not None else scale.clone()
        fp8_names.add(module)
        if static:
            stored[f"{module}.{static}"] = torch.tensor(0.01 + 0.001 * i)
    for key, value in kv:
        stored[key] = torch.tensor(value)
    save_file({k: v.contiguous() for k, v in layout(stored).items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(old_config(model, **config), indent=1))
    for file, content in (files or {}).items():
        (folder / file).write_text(json.dumps(content, indent=1))
    load_original(model, wide)
    numpy = lambda state: {k: v.float().numpy() for k, v in state.items()}
    w8a8 = Reference(model.config, numpy(stored), suffix, static=static)
    kv_scales = {which: np.array(value, F32) for key, value in kv for which in "kv" if f"{which}_scale" in key or f"{which}_proj.output" in key}
    fp8_kv = Reference(model.config, numpy(wide), kv=kv_scales)
    tokens = tokens_for(model.config)
    expect(folder, model, logits_w8a8=w8a8.logits(tokens), logits_fp8_kv=fp8_kv.logits(tokens))


# W8A8 and FP8 KV in NumPy: Hearth's FP8 recipe (src/ops/ops.h), activations in float32.

F32 = np.float32


def quantize_rows(x, width, most=448):
    """Rows to e4m3 values and a scale for each `width` channels, whose largest value becomes `most`."""
    groups = -(-x.shape[1] // width)
    q, scales = np.empty_like(x), np.empty((x.shape[0], groups), F32)
    for g in range(groups):
        part = x[:, width * g:width * g + width]
        largest = np.abs(part).max(1)
        nonzero = np.where(largest == 0, F32(most), largest)
        scales[:, g] = nonzero / F32(most)
        q[:, width * g:width * g + width] = round_e4m3(part * (F32(most) / nonzero)[:, None])
    return q, scales


class Reference:
    """Products in FP8 where `state` has scales named `suffix`; `kv`: None, or an FP8 cache with these static scales ("k", "v");
    `static`: the name of the scales that output and down projections scaled by tensor or channel have for their input."""
    def __init__(self, config, state, suffix=None, kv=None, static=None):
        self.c, self.state, self.suffix, self.kv, self.static = config, state, suffix, kv, static

    def linear(self, x, module, input_scale=None):
        w, scale, bias = self.state[module + ".weight"], self.state.get(f"{module}.{self.suffix}"), self.state.get(module + ".bias", F32(0))
        if scale is None:
            return (x.astype(np.float64) @ w.T.astype(np.float64)).astype(F32) + bias
        block = scale.size not in (1, w.shape[0])
        if input_scale is None or block:
            q, act_scales = quantize_rows(x, 128) if block and x.shape[1] > 128 else quantize_rows(x, x.shape[1], most=112)
        else:
            fixed = input_scale * F32(4)  # their largest is 448
            q, act_scales = round_e4m3(np.clip(x / fixed, -112, 112)), np.full((x.shape[0], 1), fixed, F32)
        total = np.zeros((x.shape[0], w.shape[0]), F32)
        for g in range(-(-x.shape[1] // 128)):
            span = slice(128 * g, 128 * g + 128)
            partial = (q[:, span].astype(np.float64) @ w[:, span].T.astype(np.float64)).astype(F32)
            if scale.size == 1:
                columns = np.full(w.shape[0], scale.reshape(()), F32)
            elif scale.size == w.shape[0]:
                columns = scale.reshape(-1)
            else:
                columns = np.repeat(scale[:, g], 128)[:w.shape[0]]
            total += partial * (act_scales[:, g if block else 0][:, None] * columns[None])
        return total + bias

    def input_scale(self, module):
        return self.state.get(f"{module}.{self.static}")

    def unquantized(self, x, module):
        w, scale = self.state[module + ".weight"], self.state.get(f"{module}.{self.suffix}")
        return (x @ (w if scale is None else w * scale).T).astype(F32) + self.state.get(module + ".bias", F32(0))

    def norm(self, x, name):
        variance = (x.astype(np.float64) ** 2).mean(1, keepdims=True)
        return (x / np.sqrt(variance + self.c.rms_norm_eps)).astype(F32) * self.state[name]

    def attention(self, x, prefix):
        c, n = self.c, x.shape[0]
        dim = head_dim_of(c)
        rotary = int(dim * c.rope_parameters.get("partial_rotary_factor", 1.0))
        inverse, factor = (1 / c.rope_parameters["rope_theta"] ** (np.arange(0, rotary, 2, dtype=F32) / F32(rotary))).astype(F32), F32(1)
        if c.rope_parameters["rope_type"] == "yarn":
            inverse, factor = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["yarn"](c)
            inverse, factor = inverse.numpy(), F32(factor)
        angle = np.arange(n, dtype=F32)[:, None] * inverse
        cos, sin = np.cos(angle) * factor, np.sin(angle) * factor

        def rotate(v):
            a, b = v[..., :rotary // 2], v[..., rotary // 2:rotary]
            return np.concatenate([a * cos[:, None] - b * sin[:, None], b * cos[:, None] + a * sin[:, None], v[..., rotary:]], -1)

        q, k, v = (self.linear(x, prefix + p).reshape(n, -1, dim) for p in ("q_proj", "k_proj", "v_proj"))
        if prefix + "q_norm.weight" in self.state:
            width = lambda which: self.state[f"{prefix}{which}_norm.weight"].size  # of a head, or of all
            q, k = ((self.norm(y.reshape(-1, width(which)), f"{prefix}{which}_norm.weight")).reshape(y.shape) for y, which in ((q, "q"), (k, "k")))
        q, k = rotate(q), rotate(k)
        if self.kv is not None:
            k, v = self.cached(k, "k"), self.cached(v, "v")
        group = c.num_attention_heads // c.num_key_value_heads
        k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(dim)
        seen = np.tril(np.ones((n, n), bool))
        if c.model_type == "gpt_oss" and c.layer_types[int(prefix.split(".")[2])] == "sliding_attention":
            seen &= ~np.tril(seen, -c.sliding_window)
        scores = np.where(seen, scores, -np.inf)
        sinks = self.state.get(prefix + "sinks.weight", np.full(c.num_attention_heads, -np.inf, F32))[:, None, None]
        largest = np.maximum(scores.max(-1, keepdims=True), sinks)
        weights = np.exp(scores - largest)
        weights /= weights.sum(-1, keepdims=True) + np.exp(sinks - largest)
        out = np.einsum("hqk,khd->qhd", weights, v).reshape(n, -1).astype(F32)
        return self.linear(out, prefix + "o_proj", self.input_scale(prefix + "o_proj"))

    def cached(self, x, which):
        """Keys or values [tokens, heads, dim] as an FP8 cache gives them back: a scale a head, or one a token and head."""
        if which in self.kv:
            scale = np.broadcast_to(self.kv[which], x.shape[1]).astype(F32)[:, None]
            return round_e4m3(x * (F32(1) / scale)) * scale
        most = np.abs(x).max(-1, keepdims=True)
        return round_e4m3(x * (F32(448) / most)) * (most / F32(448))

    def mlp(self, x, gate, up, down):
        g, u, alpha = self.linear(x, gate), self.linear(x, up), 1.0
        if self.c.model_type == "gpt_oss":
            g, u, alpha = np.minimum(g, self.c.swiglu_limit), np.clip(u, -self.c.swiglu_limit, self.c.swiglu_limit) + 1, self.c.swiglu_alpha
        between = (g / (1 + np.exp(-alpha * g)) * u).astype(F32)
        return self.linear(between, down, self.input_scale(down))

    def experts(self, x, prefix):
        scores = self.unquantized(x, prefix + "gate")
        correction = {"minimax_m2": "e_score_correction_bias", "glm4_moe": "gate.e_score_correction_bias"}.get(self.c.model_type)
        if correction:
            p = (1 / (1 + np.exp(-scores))).astype(F32)
            chosen = np.argsort(-(p + self.state[prefix + correction]), 1, kind="stable")[:, :self.c.num_experts_per_tok]
        else:
            p = np.exp(scores - scores.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            chosen = np.argsort(-p, 1, kind="stable")[:, :self.c.num_experts_per_tok]
        out, (_, *names) = np.zeros_like(x), expert_names(self.c)
        for t in range(x.shape[0]):
            total = p[t, chosen[t]].sum() if getattr(self.c, "norm_topk_prob", True) else 1
            for e in chosen[t]:
                w1, w3, w2 = (f"{prefix}experts.{e}.{w}" for w in names)
                out[t] += p[t, e] / total * getattr(self.c, "routed_scaling_factor", 1) * self.mlp(x[t:t + 1], w1, w3, w2)[0]
        shared = prefix + "shared_experts."
        return out + self.mlp(x, *(shared + w for w in names)) if shared + names[0] + ".weight" in self.state else out

    def logits(self, tokens):
        x = self.state["model.embed_tokens.weight"][tokens]
        for layer in range(self.c.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            x = x + self.attention(self.norm(x, prefix + "input_layernorm.weight"), prefix + "self_attn.")
            y = self.norm(x, prefix + "post_attention_layernorm.weight")
            moe = prefix + expert_names(self.c)[0] + "."
            if moe + "gate.weight" in self.state:
                x = x + self.experts(y, moe)
            else:
                x = x + self.mlp(y, *(prefix + f"mlp.{m}_proj" for m in ("gate", "up", "down")))
        return self.unquantized(self.norm(x, "model.norm.weight"), "lm_head")


# MXFP4: codes and exponents as gpt-oss has them, made by the gguf package, multiplied out by transformers.

def mxfp4_blocks(value):
    """[experts, rows, columns] to codes [experts, rows, blocks, 16], two neighbours a byte, and exponents."""
    raw = gguf.quants.quantize(value.numpy(), Q.MXFP4).reshape(*value.shape[:2], -1, 17)
    halves = np.concatenate([raw[..., 1:] & 15, raw[..., 1:] >> 4], -1)
    return torch.from_numpy(halves[..., ::2] | halves[..., 1::2] << 4), torch.from_numpy(raw[..., 0].copy())


def mxfp4(name, model):
    """A gpt-oss folder as published: experts in MXFP4, the rest in bfloat16."""
    if not wanted(name):
        return
    folder, stored, rng = new_folder(name), {}, torch.Generator().manual_seed(1)
    state = model.state_dict()
    for key, value in state.items():
        if not key.endswith(("gate_up_proj", "down_proj")):
            stored[key] = value.to(torch.bfloat16)
            continue
        rows = value.transpose(1, 2).contiguous()
        powers = 2.0 ** torch.randint(-3, 1, (*rows.shape[:2], rows.shape[2] // 32), generator=rng)
        codes, exponents = mxfp4_blocks(rows * powers.repeat_interleave(32, 2))
        stored[key + "_blocks"], stored[key + "_scales"] = codes, exponents
        value.copy_(transformers.integrations.mxfp4.convert_moe_packed_tensors(codes, exponents))
    save_file({k: v.contiguous() for k, v in stored.items()}, folder / "model.safetensors")
    model.config.to_json_file(folder / "config.json")
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["GptOssForCausalLM"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    wide = {k: v.float().numpy() for k, v in original_names(model).items()}
    ones = {k.replace(".weight", ".weight_scale"): np.ones(v.shape[0], F32) for k, v in wide.items() if ".experts." in k and v.ndim == 2}
    tokens = tokens_for(model.config)
    expect(folder, model, logits_w8a8=Reference(model.config, wide | ones, "weight_scale").logits(tokens),
           logits_fp8_kv=Reference(model.config, wide, kv={}).logits(tokens))


def write_mxfp4_rows():
    """Rows whose blocks lie near and far apart, and what transformers makes of them."""
    if not wanted("mxfp4_rows"):
        return
    folder, rng = new_folder("mxfp4_rows"), np.random.default_rng(11)
    codes = torch.from_numpy(rng.integers(0, 256, (1, 96, 5, 16), dtype=np.uint8))
    middle, span = rng.integers(60, 190, (1, 96, 1)), np.arange(96)[None, :, None] // 4
    exponents = torch.from_numpy((middle + rng.integers(0, span + 1, (1, 96, 5))).astype(np.uint8))
    codes[0, 3], codes[0, 95, 1:4] = 0, 0  # a row of zeros, and one whose far blocks are
    wide = transformers.integrations.mxfp4.convert_moe_packed_tensors(codes, exponents, dtype=torch.float32)
    save_file({"rows_blocks": codes, "rows_scales": exponents}, folder / "model.safetensors")
    save_file({"rows": wide[0].T.contiguous()}, folder / "expected.safetensors")


# Packed integers, as AutoGPTQ, AutoAWQ and compressed-tensors write them and multiply them out.

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # the columns of a word, lowest bits first


def pack_words(codes, axis, bits, order=None):
    """Codes along an axis into int32 words."""
    per = 32 // bits
    codes = np.moveaxis(codes.astype(np.uint64), axis, 0).reshape(-1, per, *np.delete(codes.shape, axis))
    words = sum(codes[:, (order or range(per))[i]] << np.uint64(bits * i) for i in range(per))
    return torch.from_numpy(np.moveaxis(words.astype(np.uint32).view(np.int32), 0, axis).copy())


def packed_matrix(rng, name, weight, method, bits, group, shuffled, asymmetric):
    """Tensors of one matrix, and what is read from them: (code - zero) * scale in the scales' type."""
    out, columns = weight.shape
    group = columns if group < 0 else group
    groups, most = columns // group, 2**bits - 1
    group_of = np.arange(columns) // group
    if shuffled:
        group_of = rng.permutation(group_of)
    scales = torch.empty(out, groups, dtype=torch.float16)
    zeros = rng.integers(1, most + 1, (out, groups)) if asymmetric else np.full((out, groups), 2**(bits - 1))
    for g in range(groups):
        scales[:, g] = (weight[:, group_of == g].abs().amax(1) / (2**(bits - 1))).half()
    spread, at = scales[:, group_of], zeros[:, group_of]
    codes = np.clip(np.round((weight / spread.float()).numpy()) + at, 0, most).astype(np.int64)
    wide = torch.from_numpy(codes - at).to(torch.int8 if bits == 4 else torch.int16) * spread
    assert wide.dtype == torch.float16
    if method == "gptq":
        tensors = {"qweight": pack_words(codes.T, 0, bits), "qzeros": pack_words((zeros.T - 1) % 2**bits, 1, bits),
                   "scales": scales.T.contiguous(), "g_idx": torch.from_numpy(group_of.astype(np.int32))}
    elif method == "gptq_v2":
        tensors = {"qweight": pack_words(codes.T, 0, bits), "qzeros": pack_words(zeros.T, 1, bits), "scales": scales.T.contiguous(),
                   "g_idx": torch.from_numpy(group_of.astype(np.int32))}
    elif method == "awq":
        tensors = {"qweight": pack_words(codes.T, 1, bits, AWQ_ORDER), "qzeros": pack_words(zeros.T, 1, bits, AWQ_ORDER),
                   "scales": scales.T.contiguous()}
    else:
        tensors = {"weight_packed": pack_words(codes, 1, bits), "weight_scale": scales, "weight_shape": torch.tensor([out, columns])}
        if asymmetric:
            tensors["weight_zero_point"] = pack_words(zeros, 0, bits)
    return {f"{name}.{k}": v for k, v in tensors.items()}, wide.float()


def packed(name, model, method, quantization, bits=4, group=32, shuffled=False, asymmetric=True):
    if not wanted(name):
        return
    folder, rng, stored, wide = new_folder(name), np.random.default_rng(13), {}, {}
    for key, value in sorted(original_names(model).items()):
        if value.dim() != 2 or any(k in key for k in ("embed_tokens", "lm_head", "mlp.gate.")):
            stored[key] = wide[key] = value.to(torch.float16)
            continue
        tensors, wide[key] = packed_matrix(rng, key.removesuffix(".weight"), value, method, bits, group, shuffled, asymmetric)
        stored |= tensors
    save_file({k: v.contiguous() for k, v in stored.items()}, folder / "model.safetensors")
    config = old_config(model, torch_dtype="float16", quantization_config=quantization)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    load_original(model, wide)
    expect(folder, model, q_proj=wide["model.layers.0.self_attn.q_proj.weight"], down_proj=next(v for k, v in wide.items() if "down_proj" in k))


# GGUF files, by the gguf package.

LAYER = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "block_sparse_moe.gate": "ffn_gate_inp", "mlp.gate": "ffn_gate_inp", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "self_attn.sinks": "attn_sinks", "mlp.gate.e_score_correction_bias": "exp_probs_b",
         "block_sparse_moe.e_score_correction_bias": "exp_probs_b", "mlp.shared_expert_gate": "ffn_gate_inp_shexp"}
LAYER |= {f"mlp.shared_expert{s}.{m}_proj": f"ffn_{m}_shexp" for m in ("gate", "up", "down") for s in ("", "s")}


def random_blocks(rng, kind, rows, columns):
    """Valid blocks of types that the gguf package reads but does not make: random bits, small float16 scales."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (rows * columns // elements, size), dtype=np.uint8)
    half = lambda: rng.uniform(0.5e-4, 1e-4, (len(raw), 1)).astype(np.float16).view(np.uint8)
    places = {Q.Q6_K: [208], Q.Q3_K: [108], Q.Q2_K: [80, 82], Q.IQ4_NL: [0], Q.IQ4_XS: [0]}
    for place in places.get(kind, [0, 2]):
        raw[:, place:place + 2] = half() * 1
    return raw.reshape(rows, -1)


def write_gguf(name, model, kinds, stacked=True):
    """kinds: part -> type, "" for the rest. The model gets the weights as a reader will see them."""
    if not wanted(name):
        return
    folder, c, rng = new_folder(name), model.config, np.random.default_rng(3)
    architecture = {"mixtral": "llama", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss", "glm4_moe": "glm4moe", "minimax_m2": "minimax-m2",
                    "qwen2_moe": "qwen2moe", "granitemoeshared": "granitemoe"}.get(c.model_type, c.model_type)
    writer = gguf.GGUFWriter(folder / "model.gguf", architecture)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    drafts = 1 if c.model_type == "glm4_moe" else 0
    writer.add_block_count(c.num_hidden_layers + drafts)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_rope_dimension_count(int(head_dim_of(c) * c.rope_parameters.get("partial_rotary_factor", 1.0)))
    if head_dim_of(c) * c.num_attention_heads != c.hidden_size:
        writer.add_key_length(head_dim_of(c))
        writer.add_value_length(head_dim_of(c))
    writer.add_rope_freq_base(c.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    experts = getattr(c, "num_local_experts", None) or getattr(c, "num_experts", 0)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(c.num_experts_per_tok)
    if hasattr(c, "moe_intermediate_size"):
        writer.add_expert_feed_forward_length(c.moe_intermediate_size)
    if c.model_type == "qwen2_moe":
        writer.add_expert_shared_feed_forward_length(c.shared_expert_intermediate_size)
    if c.model_type == "minimax_m2":
        writer.add_expert_feed_forward_length(c.intermediate_size)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if c.model_type == "glm4_moe":
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_expert_shared_count(c.n_shared_experts)
        writer.add_expert_weights_scale(c.routed_scaling_factor)
        writer.add_expert_weights_norm(c.norm_topk_prob)
        writer.add_leading_dense_block_count(c.first_k_dense_replace)
        writer.add_nextn_predict_layers(drafts)
    if architecture == "granitemoe":
        writer.add_expert_shared_feed_forward_length(c.shared_intermediate_size)
        writer.add_attention_scale(c.attention_multiplier)
        writer.add_embedding_scale(c.embedding_multiplier)
        writer.add_residual_scale(c.residual_multiplier)
        writer.add_logit_scale(c.logits_scaling)
    if c.model_type == "gpt_oss":
        writer.add_expert_feed_forward_length(c.intermediate_size)
        writer.add_sliding_window(c.sliding_window)
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(c.rope_parameters["factor"])
        writer.add_rope_scaling_orig_ctx_len(c.rope_parameters["original_max_position_embeddings"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre({"llama": "smollm", "glm4moe": "glm4", "minimax-m2": "minimax-m2"}.get(architecture, "qwen2"))
    writer.add_token_list([f"t{i}" for i in range(c.vocab_size)])
    writer.add_token_types([1] * c.vocab_size)
    writer.add_token_merges(["t 1", "t 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages[0]['content'] }}")

    def put(tensor_name, value, kind):
        """Adds it; returns what a reader gets."""
        value = value.numpy()
        if value.ndim == 1 or value.shape[0] == 1:  # as llama.cpp's converter keeps Qwen2-MoE's shared gate
            kind = Q.F32
            value = value.reshape(-1)
        if kind in (Q.Q4_K, Q.Q5_K, Q.Q6_K):
            raw = random_blocks(rng, kind, *value.shape)
        else:
            raw = gguf.quants.quantize(value, kind)
        writer.add_tensor(tensor_name, raw, raw_dtype=kind)
        wide = gguf.quants.dequantize(raw, kind)
        return torch.from_numpy(np.array(wide if kind in (Q.F32, Q.BF16, Q.MXFP4) else wide.astype(np.float16), dtype=F32))

    heads = {"attn_q": c.num_attention_heads, "attn_k": c.num_key_value_heads}
    state, wide = original_names(model), {}
    for key, value in state.items():
        words = key.split(".")
        if not key.startswith("model.layers."):
            top = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}[key]
            wide[key] = put(f"{top}.weight", value, kinds.get(top, kinds[""]))
        elif ".experts." not in key:
            if words[-1] == "e_score_correction_bias":
                wide[key] = put(f"blk.{words[2]}.exp_probs_b.bias", value, Q.F32)
                continue
            part = LAYER[".".join(words[3:-1])]
            if architecture in ("gpt-oss", "glm4moe") and part == "ffn_norm":
                part = "post_attention_norm"
            if part in heads and architecture in ("llama", "granitemoe"):  # as llama.cpp's converter orders rows
                h = heads[part]
                permuted = value.reshape(h, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
                got = put(f"blk.{words[2]}.{part}.weight", permuted, kinds.get(part, kinds[""]))
                wide[key] = got.reshape(h, -1, 2, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
            else:
                wide[key] = put(f"blk.{words[2]}.{part}.{words[-1]}", value, kinds.get(part, kinds[""])).reshape(value.shape)
    moe, w1, w3, w2 = expert_names(c)
    if drafts:
        put(f"blk.{c.num_hidden_layers}.nextn.enorm.weight", torch.ones(c.hidden_size), Q.F32)
        put(f"blk.{c.num_hidden_layers}.attn_norm.weight", torch.ones(c.hidden_size), Q.F32)
    for layer in range(getattr(c, "first_k_dense_replace", 0), c.num_hidden_layers if experts else 0):
        prefix = f"model.layers.{layer}.{moe}.experts."
        for w, part in ((w1, "ffn_gate"), (w2, "ffn_down"), (w3, "ffn_up")):
            keys = [f"{prefix}{e}.{w}.weight" for e in range(experts)]
            if stacked:
                got = put(f"blk.{layer}.{part}_exps.weight", torch.stack([state[k] for k in keys]), kinds.get(part, kinds[""]))
            else:
                got = [put(f"blk.{layer}.{part}.{e}.weight", state[k], kinds.get(part, kinds[""])) for e, k in enumerate(keys)]
            wide |= dict(zip(keys, got))
            biases = [k.replace(".weight", ".bias") for k in keys]
            if biases[0] in state:
                wide |= dict(zip(biases, put(f"blk.{layer}.{part}_exps.bias", torch.stack([state[k] for k in biases]), Q.F32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    load_original(model, wide)
    model.tie_weights()
    expect(folder, model)


def write_ggml_blocks():
    """Rows of every quantized type, raw, and what the gguf package makes of them."""
    if not wanted("ggml_blocks"):
        return
    folder, rng, out = new_folder("ggml_blocks"), np.random.default_rng(5), {}
    values = rng.standard_normal((2, 512)).astype(F32)
    for kind in (Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.Q5_0, Q.Q5_1, Q.MXFP4, Q.Q2_K, Q.Q3_K, Q.IQ4_NL, Q.IQ4_XS):
        unquantizable = kind in (Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.Q2_K, Q.Q3_K, Q.IQ4_NL, Q.IQ4_XS)
        rows = random_blocks(rng, kind, *values.shape) if unquantizable else gguf.quants.quantize(values, kind)
        out[f"{kind.name}.raw"] = torch.from_numpy(np.ascontiguousarray(rows).view(np.uint8).copy())
        out[kind.name] = torch.from_numpy(np.array(gguf.quants.dequantize(rows, kind), dtype=F32))
    save_file(out, folder / "blocks.safetensors")


def compressed(strategy, dynamic=True, **more):
    weights = {"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": True, "dynamic": False}
    inputs = {"num_bits": 8, "type": "float", "strategy": "token" if dynamic else "tensor", "symmetric": True, "dynamic": dynamic}
    return {"quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights | more, "input_activations": inputs}},
            "ignore": ["lm_head"]}


def rope(kind, **more):
    return dict(num_hidden_layers=1, rope_parameters=dict(rope_type=kind, rope_theta=100.0, **more))


@torch.no_grad()
def main():
    transformers.logging.set_verbosity_error()
    save("llama_float32", llama(torch.float32), torch.float32, fp8_kv=True)
    save("llama_tied_bias", llama(tie_word_embeddings=True, attention_bias=True, num_key_value_heads=4, head_dim=24))
    save("llama_float16_sharded", llama(torch.float16), torch.float16, max_shard_size="12KB")
    save("llama_rope_linear", llama(**rope("linear", factor=4.0)))
    save("llama_rope_dynamic", llama(**rope("dynamic", factor=4.0)))
    save("llama_rope_llama3", llama(**rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                           original_max_position_embeddings=16), head_dim=16))
    save("llama_rope_yarn", llama(**rope("yarn", factor=4.0, original_max_position_embeddings=32), head_dim=16))
    save("mistral_window", mistral(sliding_window=8))
    save("mixtral_fused", mixtral(sliding_window=None), save_original_format=False)

    if wanted("mixtral_transformers4"):
        model = mixtral(sliding_window=16, num_hidden_layers=1)
        folder = new_folder("mixtral_transformers4")
        expect(folder, model)
        write_sharded(folder, {k: v.to(torch.bfloat16) for k, v in original_names(model).items()}, 3)
        (folder / "config.json").write_text(json.dumps(old_config(model), indent=1))
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5]}))

    # Groups of 7 and of 3 query heads; a window in some layers only.
    save("qwen2_tied", qwen2(tie_word_embeddings=True, hidden_size=112, num_attention_heads=14))
    save("qwen2_windows", qwen2(num_hidden_layers=3, use_sliding_window=True, sliding_window=9, max_window_layers=1))
    save("qwen3_dense", qwen3(num_attention_heads=6, head_dim=16), fp8_kv=True)
    save("qwen3_tied_bias", qwen3(num_attention_heads=3, num_key_value_heads=1, head_dim=24, tie_word_embeddings=True,
                                  attention_bias=True, num_hidden_layers=1))
    # Layer 1 of 3 is dense.
    save("qwen3_moe", qwen3_moe(num_hidden_layers=3, num_attention_heads=6, head_dim=16, mlp_only_layers=[1]))
    save("qwen3_moe_fused", qwen3_moe(num_hidden_layers=1, norm_topk_prob=False), save_original_format=False)
    save("olmoe", olmoe(num_attention_heads=6, num_key_value_heads=2, hidden_size=48))

    # A layer behind the last, as published files have it, to guess further tokens.
    save("glm4_moe", glm4_moe(num_hidden_layers=3), fp8_kv=False)
    add_draft_layer("glm4_moe", 3)
    save("glm4_moe_norms", glm4_moe(num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, use_qk_norm=True, norm_topk_prob=False,
                                    attention_bias=False, first_k_dense_replace=0), save_original_format=False)
    save("minimax_m2", minimax_m2())
    # Layer 1 of 3 is dense.
    save("qwen2_moe", qwen2_moe(num_hidden_layers=3, num_attention_heads=14, num_key_value_heads=2, hidden_size=112, mlp_only_layers=[1]))

    save("granite", granite(attention_bias=True))
    save("granitemoe", granite_moe())
    save("granitemoeshared", granite_moe(shared=56), save_original_format=False)

    plain = dict(num_hidden_layers=1, tie_word_embeddings=False)
    attention = "model.layers.0.self_attn."
    fp8("fp8_autofp8", llama(**plain), "tensor",
        {"quantization_config": {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["*lm_head"],
                                 "kv_cache_scheme": {"num_bits": 8, "type": "float"}}},
        static="input_scale", scale_shape=[1], kv=[(attention + "k_scale", 0.02), (attention + "v_scale", [0.03, 0.04])])
    # A down projection of more than 128 channels: its input has one scale a token all the same.
    fp8("fp8_compressed_channel", mixtral(**plain, sliding_window=None, hidden_size=96, intermediate_size=200), "channel",
        {"quantization_config": compressed("channel")}, scale_dtype=torch.bfloat16, keep=("lm_head",))
    fp8("fp8_compressed_tensor", llama(**plain), "tensor", {"compression_config": compressed("tensor", dynamic=False)},
        static="input_scale", kv=[(attention + "k_proj.output_scale", 0.02), (attention + "v_proj.output_scale", 0.03)])
    fp8("fp8_compressed_block", llama(**plain, hidden_size=160, head_dim=40), "block",
        {"quantization_config": compressed("block", block_structure=[128, 128]), "head_dim": 40})
    # Static KV scales that are too small: what lies beyond 448 of them saturates.
    fp8("fp8_modelopt", mixtral(**plain, sliding_window=None), "tensor", {}, static="input_scale",
        kv=[(attention + "k_proj.k_scale", 0.002), (attention + "v_proj.v_scale", 0.003)],
        files={"hf_quant_config.json": {"producer": {"name": "modelopt"}, "quantization": {
            "quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head", "*block_sparse_moe.gate"]}}})
    fp8("fp8_deepseek_block", mixtral(**plain, sliding_window=None, hidden_size=192, intermediate_size=136,
                                      num_local_experts=2), "block",
        {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                 "weight_block_size": [128, 128]}}, suffix="weight_scale_inv")
    fp8("fp8_fused_block", mixtral(**plain, sliding_window=None, hidden_size=160, intermediate_size=128, head_dim=40,
                                   num_local_experts=2), "block",
        {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
         "head_dim": 40}, suffix="weight_scale_inv", layout=fused)
    fp8("fp8_fused_tensor", mixtral(**plain, sliding_window=None), "tensor",
        {"quantization_config": {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}},
        suffix="weight_scale_inv", static="activation_scale", layout=fused)

    fp8("fp8_qwen3_moe_block", qwen3_moe(**plain, hidden_size=192, moe_intermediate_size=136, num_experts=3, num_experts_per_tok=2,
                                         head_dim=40), "block",
        {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                 "weight_block_size": [128, 128]}}, suffix="weight_scale_inv")

    # As GLM's -FP8 files: a scale a channel, of shared experts and dense layers too.
    fp8("fp8_glm4_moe_channel", glm4_moe(num_hidden_layers=2, hidden_size=64, moe_intermediate_size=40, num_attention_heads=6, num_key_value_heads=2),
        "channel", {"quantization_config": compressed("channel"), "head_dim": 24, "partial_rotary_factor": 0.5, "attention_bias": True,
                    "n_routed_experts": 6, "n_shared_experts": 2, "moe_intermediate_size": 40, "routed_scaling_factor": 1.75,
                    "norm_topk_prob": True, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_nextn_predict_layers": 0})
    fp8("fp8_fbgemm", llama(**plain), "channel", {"quantization_config": {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0,
                                                                          "modules_to_not_convert": ["lm_head"]}})
    # As published: with code of its own, rotary_dim, a router left in 16 bit.
    fp8("fp8_minimax_m2_block", minimax_m2(**plain, hidden_size=192, intermediate_size=136, num_attention_heads=12, num_key_value_heads=2, head_dim=16,
                                           num_local_experts=3, num_experts_per_tok=2), "block",
        {"auto_map": {"AutoConfig": "configuration_minimax_m2.MiniMaxM2Config"}, "head_dim": 16, "rotary_dim": 8, "scoring_func": "sigmoid",
         "use_qk_norm": True, "qk_norm_type": "per_layer", "use_routing_bias": True, "shared_intermediate_size": 0, "attn_type_list": [1],
         "quantization_config": {"quant_method": "fp8", "fmt": "float8_e4m3fn", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
                                 "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]}}, suffix="weight_scale_inv")

    # Act order; a group a row; experts; both zeros of compressed-tensors.
    packed("gptq_qwen2", qwen2(torch.float16, **plain, hidden_size=64, intermediate_size=96, num_attention_heads=8), "gptq",
           {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False, "checkpoint_format": "gptq"}, shuffled=True)
    packed("gptq_v2_8bit_llama", llama(torch.float16, **plain), "gptq_v2",
           {"quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": False, "checkpoint_format": "gptq_v2"}, bits=8, group=-1)
    packed("awq_qwen3_moe", qwen3_moe(torch.float16, **plain, hidden_size=64, moe_intermediate_size=32, head_dim=16), "awq",
           {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm", "modules_to_not_convert": ["mlp.gate"]})
    for name, asymmetric in (("packed_llama", False), ("packed_zeros_llama", True)):
        packed(name, llama(torch.float16, **plain), "compressed-tensors",
               {"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
                "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": None, "weights": {
                    "num_bits": 4, "type": "int", "strategy": "group", "group_size": 16, "symmetric": not asymmetric}}}},
               group=16, asymmetric=asymmetric)

    # The limit of its SwiGLU is reached.
    save("gpt_oss", gpt_oss(hidden_size=40, intermediate_size=24), fp8_kv=True)
    mxfp4("mxfp4_gpt_oss", gpt_oss(num_attention_heads=7, num_key_value_heads=1, num_hidden_layers=2))
    # Of a shape that a GPU takes.
    mxfp4("mxfp4_gpt_oss_wide", gpt_oss(hidden_size=64, num_attention_heads=8, num_key_value_heads=1, head_dim=64, num_hidden_layers=2))
    write_mxfp4_rows()

    write_ggml_blocks()
    write_gguf("gguf_mxfp4_gpt_oss", gpt_oss(num_attention_heads=8, num_key_value_heads=1, head_dim=16, num_hidden_layers=2, swiglu_limit=7.0),
               {"": Q.Q8_0, "ffn_gate_inp": Q.F32, "ffn_gate": Q.MXFP4, "ffn_up": Q.MXFP4, "ffn_down": Q.MXFP4})
    write_gguf("gguf_qwen2", qwen2(tie_word_embeddings=True, hidden_size=448, intermediate_size=64, num_attention_heads=7,
                                   num_key_value_heads=1, num_hidden_layers=1),
               {"": Q.Q8_0, "attn_q": Q.Q4_0, "attn_v": Q.F16})
    write_gguf("gguf_qwen3", qwen3(**plain, hidden_size=64, intermediate_size=96, num_attention_heads=6, head_dim=16),
               {"": Q.Q8_0, "attn_q": Q.Q4_1})
    write_gguf("gguf_qwen3_moe", qwen3_moe(**plain, hidden_size=64, moe_intermediate_size=32), {"": Q.Q8_0, "ffn_gate_inp": Q.F32})
    write_gguf("gguf_olmoe", olmoe(**plain, hidden_size=64, intermediate_size=32), {"": Q.Q8_0, "ffn_gate_inp": Q.F32})
    write_gguf("gguf_glm4_moe", glm4_moe(num_hidden_layers=2, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, head_dim=16),
               {"": Q.Q8_0, "ffn_gate_inp": Q.F32, "attn_k": Q.Q5_1})
    write_gguf("gguf_minimax_m2", minimax_m2(**plain, hidden_size=64, intermediate_size=32, num_attention_heads=12, head_dim=16),
               {"": Q.Q8_0, "ffn_gate_inp": Q.F32, "ffn_up": Q.Q5_0})
    write_gguf("gguf_qwen2_moe", qwen2_moe(**plain, hidden_size=64, moe_intermediate_size=32, shared_expert_intermediate_size=96),
               {"": Q.Q8_0, "ffn_gate_inp": Q.F32})
    write_gguf("gguf_granitemoe", granite_moe(num_hidden_layers=1, shared=96, hidden_size=64, intermediate_size=32, num_attention_heads=8),
               {"": Q.Q8_0, "ffn_gate_inp": Q.F32})
    write_gguf("gguf_llama", llama(tie_word_embeddings=True, hidden_size=64, intermediate_size=96, num_hidden_layers=1),
               {"": Q.Q4_1, "token_embd": Q.Q8_0, "attn_q": Q.Q4_0, "attn_k": Q.F16, "attn_v": Q.BF16, "ffn_down": Q.F32})
    write_gguf("gguf_k_quants", llama(**plain, hidden_size=256, intermediate_size=256, num_attention_heads=4),
               {"": Q.Q4_K, "token_embd": Q.Q8_0, "output": Q.Q8_0, "attn_q": Q.Q5_K, "attn_v": Q.Q6_K, "ffn_down": Q.Q6_K})
    for name, stacked in (("gguf_mixtral", True), ("gguf_mixtral_per_expert", False)):
        write_gguf(name, mixtral(**plain, sliding_window=None, hidden_size=64, intermediate_size=32),
                   {"": Q.Q8_0, "ffn_gate_inp": Q.F32, "attn_q": Q.Q4_0}, stacked)


main()
