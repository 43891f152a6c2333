#!/usr/bin/env python3
"""All that is to be measured on a machine with several GPUs, in one call: the tests of ranks, the sums between GPUs, a step on 1, 2, 4 and
8 ranks, one request alone, and every T x R under load. Each program has a time limit, and one that fails does not keep the others from
running. Writes OUT/*.json, OUT/*.log and OUT/summary.txt.

  several_gpus.py build OUT                    # on all GPUs that are there
  several_gpus.py build OUT --one-gpu          # two ranks on shares of one: tries the scripts
  several_gpus.py build OUT --gpus 4 --dry-run # what would be run
"""
import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# Of bench step: decodes of one, of 64 and of 256 sequences, and a prompt beside 50.
STEPS = "0+1,0+64,0+256,900+50"
# Shapes with random weights: published FP8 of Mixtral 8x7B, and Qwen3-235B-A22B, which one GPU does not hold.
MIXTRAL = ["--fp8"]
QWEN3_235B = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "torch_dtype": "bfloat16", "hidden_size": 4096,
    "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_hidden_layers": 94, "num_attention_heads": 64,
    "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": True,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "vocab_size": 151936, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6,
    "rope_theta": 1e6, "hidden_act": "silu", "tie_word_embeddings": False, "eos_token_id": 151645,
}


def gpus_here():
    found = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return len(found.stdout.splitlines()) if found.returncode == 0 else 0


def powers(most):
    return [1 << i for i in range(most.bit_length()) if 1 << i <= most]


def plan(a, gpus):
    """Name, time limit in seconds, command."""
    hearth, out = a.build / "hearth", a.output
    placement = ["--rank-placement", "one-gpu" if a.one_gpu else "gpus"]
    ranks = [2] if a.one_gpu else powers(gpus)
    fp8 = ["--load-format", "dummy", "--kv-cache-dtype", "fp8", "--max-model-len", "4096", *placement]
    yield "exchange_test", 120, [a.build / "gpu" / "exchange_gpu_test"]
    yield "ranks_test", 300, [a.build / "gpu" / "ranks_gpu_test"]
    yield "exchange_bench", 120, [hearth, "bench", "kernels", "--only", "exchange", "--json", out / "exchange.json"]
    for t in ranks:
        yield f"step_{t}", 180, [hearth, "bench", "step", out / "mixtral", *fp8, "--tensor-parallel-size", t, "--steps", STEPS,
                                 "--json", out / f"step_{t}.json"]
    experiment = [sys.executable, HERE / "experiment.py", hearth]
    sweep = ["--sweep", "2x1"] if a.one_gpu else ["--gpus", gpus]
    seconds = ["--seconds", a.seconds, "--warm-up", 4]
    yield "mixtral", 120 + 1200 * len(ranks), [*experiment, out / "mixtral", out / "mixtral.json", *sweep, "--rates", a.rates, *seconds,
                                                "--", *fp8]
    if gpus >= 4 and not a.one_gpu:
        yield "qwen3_235b", 1200, [*experiment, out / "qwen3_235b", out / "qwen3_235b.json", "--sweep", "4x1", "--rates", "1,2,4,8",
                                    *seconds, "--", *fp8, "--quantization", "fp8"]


def write_models(out):
    subprocess.run([sys.executable, HERE / "make_dummy_mixtral.py", out / "mixtral", *MIXTRAL], check=True)
    subprocess.run([sys.executable, HERE / "make_dummy_mixtral.py", out / "qwen3_235b", "--vocab", str(QWEN3_235B["vocab_size"])], check=True)
    (out / "qwen3_235b" / "config.json").write_text(json.dumps(QWEN3_235B))


def run(name, limit, command, out):
    begin = time.monotonic()
    with open(out / f"{name}.log", "w") as log:
        try:
            child = subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            code = child.wait(limit)
        except OSError as error:
            code = error.strerror
        except subprocess.TimeoutExpired:
            subprocess.run(["kill", "-KILL", "--", f"-{child.pid}"], check=False)
            code = f"stopped after {limit} s"
    return f"{name:16} {'passed' if code == 0 else f'FAILED: {code}':24} {time.monotonic() - begin:7.1f} s"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", type=pathlib.Path, help="the folder with hearth and gpu/")
    p.add_argument("output", type=pathlib.Path)
    p.add_argument("--gpus", type=int, help="default: all that are there")
    p.add_argument("--one-gpu", action="store_true", help="two ranks on one GPU")
    p.add_argument("--only", default="", help="names of parts, with commas between them")
    p.add_argument("--rates", default="16,24,28,32,36,38,40", help="requests a second, of each replica")
    p.add_argument("--seconds", type=float, default=12, help="of each rate that count")
    p.add_argument("--dry-run", action="store_true", help="print what would be run")
    a = p.parse_args()
    gpus = 1 if a.one_gpu else a.gpus or gpus_here()
    if gpus == 0:
        sys.exit("no GPU is here")
    parts = [part for part in plan(a, gpus) if not a.only or part[0] in a.only.split(",")]
    if a.dry_run:
        for name, limit, command in parts:
            print(f"{name} ({limit} s): {shlex.join(str(word) for word in command)}")
        return
    a.output.mkdir(parents=True, exist_ok=True)
    write_models(a.output)
    failed = False
    with open(a.output / "summary.txt", "w") as summary:
        for part in parts:
            line = run(*part, a.output)
            failed |= "FAILED" in line
            print(line, flush=True)
            print(line, file=summary, flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
