"""The real openai-python client against the real `hearth serve` on SmolLM2. Usage: test_openai_client.py HEARTH MODEL"""
import os
import pathlib
import signal
import sys
import time
import unittest

import openai

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from running_server import RunningServer

HEARTH, MODEL = sys.argv[1:3]
NAME = "smollm2-135m-instruct"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class OpenAIClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = openai.OpenAI(base_url=server.url("/v1"), api_key="secret", max_retries=0)

    def test_models(self):
        models = self.client.models.list().data
        self.assertEqual([m.id for m in models], [NAME])
        self.assertEqual(self.client.models.retrieve(NAME).id, NAME)
        self.assertEqual(models[0].max_model_len, 2048)

    def test_chat(self):
        answer = self.client.chat.completions.create(model=NAME, messages=QUESTION, temperature=0, max_tokens=30)
        self.assertEqual(answer.object, "chat.completion")
        self.assertIn("Paris", answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_chat_stream_is_the_same_answer(self):
        arguments = dict(model=NAME, messages=QUESTION, temperature=0, max_tokens=30)
        whole = self.client.chat.completions.create(**arguments)
        chunks = list(self.client.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True}))
        *pieces, last = chunks
        self.assertEqual("".join(c.choices[0].delta.content for c in pieces), whole.choices[0].message.content)
        self.assertEqual(pieces[0].choices[0].delta.role, "assistant")
        self.assertEqual([c.choices[0].finish_reason for c in pieces[:-1]], [None] * (len(pieces) - 1))
        self.assertEqual(pieces[-1].choices[0].finish_reason, "stop")
        self.assertGreater(len(pieces), 3)
        self.assertEqual(last.choices, [])
        # The second time the prompt comes out of the prefix cache; all else is the same.
        self.assertEqual(last.usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(last.usage.prompt_tokens, whole.usage.prompt_tokens)

    def test_chat_logprobs(self):
        answer = self.client.chat.completions.create(
            model=NAME, messages=QUESTION, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3)
        for token in answer.choices[0].logprobs.content:
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].token, token.token)  # greedy
            self.assertEqual(token.top_logprobs[0].logprob, token.logprob)
            self.assertEqual(bytes(token.bytes).decode(), token.token)
            self.assertLessEqual(token.logprob, 0)

    def test_same_seed_same_tokens(self):
        def ask(seed):
            return self.client.chat.completions.create(
                model=NAME, messages=QUESTION, temperature=2.0, max_tokens=20, seed=seed).choices[0].message.content
        self.assertEqual(ask(1), ask(1))
        self.assertGreater(len({ask(seed) for seed in range(4)}), 1)

    def test_several_choices(self):
        answer = self.client.chat.completions.create(model=NAME, messages=QUESTION, n=3, seed=5, temperature=2.0, max_tokens=8)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
        self.assertGreater(len({c.message.content for c in answer.choices}), 1)

    def test_completions_by_text_and_by_ids(self):
        text = "The capital of France is"
        ids = self.tokenize(text)
        by_text = self.client.completions.create(model=NAME, prompt=text, temperature=0, max_tokens=5)
        by_ids = self.client.completions.create(model=NAME, prompt=ids, temperature=0, max_tokens=5)
        both = self.client.completions.create(model=NAME, prompt=[ids, ids[:3]], temperature=0, max_tokens=5)
        self.assertEqual(by_text.choices[0].text, by_ids.choices[0].text)
        self.assertEqual(both.choices[0].text, by_ids.choices[0].text)
        self.assertEqual([c.index for c in both.choices], [0, 1])
        self.assertIn("Paris", by_ids.choices[0].text)

    def test_lm_eval_shape(self):
        prompts = [self.tokenize(t) for t in ("The capital of France is Paris", "One two three four")]
        answer = self.client.completions.create(
            model=NAME, prompt=prompts, max_tokens=1, logprobs=1, echo=True, temperature=0, seed=1234)
        for prompt, choice in zip(prompts, sorted(answer.choices, key=lambda c: c.index)):
            logprobs = choice.logprobs
            self.assertEqual(len(logprobs.token_logprobs), len(prompt) + 1)
            self.assertEqual(len(logprobs.top_logprobs), len(prompt) + 1)
            self.assertIsNone(logprobs.token_logprobs[0])
            self.assertEqual("".join(logprobs.tokens), choice.text)
            for token_logprob, top in list(zip(logprobs.token_logprobs, logprobs.top_logprobs))[1:]:
                self.assertLessEqual(token_logprob, max(top.values()))
            self.assertEqual(logprobs.token_logprobs[-1], max(logprobs.top_logprobs[-1].values()))  # greedy, to the bit
        paris = answer.choices[0].logprobs
        self.assertGreater(paris.token_logprobs[len(prompts[0]) - 1], -2.0)  # " Paris" after "France is"

    def test_vllms_fields(self):
        """What vLLM's own clients ask for beyond OpenAI's fields."""
        text = "The capital of France is Paris"
        ids = self.tokenize(text)
        answer = self.client.completions.create(model=NAME, prompt=text, temperature=0, max_tokens=3, logprobs=1, extra_body={
            "prompt_logprobs": 1, "return_token_ids": True, "return_tokens_as_token_ids": True, "cache_salt": "mine"})
        choice = answer.choices[0]
        self.assertEqual(choice.prompt_token_ids, ids)
        self.assertEqual(choice.logprobs.tokens, [f"token_id:{i}" for i in choice.token_ids])
        self.assertEqual(server.post("/detokenize", {"tokens": choice.token_ids})["prompt"], choice.text)
        self.assertEqual([None, *ids[1:]], [p and int(next(iter(p))) for p in choice.prompt_logprobs])
        echoed = self.client.completions.create(model=NAME, prompt=text, temperature=0, max_tokens=3, logprobs=1, echo=True)
        logprobs = echoed.choices[0].logprobs
        self.assertEqual([p and p[str(i)]["logprob"] for p, i in zip(choice.prompt_logprobs, ids)], logprobs.token_logprobs[:len(ids)])
        for token, offset in zip(logprobs.tokens, logprobs.text_offset):
            self.assertTrue(echoed.choices[0].text[offset:].startswith(token))
        # The same prompt under the same salt is found in the cache, under another it is not.
        long = {"model": NAME, "prompt": [ids * 30], "max_tokens": 1}
        cached = [server.post("/v1/completions", {**long, "cache_salt": salt})["usage"]["prompt_tokens_details"]["cached_tokens"]
                  for salt in ("a", "b", "a")]
        self.assertEqual(cached[:2], [0, 0])
        self.assertGreater(cached[2], 100)

    def test_allowed_tokens_and_bad_words(self):
        def ask(**fields):
            return server.post("/v1/completions", {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 6,
                                                   "return_token_ids": True, **fields})["choices"][0]
        free = ask()
        self.assertIn("Paris", free["text"])
        self.assertNotIn("Paris", ask(bad_words=["Paris"])["text"])
        first, second = self.tokenize(free["text"])[:2]
        last_of_two = server.post("/detokenize", {"tokens": [first, second]})["prompt"]
        without = ask(bad_words=[last_of_two.strip()])["token_ids"]
        self.assertEqual(without[0], first)
        self.assertNotEqual(without[1], second)
        allowed = self.tokenize(" London Berlin")
        self.assertLessEqual(set(ask(allowed_token_ids=allowed)["token_ids"]), set(allowed))
        eos = self.tokenize("<|im_end|>")
        self.assertEqual(ask(allowed_token_ids=eos)["finish_reason"], "stop")
        self.assertEqual(ask(allowed_token_ids=eos, ignore_eos=True)["token_ids"], eos * 6)

    def test_best_of(self):
        arguments = dict(model=NAME, prompt="Once upon a time", max_tokens=8, temperature=1.5, seed=3, logprobs=0)
        def mean(choice):
            return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)
        all_of_them = self.client.completions.create(**arguments, n=6).choices
        best = self.client.completions.create(**arguments, n=2, best_of=6).choices
        self.assertEqual([c.index for c in best], [0, 1])
        self.assertEqual([c.text for c in best], [c.text for c in sorted(all_of_them, key=mean, reverse=True)[:2]])

    def test_continue_final_message_and_render(self):
        messages = [*QUESTION, {"role": "assistant", "content": "The capital of France is"}]
        body = {"model": NAME, "messages": messages, "continue_final_message": True, "add_generation_prompt": False}
        rendered = server.post("/v1/chat/completions/render", body)
        self.assertTrue(rendered["prompt"].endswith("<|im_start|>assistant\nThe capital of France is"))
        answer = server.post("/v1/chat/completions", {**body, "temperature": 0, "max_tokens": 3})
        self.assertIn("Paris", answer["choices"][0]["message"]["content"])
        self.assertEqual(answer["usage"]["prompt_tokens"], rendered["count"])
        self.assertEqual(server.post("/v1/completions/render", {"prompt": "a b"})[0]["token_ids"], self.tokenize("a b"))
        self.assertEqual(self.tokenize(rendered["prompt"]), rendered["token_ids"])

    def test_stop_string(self):
        answer = self.client.chat.completions.create(model=NAME, messages=QUESTION, temperature=0, max_tokens=30, stop=" Paris")
        self.assertTrue(answer.choices[0].message.content.endswith("is"))
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="else", messages=QUESTION)
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(model=NAME, messages=QUESTION, temperature=-1)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=100000)
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.completions.create(model=NAME, prompt=[10**6])
        self.assertEqual(caught.exception.param, "prompt")
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=server.url("/v1"), api_key="wrong", max_retries=0).models.list()
        self.assertTrue(caught.exception.response.headers["x-request-id"])

    def test_control_tokens_are_read_in_raw_prompts_alone(self):
        self.assertEqual(len(self.tokenize("<|im_start|>")), 1)
        split = server.post("/tokenize", {"prompt": "<|im_start|>", "split_special_tokens": True})["tokens"]
        self.assertGreater(len(split), 1)
        # A prompt that the client rendered is the chat's own.
        text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        self.assertEqual(self.tokenize(text), server.post("/tokenize", {"messages": messages})["tokens"])
        raw = self.client.completions.create(model=NAME, prompt=text, temperature=0, max_tokens=12)
        chat = self.client.chat.completions.create(model=NAME, messages=messages, temperature=0, max_tokens=12)
        self.assertEqual(raw.choices[0].text, chat.choices[0].message.content)
        inside = server.post("/tokenize", {"messages": [{"role": "user", "content": "<|im_end|>"}]})["tokens"]
        outside = server.post("/tokenize", {"messages": [{"role": "user", "content": "x"}]})["tokens"]
        end = server.post("/detokenize", {"tokens": outside})["prompt"].count("<|im_end|>")
        self.assertEqual(sum(server.post("/detokenize", {"tokens": [t]})["prompt"] == "<|im_end|>" for t in inside), end)

    def test_a_client_that_leaves_frees_its_place(self):
        stream = self.client.completions.create(
            model=NAME, prompt="Once", max_tokens=1500, stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
        end = time.monotonic() + 10
        while self.running() > 0:
            self.assertLess(time.monotonic(), end, "the request still runs")
            time.sleep(0.02)

    def running(self):
        page = server.request("/metrics")[2]
        line = next(x for x in page.splitlines() if x.startswith("vllm:num_requests_running{"))
        return float(line.split()[-1])

    def tokenize(self, text):
        return server.post("/tokenize", {"prompt": text})["tokens"]


class Shutdown(unittest.TestCase):
    """Named to run last: a stream that is under way when SIGTERM comes still ends whole, and the exit code is 0."""

    def test_zz_sigterm_drains(self):
        client = openai.OpenAI(base_url=server.url("/v1"), api_key="secret", max_retries=0)
        stream = client.completions.create(
            model=NAME, prompt="Once", max_tokens=40, stream=True, extra_body={"ignore_eos": True})
        chunks = [next(stream)]
        os.kill(server.process.pid, signal.SIGTERM)
        chunks += list(stream)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")
        self.assertEqual(server.process.wait(timeout=340), 0)


with RunningServer(HEARTH, MODEL, "--max-model-len", "2048", "--shutdown-timeout", "300", key="secret") as server:
    outcome = unittest.main(argv=sys.argv[:1], exit=False).result
sys.exit(not outcome.wasSuccessful())
