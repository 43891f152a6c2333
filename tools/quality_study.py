#!/usr/bin/env python3
"""The table of docs/quality.md from nothing: one model in 16 bit, in Hearth's FP8 layouts, each with an FP8 cache, and under integer methods;
perplexity of a text and answers to multiple-choice questions, each against 16 bit, window by window and question by question.

    python tools/quality_study.py build/hearth SMOLLM2 heldout.txt questions.jsonl WORK --calibration calibration.txt [--judge venv/bin/python]

SMOLLM2 is a folder of 16-bit safetensors (tools/gguf_to_safetensors.py makes one of a GGUF file). Every step leaves a record in WORK/steps, with
its command, its commit and what it took; a second run does only what is missing, or was made by other commands. --judge names a Python with the
libraries of the integer methods (torch, transformers, bitsandbytes, llmcompressor): their weights are multiplied out, written in 16 bit and judged
by Hearth. So only what they do to weights counts, not to activations; LLM.int8() and SmoothQuant are not here.
"""
import argparse
import hashlib
import json
import pathlib
import platform
import shutil
import subprocess
import sys
import time

KV = ["--kv-cache-dtype", "fp8"]
# Name of a row, what makes its model (None: the model itself), flags of `hearth eval`.
ROWS = [("16 bit", None, []), ("16 bit, FP8 KV", None, KV)]
for name, made in (("FP8, channel and token", "channel"), ("FP8, static", "static"), ("FP8, 128x128 blocks", "block")):
    ROWS += [(name, made, []), (name + ", FP8 KV", made, KV)]
INTEGER = [("NF4 (weights)", "nf4", []), ("GPTQ 8 bit (weights)", "gptq8", []), ("GPTQ 4 bit, groups of 128 (weights)", "gptq4", [])]


class Steps:
    def __init__(self, folder, commit):
        self.folder, self.commit = folder, commit
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, name, command, output, inputs):
        """`command` makes `output`, unless a record says that the same command made it of the same files."""
        command = [str(word) for word in command]
        record = self.folder / f"{name}.json"
        wanted = {"command": command, "inputs": {str(path): digest(path) for path in inputs}}
        if record.exists() and output.exists():
            done = json.loads(record.read_text())
            if {key: done[key] for key in wanted} == wanted:
                return done
        if output.is_dir():
            shutil.rmtree(output)
        output.unlink(missing_ok=True)
        print(f"{name}: {' '.join(command)}", file=sys.stderr, flush=True)
        begin = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not output.exists():
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        wanted |= {"commit": self.commit, "machine": f"{platform.machine()}, {cpu()}", "seconds": round(time.monotonic() - begin, 1)}
        record.write_text(json.dumps(wanted, indent=1) + "\n")
        return wanted


def cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "unknown CPU")


def digest(path):
    """Of a file: its content's; of a folder: its files' names and sizes, and its config's content."""
    path = pathlib.Path(path)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    listed = sorted((file.name, file.stat().st_size) for file in path.iterdir())
    return hashlib.sha256((json.dumps(listed) + (path / "config.json").read_text()).encode()).hexdigest()[:16]


def measure(a, steps, row):
    name, made, flags = row
    folder = a.model
    if made in ("channel", "static", "block"):
        folder = a.work / made
        calibrate = ["--calibrate", a.calibration, "--calibration-tokens", a.calibration_tokens] if made == "static" else []
        steps.run(made, [a.hearth, "quantize", a.model, folder, "--scheme", made, *calibrate], folder, [a.model, *([a.calibration] if calibrate else [])])
    elif made:
        folder = a.work / made
        command = [a.judge, __file__, "--weights", made, a.model, folder, a.calibration]
        steps.run(made, command, folder, [a.model, a.calibration])
    key = (made or "16bit") + ("_kv" if flags else "")
    out = {"name": name, "files": {}}
    for what, command, source in (("perplexity", ["perplexity", a.text, "--window", "1024"], a.text), ("choices", ["choices", a.questions], a.questions)):
        figures = a.work / f"{key}.{what}.json"
        common = ["--model", folder, "--device", a.device, "--dtype", a.dtype, *flags, "--json", figures]
        steps.run(f"{key}.{what}", [a.hearth, "eval", *command, *common], figures, [source, folder])
        out["files"][what] = figures
    return out


