"""lm-eval's local-completions and local-chat-completions on local tasks."""
import json
import os
import pathlib

from client_test import KEY, NAME, URL, ClientTest

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY=KEY)
import lm_eval
from lm_eval_tasks import CHOICE, GENERATE

GOLDEN = json.loads(pathlib.Path(__file__).with_name("lm_eval_transformers.json").read_text())


def evaluate(model, path, task, **more):
    arguments = {"base_url": URL + path, "model": NAME, "num_concurrent": 2, "max_retries": 1, **more}
    done = lm_eval.simple_evaluate(model=model, model_args=arguments, tasks=[task], log_samples=True, bootstrap_iters=0,
                                   apply_chat_template=model == "local-chat-completions")
    return done["results"][task["task"]], [sample["resps"] for sample in done["samples"][task["task"]]]


class LmEval(ClientTest):
    def test_multiple_choice_scores_as_transformers_does(self):
        """With the server as the tokenizer: /tokenizer_info, /tokenize; the score is transformers' on the same weights."""
        score, samples = evaluate("local-completions", "/v1/completions", CHOICE, tokenizer_backend="remote",
                                  auth_token=KEY, max_length=2048)
        self.assertEqual(score["acc,none"], GOLDEN["acc"])
        self.assertEqual(score["acc_norm,none"], GOLDEN["acc_norm"])
        self.assertEqual(len(samples), len(GOLDEN["loglikelihoods"]))
        for sample, golden in zip(samples, GOLDEN["loglikelihoods"]):
            for ((loglikelihood, greedy),), (expected, expected_greedy) in zip(sample, golden):
                self.assertAlmostEqual(float(loglikelihood), expected, delta=0.03)
                self.assertEqual(bool(greedy), expected_greedy)

    def test_generation_is_the_chats_own(self):
        score, samples = evaluate("local-chat-completions", "/v1/chat/completions", GENERATE)
        self.assertEqual(len(samples), len(GOLDEN["loglikelihoods"]))
        self.assertIn("cold", samples[1][0][0])
        again = evaluate("local-chat-completions", "/v1/chat/completions", GENERATE)[1]
        self.assertEqual(samples, again)
