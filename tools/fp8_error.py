#!/usr/bin/env python3
"""Where FP8 hurts a dense model: the error of every linear layer's product against float64, and what the model pays for each part of the recipe.

    python tools/fp8_error.py MODEL TEXT OUT.json --windows 8 --length 512 --keep 'down_proj'

A second run does what is missing in OUT.json. Perplexity tells small differences only on much text, for every rounding that falls otherwise moves it;
the divergence of the next token's probabilities from those in 16 bit (Kullback and Leibler's, in nats) is far steadier.

MODEL is a folder of 16-bit safetensors. Products are computed here, in PyTorch on the CPU, as Hearth's kernel computes them: weights in e4m3 with
a scale a channel, rows of activations in e4m3 with a scale a token (112 at most), sums in float16 over 1,024 of K. A step of the tensor core (32 of
K) is modelled as an exact sum that is added to float16 and rounded to the nearest, or toward zero. Run with torch 2.15.0, transformers 5.23.0.
"""
import argparse
import hashlib
import json
import math
import pathlib
import re
import time

import torch
import transformers

STEP, SUM, NORM = 32, 1024, 512  # of K: a step of the tensor core, one float16 sum, what weight units are taken over
# name -> largest value of a row of activations, type of sums, their rounding
RECIPES = {
    "float32 sums": (112.0, "float32", "nearest"),
    "float16 sums": (112.0, "float16", "nearest"),
    "float16 sums, toward zero": (112.0, "float16", "zero"),
    "float32 sums, rows to 448": (448.0, "float32", "nearest"),
}


def to_e4m3(x):
    """Rounded to nearest even, saturating; as float32."""
    return x.clamp(-448, 448).to(torch.float8_e4m3fn).float()


def scaled(x, most):
    """Rows in e4m3 and their scales."""
    largest = x.abs().amax(1, keepdim=True)
    inverse = torch.where(largest > 0, most / largest, torch.ones_like(largest))
    return to_e4m3(x * inverse), 1 / inverse


def weight_units(q):
    """A power of two a row, in which no float16 sum of 1,024 overflows (src/cuda/weight_units.h)."""
    padded = torch.nn.functional.pad(q, (0, -q.shape[1] % NORM))
    norm = padded.reshape(len(q), -1, NORM).square().sum(2).amax(1, keepdim=True)
    return torch.exp2(torch.ceil(torch.log2(norm * (112.0 / 60000) ** 2 * SUM * SUM / NORM) / 2))


def to_float16(x, rounding):
    if rounding == "nearest":
        return x.half().float()
    eleven_bits = (x.view(torch.int32) & ~0x1FFF).view(torch.float32)
    return torch.trunc(eleven_bits * 2.0 ** 24) * 2.0 ** -24  # float16's smallest step


def float16_sums(x, w, rounding):
    """x w^T, in sums of float16 over 1,024 of K; these are added up in float16 of a larger range."""
    total = torch.zeros(len(x), len(w))
    for begin in range(0, x.shape[1], SUM):
        sum_ = torch.zeros(len(x), len(w))
        for k in range(begin, min(begin + SUM, x.shape[1]), STEP):
            sum_ = to_float16(torch.addmm(sum_, x[:, k:k + STEP], w[:, k:k + STEP].T), rounding)
        assert sum_.isfinite().all()
        total = to_float16((total + sum_) / 64, "nearest") * 64
    return total


class Fp8Linear:
    """A linear layer's weights in e4m3; calls multiply by a recipe."""

    def __init__(self, weight):
        w = weight.float()
        inverse = 448 / w.abs().amax(1, keepdim=True)
        unit = weight_units(w * inverse)
        self.plain, self.plain_scale = to_e4m3(w * inverse), 1 / inverse
        self.units, self.units_scale = to_e4m3(w * (inverse / unit)), unit / inverse

    def __call__(self, x, recipe):
        most, sums, rounding = RECIPES[recipe]
        q, scale = scaled(x, most)
        if sums == "float16":
            return float16_sums(q, self.units, rounding) * self.units_scale.T * scale
        return q @ self.plain.T * self.plain_scale.T * scale