def table(a, rows):
    """Markdown; differences as `hearth eval compare` has them."""
    lines = ["| | perplexity | over 16 bit | accuracy | over 16 bit | log-probabilities apart, mean |", "|---|---|---|---|---|---|"]
    base = rows[0]["files"]
    for row in rows:
        figures = {what: json.loads(path.read_text()) for what, path in row["files"].items()}
        cells = [row["name"], f"{figures['perplexity']['perplexity']:.4f}", "", f"{100 * figures['choices']['accuracy']:.1f}%", "", ""]
        if row is not rows[0]:
            said = {what: subprocess.run([a.hearth, "eval", "compare", base[what], path], capture_output=True, text=True, check=True).stdout
                    for what, path in row["files"].items()}
            words = said["perplexity"].split()
            cells[2] = f"{words[1].rstrip('%')}% ± {words[3].rstrip('%')}"
            answers = said["choices"].splitlines()
            cells[4] = answers[0].split(": ", 1)[1].replace("+-", "±")
            cells[5] = next(line.split()[4] for line in answers if line.startswith("log-probabilities"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# The integer methods' half, run by --judge's Python: weights quantized by the method's own library, multiplied out, written in the model's own type.

def dequantized(method, model, tokenizer, calibration):
    import torch

    linears = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and "lm_head" not in name}
    if method == "nf4":
        import bitsandbytes.functional as nf

        for module in linears.values():
            packed, state = nf.quantize_4bit(module.weight.data, quant_type="nf4", blocksize=64)
            module.weight.data = nf.dequantize_4bit(packed, state).to(module.weight.dtype)
        return
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import GPTQModifier

    bits = int(method[-1])
    ids = tokenizer(pathlib.Path(calibration).read_text()[:400_000], add_special_tokens=False)["input_ids"]
    windows = [ids[i:i + 512] for i in range(0, 64 * 512, 512)]
    data = Dataset.from_dict({"input_ids": windows, "attention_mask": [[1] * len(w) for w in windows]})
    args = QuantizationArgs(num_bits=bits, type="int", symmetric=True, **({"strategy": "group", "group_size": 128} if bits == 4 else {"strategy": "channel"}))
    recipe = GPTQModifier(config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=args)}, ignore=["lm_head"])
    oneshot(model=model, dataset=data, recipe=recipe, max_seq_length=512, num_calibration_samples=len(windows))
    for module in linears.values():
        scale = module.weight_scale.data.float()
        group = module.weight.shape[1] // scale.shape[1]
        assert group * scale.shape[1] == module.weight.shape[1], "a group that is not whole"
        spread = scale.repeat_interleave(group, 1)
        module.weight.data = (torch.round(module.weight.data.float() / spread).clamp(-2 ** (bits - 1), 2 ** (bits - 1) - 1) * spread).to(module.weight.dtype)


def write_weights(method, source, out, calibration):
    import torch
    import transformers
    from safetensors.torch import load_file, save_file

    source, out = pathlib.Path(source), pathlib.Path(out)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    dequantized(method, model, transformers.AutoTokenizer.from_pretrained(source), calibration)
    stored = load_file(source / "model.safetensors")
    made = model.state_dict()
    state = {name: made[name].to(old.dtype).contiguous() for name, old in stored.items()}
    out.mkdir()
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, out / file.name)
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})


def main():
    if sys.argv[1:2] == ["--weights"]:
        return write_weights(*sys.argv[2:])
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("hearth", "model", "text", "questions", "work"):
        p.add_argument(name, type=pathlib.Path)
    p.add_argument("--calibration", type=pathlib.Path, required=True, help="text, for static scales and GPTQ")
    p.add_argument("--calibration-tokens", type=int, default=30000, help="of static scales")
    p.add_argument("--judge", help="a Python with the integer methods' libraries")
    p.add_argument("--device", default="auto")
    p.add_argument("--dtype", default="float16")
    p.add_argument("--only", help="rows whose names contain this; 16 bit always")
    a = p.parse_args()
    a.hearth = a.hearth.resolve()
    commit = subprocess.run([a.hearth, "version"], capture_output=True, text=True, check=True).stdout.strip()
    steps = Steps(a.work / "steps", commit)
    wanted = [row for row in ROWS + (INTEGER if a.judge else []) if row is ROWS[0] or not a.only or a.only in row[0]]
    rows = []
    for row in wanted:
        rows.append(measure(a, steps, row))
        (a.work / "table.md").write_text(table(a, rows) + "\n")
    print(table(a, rows))
    print(f"\n{commit}, {cpu()}, {a.device}, {a.dtype}")


main()
