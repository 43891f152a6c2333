"""lm-eval's local-completions and `hearth eval choices` give the same log-likelihoods and answers: 200 questions of MMLU's test set."""
import json
import os
import pathlib
import subprocess
import tempfile

from client_test import KEY, NAME, URL, ClientTest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY=KEY)
import lm_eval

QUESTIONS = pathlib.Path(__file__).resolve().parents[1] / "golden/eval/short_questions.jsonl"
TASK = {"task": "hearth_short_questions", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(QUESTIONS)}}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}], "metadata": {"version": 1}}


def of_lm_eval():
    """Its accuracy, and of each question in the file's order: the choices' log-likelihoods."""
    arguments = {"base_url": URL + "/v1/completions", "model": NAME, "num_concurrent": 4, "max_retries": 1, "tokenizer_backend": "remote",
                 "auth_token": KEY, "max_length": 2048}
    done = lm_eval.simple_evaluate(model="local-completions", model_args=arguments, tasks=[TASK], log_samples=True, bootstrap_iters=0)
    samples = sorted(done["samples"][TASK["task"]], key=lambda sample: sample["doc_id"])
    return done["results"][TASK["task"]]["acc,none"], [[float(choice[0][0]) for choice in sample["resps"]] for sample in samples]


def of_hearth():
    with tempfile.NamedTemporaryFile("r") as figures:
        command = [os.environ["HEARTH_BINARY"], "eval", "choices", QUESTIONS, "--model", os.environ["HEARTH_MODEL"], "--device", "cpu", "--json", figures.name]
        subprocess.run(command, check=True, capture_output=True)
        report = json.load(figures)
    return report["accuracy"], report["questions"]


class LmEvalChoices(ClientTest):
    def test_the_same_scores_as_hearth_eval(self):
        accuracy, likelihoods = of_lm_eval()
        own_accuracy, own = of_hearth()
        self.assertEqual((len(own), len(likelihoods)), (200, 200))
        self.assertEqual(accuracy, own_accuracy)
        largest = 0
        for theirs, question in zip(likelihoods, own):
            self.assertEqual(max(range(4), key=theirs.__getitem__), question["chosen"])
            largest = max(largest, *(abs(a - b) for a, b in zip(theirs, question["logprobs"], strict=True)))
        self.assertLess(largest, 1e-4)
