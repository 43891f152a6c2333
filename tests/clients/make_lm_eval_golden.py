"""Makes lm_eval_transformers.json: the same task and weights, by lm-eval's own transformers backend. Needs torch, gguf and accelerate.
Usage: make_lm_eval_golden.py FOLDER GGUF-FILE-IN-IT"""
import json
import pathlib
import sys

import lm_eval
import transformers
from lm_eval_tasks import CHOICE

folder, file = sys.argv[1:3]
arguments = dict(pretrained=folder, gguf_file=file, dtype="float32", device="cpu")
done = lm_eval.simple_evaluate(model="hf", model_args=arguments, tasks=[CHOICE], log_samples=True, bootstrap_iters=0)
score = done["results"][CHOICE["task"]]
lines = [json.dumps([[round(float(choice[0][0]), 5), bool(choice[0][1])] for choice in sample["resps"]])
         for sample in done["samples"][CHOICE["task"]]]
head = {"transformers": transformers.__version__, "lm_eval": lm_eval.__version__, "dtype": "float32", "acc": score["acc,none"],
        "acc_norm": score["acc_norm,none"]}
text = json.dumps(head)[:-1] + ', "loglikelihoods": [\n  ' + ",\n  ".join(lines) + "]}\n"
pathlib.Path(__file__).with_name("lm_eval_transformers.json").write_text(text)
