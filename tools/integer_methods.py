#!/usr/bin/env python3
"""The integer methods of tools/quality_study.py, each by its own library (bitsandbytes, llm-compressor), and transformers as the judge of those
that round activations too.

    python tools/integer_methods.py weights METHOD MODEL OUT --calibration TEXT     # nf4, gptq8, gptq4, awq4: multiplied out, in 16 bit, for Hearth
    python tools/integer_methods.py judge METHOD MODEL OUT --calibration TEXT --text TEXT --mmlu FOLDER     # 16bit, int8, smoothquant

MODEL is a folder of 16-bit safetensors. `judge` writes OUT/perplexity.json and OUT/mmlu.json as `hearth eval --json` does, so that
`hearth eval compare` takes them.
"""
import argparse
import json
import math
import pathlib
import shutil

import torch
import transformers

SHOTS, WINDOW = 5, 1024


def calibration_windows(tokenizer, path, count=64, length=512):
    ids = tokenizer(pathlib.Path(path).read_text()[:600_000], add_special_tokens=False)["input_ids"]
    assert len(ids) >= count * length, "the calibration text is too short"
    return [ids[i:i + length] for i in range(0, count * length, length)]


def compress(model, tokenizer, calibration, recipe):
    from llmcompressor import oneshot

    if not torch.cuda.is_available():
        torch.Tensor.pin_memory = lambda self: self  # AWQ asks for it where there is nothing to pin for
    windows = calibration_windows(tokenizer, calibration)
    data = torch.utils.data.DataLoader([{"input_ids": torch.tensor(w), "attention_mask": torch.ones(len(w), dtype=torch.long)} for w in windows])
    oneshot(model=model, dataset=data, recipe=recipe, num_calibration_samples=len(windows))


def integer_weights(bits, symmetric, linears):
    """Groups of 128, or of 64 where a matrix has no whole number of those."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    group = next(size for size in (128, 64) if all(module.in_features % size == 0 for module in linears))
    grouped = {"strategy": "group", "group_size": group} if bits == 4 else {"strategy": "channel"}
    return {"group_0": QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, **grouped))}


def multiply_out(linears):
    """Each weight as its integers say it, by the library's own rounding."""
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize

    for module in linears:
        module.weight.data = fake_quantize(module.weight.data, module.weight_scale.data, getattr(module, "weight_zero_point", None),
                                           module.quantization_scheme.weights, getattr(module, "weight_g_idx", None))


def quantize_weights(method, model, tokenizer, calibration):
    linears = [module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and "lm_head" not in name]
    if method == "nf4":
        import bitsandbytes.functional as nf

        for module in linears:
            packed, state = nf.quantize_4bit(module.weight.data, quant_type="nf4", blocksize=64)
            module.weight.data = nf.dequantize_4bit(packed, state).to(module.weight.dtype)
        return
    if method == "awq4":
        from llmcompressor.modifiers.awq import AWQModifier

        recipe = AWQModifier(config_groups=integer_weights(4, False, linears), ignore=["lm_head"])
    else:
        from llmcompressor.modifiers.quantization import GPTQModifier

        recipe = GPTQModifier(config_groups=integer_weights(int(method[-1]), True, linears), ignore=["lm_head"])
    compress(model, tokenizer, calibration, recipe)
    multiply_out(linears)


def load(folder, dtype, device, **more):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **more)
    return (model if more else model.to(device)).eval()


def weights(a):
    from safetensors.torch import load_file, save_file

    model = load(a.model, torch.float32, a.device)
    quantize_weights(a.method, model, transformers.AutoTokenizer.from_pretrained(a.model), a.calibration)
    made = model.state_dict()
    state = {name: made[name].to(old.dtype).cpu().contiguous() for name, old in load_file(a.model / "model.safetensors").items()}
    a.out.mkdir()
    for file in a.model.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, a.out / file.name)
    save_file(state, a.out / "model.safetensors", metadata={"format": "pt"})


def judged_model(a, tokenizer):
    if a.method == "int8":
        return load(a.model, torch.float16, a.device, quantization_config=transformers.BitsAndBytesConfig(load_in_8bit=True))
    model = load(a.model, getattr(torch, a.dtype), a.device)
    if a.method == "smoothquant":
        from llmcompressor.modifiers.quantization import QuantizationModifier
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

        compress(model, tokenizer, a.calibration, [SmoothQuantModifier(smoothing_strength=0.5), QuantizationModifier(scheme="W8A8", targets=["Linear"], ignore=["lm_head"])])
    return model.eval()