def relative(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


def short(value):
    return {k: short(v) for k, v in value.items()} if isinstance(value, dict) else float(f"{value:.4g}")


def observe(x, module, fp8):
    """A layer's product by every recipe against float64, and what becomes of its rows in e4m3."""
    exact = x.double() @ module.weight.double().T
    q, scale = scaled(x, 112.0)
    lost = ((q == 0) & (x != 0)).float().mean(1)
    rows = (q * scale - x).norm(dim=1) / x.norm(dim=1).clamp_min(1e-30)
    largest = x.abs().amax(1)
    out = {"largest": largest.max().item(), "median_row_largest": largest.median().item(), "zeros": lost.mean().item(), "zeros_worst_row": lost.max().item(),
           "subnormal": ((q.abs() < 2.0 ** -6) & (x != 0)).float().mean().item(), "row_error": rows.mean().item(), "worst_row_error": rows.max().item(),
           "weights_zeros": ((fp8.units == 0) & (module.weight != 0)).float().mean().item(), "error": {}, "sums": {}, "worst_row": {}}
    for recipe, (most, sums, _) in RECIPES.items():
        y = fp8(x, recipe)
        out["error"][recipe] = relative(y, exact)
        out["worst_row"][recipe] = ((y.double() - exact).norm(dim=1) / exact.norm(dim=1)).max().item()
        if sums == "float16":  # beside the same e4m3 values summed exactly
            own = q.double() @ fp8.units.double().T * fp8.units_scale.double().T * scale.double()
            out["sums"][recipe] = relative(y, own)
    return short(out)


def difference(found, base):
    """Of means, and its standard error from the windows' own differences."""
    d = torch.tensor([a - b for a, b in zip(found, base)], dtype=torch.float64)
    return d.mean().item(), d.std().item() / math.sqrt(len(d))


def compare(nll, base):
    """Perplexities' in percent."""
    mean, error = difference(nll, base)
    return 100 * math.expm1(mean), 100 * error


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("text", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--windows", type=int, default=8)
    p.add_argument("--length", type=int, default=512)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--keep", action="append", default=[], metavar="REGEX", help="of layers' names: what float32 sums cost with these in 16 bit")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(a.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
    ids = tokenizer(a.text.read_text()[:16 * a.windows * a.length], add_special_tokens=False)["input_ids"]
    windows = torch.tensor(ids[:a.windows * a.length]).reshape(a.windows, a.length)
    layers = {name: (module, Fp8Linear(module.weight)) for name, module in model.named_modules()
              if isinstance(module, torch.nn.Linear) and name != "lm_head"}
    what = {"model": a.model.name, "torch": torch.__version__, "transformers": transformers.__version__, "windows": a.windows, "length": a.length,
            "text": hashlib.sha256(windows.numpy().tobytes()).hexdigest()}
    out = json.loads(a.out.read_text()) if a.out.exists() else {**what, "layers": {}, "passes": {}}
    if any(out[k] != v for k, v in what.items()):
        raise SystemExit(f"{a.out}: is of another model, text or library")

    def replace(make):
        for name, (module, fp8) in layers.items():
            module.forward = make(name, module, fp8)

    exact = []  # log-probabilities in 16 bit, window by window

    def measure(title, windows):
        begin = time.monotonic()
        nll, kl = [], []
        for i, window in enumerate(windows):
            logs = torch.log_softmax(model(window[None]).logits[0, :-1], 1)
            nll.append(torch.nn.functional.nll_loss(logs, window[1:]).item())
            if title == "16 bit":
                exact.append(logs)
            elif exact:
                kl.append(torch.nn.functional.kl_div(logs, exact[i], log_target=True, reduction="batchmean").item())
        print(f"{title}: {time.monotonic() - begin:.0f} s, perplexity {math.exp(sum(nll) / len(nll)):.4f}, divergence {sum(kl) / len(windows):.6f}", flush=True)
        return {"nll": nll, "kl": kl}

    def in_16_bit(name, module, fp8):
        return lambda x: torch.nn.functional.linear(x, module.weight, module.bias)

    def observed(name, module, fp8):
        def forward(x):
            out["layers"][name] = observe(x[0], module, fp8)
            return in_16_bit(name, module, fp8)(x)
        return forward

    def in_fp8(recipe, keep=None):
        def make(name, module, fp8):
            if keep and re.search(keep, name):
                return in_16_bit(name, module, fp8)
            bias = 0 if module.bias is None else module.bias
            return lambda x: fp8(x[0], recipe)[None] + bias
        return make

    if not out["layers"]:
        replace(observed)
        measure("layers, over the first window", windows[:1])
    passes = {"16 bit": in_16_bit, **{recipe: in_fp8(recipe) for recipe in RECIPES}}
    passes |= {f"float32 sums, {keep} in 16 bit": in_fp8("float32 sums", keep) for keep in a.keep}
    missing = [title for title in passes if title not in out["passes"]]
    for title, make in passes.items():
        if title in missing or missing and title == "16 bit":
            replace(make)
            out["passes"][title] = measure(title, windows)
        a.out.write_text(json.dumps(out, indent=1) + "\n")
    base, float32 = out["passes"]["16 bit"], out["passes"]["float32 sums"]
    for title in list(out["passes"])[1:]:
        found = out["passes"][title]
        print("%s: perplexity %+.3f%% +- %.3f, divergence %.6f, over float32 sums' %+.6f +- %.6f" %
              (title, *compare(found["nll"], base["nll"]), sum(found["kl"]) / a.windows, *difference(found["kl"], float32["kl"])))


if __name__ == "__main__":
    main()
