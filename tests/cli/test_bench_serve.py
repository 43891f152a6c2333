"""`hearth bench serve`: its exit code, and what it says where requests fail. Usage: test_bench_serve.py HEARTH"""
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from fake_openai import FakeOpenAI, make_certificate

HEARTH = sys.argv[1]
MODELS = {"data": [{"id": "first"}, {"id": "second", "device": "an abacus"}]}


def bench(url, *flags):
    done = subprocess.run([HEARTH, "bench", "serve", "--url", url, "--seconds", "1", "--warm-up", "0", "--input-tokens", "5",
                           "--output-tokens", "3", *flags], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def completion_events(tokens):
    for i in range(tokens):
        yield {"choices": [{"index": 0, "text": "x", "finish_reason": "length" if i + 1 == tokens else None}]}
    yield {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}}
    yield "[DONE]"


class BenchServe(unittest.TestCase):
    def serve(self, completion):
        return FakeOpenAI(lambda path, body: (200, MODELS) if path == "/v1/models" else completion(body))

    def test_a_run(self):
        with self.serve(lambda body: (200, completion_events(body["max_tokens"]))) as fake, tempfile.TemporaryDirectory() as folder:
            code, out, err = bench(fake.url, "--concurrencies", "1,2", "--output", folder + "/run", "--model", "second")
            self.assertEqual(code, 0, err)
            result = json.loads(pathlib.Path(folder, "run.json").read_text())
            plot = pathlib.Path(folder, "run-latency.svg").read_text()
        for words in ("first token, s", "per token, ms", "whole answer, s", "done/s", "tokens/s"):
            self.assertIn(words, out)
        self.assertEqual(result["model"], "second")
        self.assertEqual(result["machine"], "an abacus")
        self.assertRegex(result["date"], r"^20\d\d-\d\d-\d\d$")
        self.assertEqual(result["loads"][0]["lost"], 0)
        self.assertIn(f"second, an abacus, 5 tokens in, 3 out, {result['date']}", plot)
        self.assertIn(">2 at once<", plot)
        self.assertEqual({body["model"] for path, body in fake.requests if body}, {"second"})

    def test_https(self):
        def answer(path, body):
            return (200, MODELS) if path == "/v1/models" else (200, completion_events(body["max_tokens"]))

        with tempfile.TemporaryDirectory() as folder:
            mine, other = pathlib.Path(folder, "mine.pem"), pathlib.Path(folder, "other.pem")
            for name in ("127.0.0.1", "example.org"):
                mine.write_text(make_certificate(folder, "mine", "IP:127.0.0.1" if name[0] == "1" else f"DNS:{name}"))
                other.write_text(make_certificate(folder, "other"))
                with FakeOpenAI(answer, certificate=mine) as fake:
                    runs = {flags: bench(fake.url, "--rates", "20", *flags)
                            for flags in ((), ("--cacert", str(mine)), ("--cacert", str(other)), ("--insecure",))}
                for flags, words in (((), "is not trusted (self"), (("--cacert", str(other)), "is not trusted (self")):
                    code, out, err = runs[flags]
                    self.assertEqual(code, 1, flags)
                    self.assertIn(words, err)
                    self.assertIn("--insecure trusts any", err)
                self.assertEqual(runs[("--insecure",)][0], 0, runs[("--insecure",)][2])
                code, out, err = runs[("--cacert", str(mine))]
                if name == "127.0.0.1":
                    self.assertEqual(code, 0, err)
                    self.assertIn("tokens/s", out)
                else:
                    self.assertEqual(code, 1)
                    self.assertIn("is not trusted (IP address mismatch", err)
            # A server of the other kind, and a file that holds no certificate.
            with FakeOpenAI(answer) as fake:
                code, out, err = bench(fake.url.replace("http", "https"), "--rates", "1")
                self.assertEqual(code, 1)
                self.assertIn("no TLS with the server", err)
                code, out, err = bench(fake.url, "--rates", "1", "--insecure")
                self.assertEqual(code, 1)
                self.assertIn("--insecure is for https:// URLs", err)
            code, out, err = bench("https://127.0.0.1:1", "--cacert", __file__)
            self.assertEqual(code, 1)
            self.assertIn("--cacert names no file of certificates", err)

    def test_every_request_fails(self):
        for completion, words in [
            (lambda body: (429, {"error": {"message": "the queue is full"}}), "status 429: the queue is full"),
            (lambda body: (400, {"object": "error", "message": "too\nlong"}), "status 400: too long"),
            (lambda body: (500, {}), "status 500"),
            (lambda body: (200, [{"error": {"message": "the device failed"}}]), "the device failed"),
            (lambda body: (200, completion_events(2)), "2 tokens of 3"),
        ]:
            with self.serve(completion) as fake:
                code, out, err = bench(fake.url, "--rates", "20")
            self.assertEqual(code, 1, out)
            self.assertIn("every request was lost: " + words, err)

    def test_some_requests_fail(self):
        answers = iter([(503, {"error": {"message": "busy"}})])
        with self.serve(lambda body: next(answers, None) or (200, completion_events(3))) as fake:
            code, out, err = bench(fake.url, "--rates", "20")
        self.assertEqual(code, 0, err)
        self.assertIn("the first lost: status 503: busy", out)

    def test_no_server(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{s.getsockname()[1]}"
        code, out, err = bench(url, "--rates", "1")
        self.assertEqual(code, 1)
        self.assertIn(f"no answer from {url[7:]}: Connection refused\n", err)

    def test_no_model(self):
        for status, models, words in [(401, {"error": {"message": "who are you"}}, "status 401: who are you"),
                                      (200, {"data": []}, "lists no model"), (200, {"data": 3}, "not understood")]:
            with FakeOpenAI(lambda path, body: (status, models)) as fake:
                code, out, err = bench(fake.url, "--rates", "1")
            self.assertEqual(code, 1)
            self.assertIn(words, err)


unittest.main(argv=sys.argv[:1])
