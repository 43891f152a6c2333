#!/usr/bin/env python3
"""The table of docs/quality.md from nothing: one model in 16 bit, in Hearth's FP8 layouts, each with an FP8 cache, and under integer methods;
perplexity of a text and answers to questions, each against 16 bit, window by window and question by question.

    python tools/quality_study.py build/hearth MODEL WORK --text heldout.txt --calibration calibration.txt --mmlu FOLDER --gsm8k FOLDER --judge python

MODEL is a folder of 16-bit safetensors (tools/gguf_to_safetensors.py makes one of a GGUF file). What is not given is not measured. Every step leaves
a record in WORK/steps, with its command, its commit and what it took; a second run does only what is missing, or was made by other commands.
--judge names a Python with the libraries of tools/integer_methods.py. Weights of weight-only methods are multiplied out, written in 16 bit and judged
by Hearth; LLM.int8() and SmoothQuant round activations too, so transformers judges them, against its own 16 bit.
"""
import argparse
import hashlib
import json
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time

KV = ["--kv-cache-dtype", "fp8"]
# Name of a row, what makes its model (None: the model itself), flags of `hearth eval`.
ROWS = [("16 bit", None, []), ("16 bit, FP8 KV", None, KV)]
for name, made in (("FP8, channel and token", "channel"), ("FP8, static", "static"), ("FP8, 128x128 blocks", "block")):
    ROWS += [(name, made, []), (name + ", FP8 KV", made, KV)]
WEIGHTS = [("GPTQ 8 bit", "gptq8", []), ("GPTQ 4 bit", "gptq4", []), ("AWQ 4 bit", "awq4", []), ("NF4", "nf4", [])]
JUDGED = [("16 bit, transformers", "16bit"), ("LLM.int8(), transformers", "int8"), ("SmoothQuant W8A8, transformers", "smoothquant")]
HERE = pathlib.Path(__file__).parent


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
                return
        if output.is_dir():
            shutil.rmtree(output)
        output.unlink(missing_ok=True)
        print(f"{name}: {' '.join(command)}", file=sys.stderr, flush=True)
        begin = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not output.exists():
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        wanted |= {"commit": self.commit, "machine": f"{platform.machine()}, {cpu()}", "seconds": round(time.monotonic() - begin, 1)}
        record.write_text(json.dumps(wanted, indent=1) + "\n")
        print(f"{name}: {wanted['seconds']} s", file=sys.stderr, flush=True)


def cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "unknown CPU")


def digest(path):
    """Of a file: its content's; of a folder: its files' names and sizes, and its config's content."""
    path = pathlib.Path(path)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    listed = sorted((file.name, file.stat().st_size) for file in path.iterdir())
    config = path / "config.json"
    return hashlib.sha256((json.dumps(listed) + (config.read_text() if config.exists() else "")).encode()).hexdigest()[:16]


def measures(a):
    """What is measured: its name, the arguments of `hearth eval`, the file or folder they name."""
    limit = ["--limit", a.limit] if a.limit else []
    listed = [("perplexity", ["perplexity", a.text, "--window", 1024], a.text), ("mmlu", ["mmlu", a.mmlu, *limit], a.mmlu),
              ("gsm8k", ["gsm8k", a.gsm8k, *limit], a.gsm8k), ("choices", ["choices", a.questions], a.questions)]
    return [m for m in listed if m[2]]


def measure(a, steps, row):
    """The files of a row's figures, by what was measured."""
    name, made, flags = row
    folder = a.model if made is None else a.work / made
    if made in ("channel", "static", "block"):
        calibrate = ["--calibrate", a.calibration, "--calibration-tokens", a.calibration_tokens] if made == "static" else []
        steps.run(made, [a.hearth, "quantize", a.model, folder, "--scheme", made, *calibrate], folder, [a.model, *([a.calibration] if calibrate else [])])
    elif made:
        command = [a.judge, HERE / "integer_methods.py", "weights", made, a.model, folder, "--calibration", a.calibration]
        steps.run(made, command, folder, [a.model, a.calibration])
    key = (made or "16bit") + ("_kv" if flags else "")
    out = {}
    for what, command, source in measures(a):
        figures = a.work / f"{key}.{what}.json"
        common = ["--model", folder, "--device", a.device, "--dtype", a.dtype, *flags, *([] if what == "perplexity" else a.engine_flags.split()), "--json", figures]
        steps.run(f"{key}.{what}", [a.hearth, "eval", *command, *common], figures, [source, folder])
        out[what] = figures
    return out


