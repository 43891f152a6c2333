#!/usr/bin/env python3
"""What FP8 costs: `hearth eval perplexity` of one model in several formats, each against the 16-bit one, window by window.

    python tools/eval_quality.py build/hearth MODEL heldout.txt figures.json --experts 2,3 --judge

The difference of two formats' mean negative log-likelihoods has the standard error that its windows' spread gives: both saw the same text, so it
is far smaller than either's own. --judge adds transformers' figures of a folder's model (it needs torch and transformers 5): the windows are the same.
"""
import argparse
import concurrent.futures
import datetime
import json
import math
import pathlib
import subprocess
import tempfile

FORMATS = {
    "{16}": [],
    "{16}, FP8 KV": ["--kv-cache-dtype", "fp8"],
    "FP8": ["--quantization", "fp8"],
    "FP8, FP8 KV": ["--quantization", "fp8", "--kv-cache-dtype", "fp8"],
}


def hearth(a, flags):
    with tempfile.NamedTemporaryFile("r") as figures:
        command = [a.hearth, "eval", "perplexity", a.text, "--model", a.model, "--device", a.device, "--window", str(a.window), "--json", figures.name, *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr[-1000:]}")
        return json.load(figures)


def judge(a, dtype, experts, window):
    """Each window's tokens scored and their negative log-likelihood, as Hearth's models/perplexity.h has it."""
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() and a.device != "cpu" else "cpu"
    tokenizer = transformers.AutoTokenizer.from_pretrained(a.model)
    tokenizer.backend_tokenizer.encode_special_tokens = True
    ids = torch.tensor(tokenizer.backend_tokenizer.encode(pathlib.Path(a.text).read_text(), add_special_tokens=False).ids)
    config = transformers.AutoConfig.from_pretrained(a.model)
    if experts:
        config.num_experts_per_tok = experts
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model, config=config, dtype=getattr(torch, dtype)).to(device).eval()
    windows = []
    with torch.no_grad():
        for part in ids.split(window):
            if len(part) >= 2:
                logits = model(part[None].to(device)).logits[0, :-1].double()
                nll = torch.nn.functional.cross_entropy(logits, part[1:].to(device), reduction="sum").item()
                windows.append({"scored": len(part) - 1, "nll": nll})
    return {"windows": windows, "tokens": len(ids), "transformers": transformers.__version__, "torch": torch.__version__}


def compare(windows, base):
    """Difference of the mean negative log-likelihoods and its standard error: a ratio's, over windows."""
    scored = sum(w["scored"] for w in windows)
    assert [w["scored"] for w in windows] == [w["scored"] for w in base]
    differences = [(w["scored"], w["nll"] - b["nll"]) for w, b in zip(windows, base)]
    mean = sum(d for _, d in differences) / scored
    n = len(differences)
    return mean, math.sqrt(n / max(n - 1, 1) * sum((d - mean * s) ** 2 for s, d in differences)) / scored


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("hearth")
    p.add_argument("model")
    p.add_argument("text")
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--experts", default="0", help="a token; several with commas; 0 is the model's own number")
    p.add_argument("--dtypes", default="bfloat16", help="16-bit types, the first one FP8's activations between products too")
    p.add_argument("--device", default="auto")
    p.add_argument("--window", type=int, default=1024)
    p.add_argument("--jobs", type=int, default=1, help="measured at once")
    p.add_argument("--judge", action="store_true")
    a = p.parse_args()

    dtypes = a.dtypes.split(",")
    rows = []
    for experts in map(int, a.experts.split(",")):
        for dtype in dtypes:
            for name, flags in FORMATS.items():
                if dtype == dtypes[0] or not flags:
                    more = ["--experts-per-token", str(experts)] if experts else []
                    rows.append({"experts": experts, "format": name.replace("{16}", dtype), "flags": ["--dtype", dtype, *flags, *more]})
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        for row, figures in zip(rows, pool.map(lambda row: hearth(a, row["flags"]), rows)):
            row |= {key: figures[key] for key in ("backend", "tokens", "window", "windows")}
    for experts in map(int, a.experts.split(",") if a.judge else []):
        for dtype in [*dtypes, "float32"]:
            rows.append({"experts": experts, "format": f"{dtype}, transformers", **judge(a, dtype, experts, rows[0]["window"])})
    for row in rows:
        base = next(r for r in rows if r["experts"] == row["experts"])
        assert row["tokens"] == base["tokens"]
        row["scored"] = sum(w["scored"] for w in row["windows"])
        row["perplexity"] = math.exp(sum(w["nll"] for w in row["windows"]) / row["scored"])
        row["difference"], row["standard_error"] = compare(row["windows"], base["windows"])
        print(f"{row['experts']} experts, {row['format']:24}: perplexity {row['perplexity']:.4f}; mean NLL {row['difference']:+.5f} +- {row['standard_error']:.5f}"
              f" = perplexity {100 * math.expm1(row['difference']):+.3f}%", flush=True)
    for row in rows:
        row["nll"] = [round(w["nll"], 4) for w in row.pop("windows")]
    a.out.write_text(json.dumps({"model": a.model, "text": a.text, "date": datetime.date.today().isoformat(), "rows": rows}) + "\n")


main()
