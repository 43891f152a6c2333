"""openai-python: every error class, retries, streams, the asynchronous client."""
import asyncio
import os
import signal
import threading
import time

import openai

from client_test import KEY, MESSAGES, NAME, URL, ClientTest
from running_server import RunningServer


class OpenAI(ClientTest):
    def client(self, **more):
        return openai.OpenAI(**{"base_url": URL + "/v1", "api_key": KEY, "max_retries": 0, **more})

    def test_models_with_a_slash(self):
        self.assertEqual(self.client().models.retrieve("org/" + NAME).id, "org/" + NAME)
        with self.assertRaises(openai.NotFoundError):
            self.client().models.retrieve("org/else")

    def test_every_error_class(self):
        def chat(client=None, **more):
            return (client or self.client()).chat.completions.create(**{"model": NAME, "messages": MESSAGES, "max_tokens": 3, **more})
        for error, code, call in [
            (openai.BadRequestError, "context_length_exceeded", lambda: chat(messages=[{"role": "user", "content": "word " * 5000}])),
            (openai.BadRequestError, "invalid_value", lambda: chat(top_p=2)),
            (openai.AuthenticationError, "invalid_api_key", lambda: chat(self.client(api_key="wrong"))),
            (openai.NotFoundError, "model_not_found", lambda: chat(model="else")),
            (openai.NotFoundError, None, lambda: chat(self.client(base_url=URL))),
            (openai.NotFoundError, None, lambda: chat(self.client(base_url=URL + "/v1/v1"))),
            (openai.NotFoundError, None, lambda: self.client().embeddings.create(model=NAME, input="x")),
        ]:
            with self.assertRaises(error) as caught:
                call()
            self.assertEqual(caught.exception.code, code)
            self.assertTrue(caught.exception.request_id)
            self.assertEqual(caught.exception.response.headers["x-should-retry"], "false")
        with self.assertRaises(openai.APITimeoutError):
            chat(self.client(timeout=0.001))
        with self.assertRaises(openai.APIConnectionError):
            chat(self.client(base_url="http://127.0.0.1:1/v1"))

    @staticmethod
    def waiting(server):
        lines = server.request("/metrics")[2].splitlines()
        return float(next(line for line in lines if line.startswith("vllm:num_requests_waiting{")).split()[-1])

    def test_a_full_queue_and_a_server_that_ends(self):
        """429 and 503 are told when to come back, and openai-python does."""
        with RunningServer(os.environ["HEARTH_BINARY"], os.environ["HEARTH_MODEL"], "--device", "cpu", "--max-model-len", "2048",
                           "--max-num-seqs", "1", "--max-num-queued-reqs", "1", "--shutdown-timeout", "60") as server:
            def complete(retries=0, **more):
                client = openai.OpenAI(base_url=server.url("/v1"), api_key="any", max_retries=retries)
                return client.completions.create(model=NAME, prompt="Once", **{"max_tokens": 2, **more})

            def occupy():
                return complete(max_tokens=1500, stream=True, extra_body={"ignore_eos": True})
            running = occupy()
            next(running)
            waiting = threading.Thread(target=lambda: complete(max_tokens=1))
            waiting.start()
            while self.waiting(server) == 0:
                time.sleep(0.02)
            with self.assertRaises(openai.RateLimitError) as caught:
                complete()
            self.assertEqual(caught.exception.code, "server_busy")
            self.assertGreaterEqual(int(caught.exception.response.headers["Retry-After"]), 1)
            self.assertNotIn("x-should-retry", caught.exception.response.headers)
            threading.Timer(0.5, running.close).start()
            self.assertEqual(complete(retries=5).choices[0].finish_reason, "length")
            waiting.join()

            running = occupy()
            next(running)
            os.kill(server.process.pid, signal.SIGTERM)
            with self.assertRaises(openai.InternalServerError) as caught:
                while True:  # until the signal has come
                    complete()
            self.assertEqual(caught.exception.status_code, 503)
            running.close()
            self.assertEqual(server.process.wait(timeout=60), 0)

    def test_asynchronous_streams_at_once(self):
        async def ask(client, seed):
            stream = await client.chat.completions.create(model=NAME, messages=MESSAGES, seed=seed, temperature=1, max_tokens=12, stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream])

        async def both():
            async with openai.AsyncOpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0) as client:
                together = await asyncio.gather(*(ask(client, seed) for seed in range(6)))
                return together, [await ask(client, seed) for seed in range(6)]
        together, alone = asyncio.run(both())
        self.assertEqual(together, alone)

    def test_a_thousand_at_once(self):
        """By default nobody who waits is turned away."""
        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0, timeout=300) as client:
                return await asyncio.gather(*(client.completions.create(model=NAME, prompt=[i], max_tokens=1) for i in range(1000)))
        self.assertEqual(len(asyncio.run(all_of_them())), 1000)

    def test_raw_responses(self):
        raw = self.client().chat.completions.with_raw_response.create(model=NAME, messages=MESSAGES, max_tokens=2,
                                                                      extra_headers={"x-request-id": "mine-1"})
        self.assertEqual(raw.headers["x-request-id"], "mine-1")
        self.assertEqual(raw.parse().choices[0].finish_reason, "length")
