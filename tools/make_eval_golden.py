"""Log-likelihoods of the choices of tests/golden/eval/questions.jsonl (60 questions of MMLU's test set, Hendrycks et al. 2021, MIT
licence) under SmolLM2-135M-Instruct, by transformers in float32 on the weights of the GGUF file as Hearth's loader rounds them.
Writes tests/golden/eval/smollm2_choices.json. Run with gguf 0.19.0, torch 2.15.0, transformers 5.23.0:
python tools/make_eval_golden.py"""
import importlib.metadata
import json

import torch
import transformers

import make_greedy_goldens as greedy

FOLDER = greedy.ROOT / "tests/golden/eval"
MODEL = greedy.CACHE / greedy.MODELS["smollm2"]


def main():
    model = greedy.load(MODEL)
    encoder = transformers.AutoTokenizer.from_pretrained(MODEL.parent, gguf_file=MODEL.name)
    tokenizer = lambda text: encoder(text, add_special_tokens=False)["input_ids"]
    out = []
    for line in (FOLDER / "questions.jsonl").read_text().splitlines():
        question = json.loads(line)
        context = tokenizer(question["question"])
        logprobs = []
        for choice in question["choices"]:
            whole = tokenizer(question["question"] + " " + choice)
            with torch.no_grad():
                logits = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            logprobs.append(sum(logits[i - 1, whole[i]].item() for i in range(len(context), len(whole))))
        out.append([round(value, 5) for value in logprobs])
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("gguf", "torch", "transformers"))
    (FOLDER / "smollm2_choices.json").write_text(json.dumps({"made_with": versions, "logprobs": out}) + "\n")


main()