def judge(a, steps, method):
    out = a.work / f"transformers_{method}"
    limit = ["--limit", a.judge_limit] if a.judge_limit else []
    command = [a.judge, HERE / "integer_methods.py", "judge", method, a.model, out, "--calibration", a.calibration, "--text", a.text, "--mmlu", a.mmlu, "--dtype", a.dtype, *limit]
    steps.run(f"transformers_{method}", command, out, [a.model, a.text, a.mmlu, a.calibration])
    return {what: out / f"{what}.json" for what in ("perplexity", "mmlu")}


def cells_of(a, what, path, base):
    """A figure, and its difference to the base row's with the difference's standard error."""
    figures = json.loads(path.read_text())
    figure = f"{figures['perplexity']:.4f}" if what == "perplexity" else f"{100 * figures['accuracy']:.2f}%"
    if path == base:
        return [figure, ""]
    said = subprocess.run([a.hearth, "eval", "compare", base, path], capture_output=True, text=True, check=True).stdout
    if what == "perplexity":
        words = said.split()
        return [figure, f"{words[1].rstrip('%')}% ± {words[3].rstrip('%')}"]
    return [figure, said.splitlines()[0].split(": ", 1)[1].replace("+-", "±")]


def table(a, rows):
    """Markdown. A row's base is the first row above it that says 16 bit, and was judged by the same."""
    names = [what for what, _, _ in measures(a)]
    lines = ["| | " + " | ".join(f"{what} | over 16 bit" for what in names) + " |", "|---" * (2 * len(names) + 1) + "|"]
    for name, files in rows:
        base = next((files for other, files in rows if other in ("16 bit", "16 bit, transformers") and ("transformers" in other) == ("transformers" in name)), files)
        cells = [cell for what in names for cell in (cells_of(a, what, files[what], base[what]) if what in files else ["", ""])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("hearth", "model", "work"):
        p.add_argument(name, type=pathlib.Path)
    p.add_argument("--text", type=pathlib.Path, help="for perplexity")
    p.add_argument("--mmlu", type=pathlib.Path, help="folder")
    p.add_argument("--gsm8k", type=pathlib.Path, help="folder")
    p.add_argument("--questions", type=pathlib.Path, help="of `hearth eval choices`")
    p.add_argument("--limit", type=int, help="questions of each subject, or problems")
    p.add_argument("--calibration", type=pathlib.Path, required=True, help="text, for static scales and the integer methods")
    p.add_argument("--calibration-tokens", type=int, default=30000, help="of static scales")
    p.add_argument("--judge", help="a Python with the integer methods' libraries")
    p.add_argument("--judge-limit", type=int, help="questions of each subject where transformers answers")
    p.add_argument("--device", default="auto")
    p.add_argument("--dtype", default="float16")
    p.add_argument("--engine-flags", default="", help="more flags of `hearth eval mmlu`, gsm8k and choices, in one word")
    p.add_argument("--only", default="", help="regular expression: rows in whose names it is found, and 16 bit")
    a = p.parse_args()
    a.hearth = a.hearth.resolve()
    commit = subprocess.run([a.hearth, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    steps = Steps(a.work / "steps", commit)
    wanted = [(row[0], lambda row=row: measure(a, steps, row)) for row in ROWS + (WEIGHTS if a.judge else [])]
    if a.judge and a.text and a.mmlu:
        wanted += [(name, lambda method=method: judge(a, steps, method)) for name, method in JUDGED]
    rows, failed = [], []
    for name, make in wanted:
        if not re.search(a.only, name) and name != "16 bit":
            continue
        try:
            rows.append((name, make()))
        except RuntimeError as error:  # the other rows do not need this one
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        (a.work / "table.md").write_text(table(a, rows) + "\n")
    print(table(a, rows))
    print(f"\n{commit}, {cpu()}, {a.device}, {a.dtype}")
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


main()
