#!/usr/bin/env python3
"""Writes tests/golden/cpu/fp8.json: the FP8 recipe of src/ops/ops.h in NumPy, for quantize_test.cc.

Made with Python 3.11 and NumPy 2.3.5. Rounding to e4m3 is a search in the table of its values, so that it shares nothing with the
bit arithmetic under test; sums are in float64. Tensors are hexadecimal strings of their little-endian bytes.
"""
import json
import pathlib

import numpy as np

F = np.float32
GROUP = 128
# Positive finite values in order of their codes 0x00 .. 0x7E.
VALUES = np.array([(m / 8) * 2.0**-6 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7) for e in range(16) for m in range(8)][:127])
MIDDLES = (VALUES[1:] + VALUES[:-1]) / 2


def e4m3(x):
    """Codes of float32 values: nearest, ties to the even code, saturating at 448."""
    magnitude = np.abs(x.astype(np.float64))
    code = np.searchsorted(MIDDLES, magnitude, side="left")  # on a tie: the lower code
    tie = (code < 126) & (magnitude == MIDDLES[np.minimum(code, 125)])
    code = np.where(tie & (code % 2 == 1), code + 1, code)
    return (code | np.where(np.signbit(x), 0x80, 0)).astype(np.uint8)


def value(codes):
    return np.where(codes & 0x80, -1.0, 1.0) * VALUES[codes & 0x7F]


def quantize(x, most=448):
    """One group: codes and the float32 scale, which brings its largest to `most`."""
    largest = F(np.max(np.abs(x)))
    if largest == 0:
        return e4m3(x), F(1)
    return e4m3((x * (F(most) / largest)).astype(F)), F(largest / F(most))


def quantize_activation(x, width, most=448):
    """[tokens, dim] -> codes, scales [groups of `width`, tokens]."""
    codes, scales = np.zeros(x.shape, np.uint8), np.zeros((-(-x.shape[1] // width), x.shape[0]), F)
    for t in range(x.shape[0]):
        for g in range(scales.shape[0]):
            columns = slice(g * width, (g + 1) * width)
            codes[t, columns], scales[g, t] = quantize(x[t, columns], most)
    return codes, scales


def quantize_weight(w, rows, columns):
    """Blocks of rows x columns -> codes, scales [row blocks, column blocks]."""
    codes, scales = np.zeros(w.shape, np.uint8), np.zeros((-(-w.shape[0] // rows), -(-w.shape[1] // columns)), F)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            block = np.s_[i * rows:(i + 1) * rows, j * columns:(j + 1) * columns]
            codes[block], scales[i, j] = quantize(w[block])
    return codes, scales


def product(x_codes, x_scales, w_codes, w_scale):
    """w_scale(row, group). Float64 throughout: the test allows for float32's rounding."""
    out = np.zeros((x_codes.shape[0], w_codes.shape[0]))
    for g in range(-(-x_codes.shape[1] // GROUP)):
        k = slice(g * GROUP, (g + 1) * GROUP)
        partial = value(x_codes[:, k]) @ value(w_codes[:, k]).T
        out += partial * x_scales[g if len(x_scales) > 1 else 0].astype(np.float64)[:, None] * np.array([w_scale(r, g) for r in range(w_codes.shape[0])], np.float64)
    return out.astype(F)


def main():
    random = np.random.default_rng(20261122)
    out_dim, in_dim, tokens = 140, 136, 6
    x = random.standard_normal((tokens, in_dim)).astype(F)
    x[1] = 0
    x[2, 5] = 3e4  # an outlier: its neighbours fall among the subnormals
    x[3] *= F(1e-20)
    x[4, 128:] = 0  # only the short group
    x[5] = np.round(x[5] * 16) / 16  # ties
    x[5, 0] = x[5, 128] = 448  # scale 1
    w = random.standard_normal((out_dim, in_dim)).astype(np.float16)
    w[3] = 0
    w[7] *= np.float16(0.001)
    x_codes, x_scales = quantize_activation(x, GROUP)
    x_row_codes, x_row_scales = quantize_activation(x, in_dim, most=112)
    channel, channel_scales = quantize_weight(w.astype(F), 1, in_dim)
    block, block_scales = quantize_weight(w.astype(F), GROUP, GROUP)
    kv = random.standard_normal((5, 72)).astype(F)
    kv_codes, kv_scales = zip(*(quantize(row) for row in kv))
    tensors = {
        "x": x, "x_codes": x_codes, "x_scales": x_scales, "x_row_codes": x_row_codes, "x_row_scales": x_row_scales,
        "w": w,
        "channel_codes": channel, "channel_scales": channel_scales[:, 0],
        "block_codes": block, "block_scales": block_scales,
        "channel_out": product(x_row_codes, x_row_scales, channel, lambda r, g: channel_scales[r, 0]),
        "block_out": product(x_codes, x_scales, block, lambda r, g: block_scales[r // GROUP, g]),
        "kv": kv, "kv_codes": np.array(kv_codes), "kv_scales": np.array(kv_scales),
    }
    names = {"float32": "float32", "float16": "float16", "uint8": "float8_e4m3"}
    golden = {name: {"dtype": names[str(t.dtype)], "shape": list(t.shape), "hex": t.tobytes().hex()} for name, t in tensors.items()}
    path = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/cpu/fp8.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, indent=0) + "\n")


if __name__ == "__main__":
    main()