def perplexity(model, tokenizer, text):
    """Windows one behind the other, as `hearth eval perplexity --window 1024` has them."""
    tokenizer.backend_tokenizer.encode_special_tokens = True
    ids = torch.tensor(tokenizer.backend_tokenizer.encode(pathlib.Path(text).read_text(), add_special_tokens=False).ids)
    windows = []
    for part in ids.split(WINDOW):
        if len(part) >= 2:
            logits = model(part[None].to(model.device)).logits[0, :-1].double()
            nll = torch.nn.functional.cross_entropy(logits, part[1:].to(logits.device), reduction="sum").item()
            windows.append({"scored": len(part) - 1, "nll": nll})
    scored = sum(w["scored"] for w in windows)
    return {"tokens": len(ids), "scored": scored, "perplexity": math.exp(sum(w["nll"] for w in windows) / scored), "windows": windows}


def lines_of(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def mmlu(model, tokenizer, folder, limit):
    """Each subject's shots are computed once; the questions behind them in batches."""
    shots, questions = lines_of(folder / "dev.jsonl"), lines_of(folder / "test.jsonl")
    body = lambda q: q["question"] + "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCD", q["choices"])) + "\nAnswer:"
    letters = [tokenizer.encode(" " + letter, add_special_tokens=False) for letter in "ABCD"]
    assert all(len(ids) == 1 for ids in letters)
    letters = torch.tensor(letters, device=model.device).flatten()
    out = []
    for subject in dict.fromkeys(q["subject"] for q in questions):
        head = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        head += "".join(f"{body(q)} {'ABCD'[q['answer']]}\n\n" for q in [q for q in shots if q["subject"] == subject][:SHOTS])
        asked = [q for q in questions if q["subject"] == subject][:limit]
        ids = [tokenizer(head + body(q))["input_ids"] for q in asked]
        same = 0
        while all(len(i) > same + 1 and i[same] == ids[0][same] for i in ids):
            same += 1
        for begin in range(0, len(asked), 32):
            batch = [i[same:] for i in ids[begin:begin + 32]]
            cache = model.model(torch.tensor([ids[0][:same]], device=model.device), use_cache=True).past_key_values
            cache.batch_repeat_interleave(len(batch))
            longest = max(map(len, batch))
            padded = torch.tensor([i + [0] * (longest - len(i)) for i in batch], device=model.device)
            mask = torch.tensor([[1] * (same + len(i)) + [0] * (longest - len(i)) for i in batch], device=model.device)
            hidden = model.model(padded, attention_mask=mask, past_key_values=cache).last_hidden_state
            last = hidden[torch.arange(len(batch)), torch.tensor([len(i) - 1 for i in batch])]
            scores = model.lm_head(last).float().log_softmax(-1)[:, letters].tolist()
            for question, logprobs in zip(asked[begin:], scores):
                chosen = max(range(4), key=logprobs.__getitem__)
                out.append({"subject": subject, "logprobs": logprobs, "chosen": chosen, "answer": question["answer"], "correct": chosen == question["answer"]})
    accuracy = sum(q["correct"] for q in out) / len(out)
    return {"task": "mmlu", "shots": SHOTS, "accuracy": accuracy, "standard_error": math.sqrt(accuracy * (1 - accuracy) / (len(out) - 1)), "questions": out}


def judge(a):
    tokenizer = transformers.AutoTokenizer.from_pretrained(a.model)
    a.out.mkdir()
    with torch.no_grad():
        model = judged_model(a, tokenizer)
        for name, figures in (("mmlu", lambda: mmlu(model, tokenizer, a.mmlu, a.limit)), ("perplexity", lambda: perplexity(model, tokenizer, a.text))):
            made_by = {"transformers": transformers.__version__, "torch": torch.__version__, "backend": str(model.device), "method": a.method}
            (a.out / f"{name}.json").write_text(json.dumps(made_by | figures()) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["weights", "judge"])
    p.add_argument("method", choices=["nf4", "gptq8", "gptq4", "awq4", "16bit", "int8", "smoothquant"])
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--calibration", required=True)
    p.add_argument("--text")
    p.add_argument("--mmlu", type=pathlib.Path)
    p.add_argument("--dtype", default="float16")
    p.add_argument("--limit", type=int, help="questions of each subject")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    globals()[a.what](a)


main()
