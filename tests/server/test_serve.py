"""`hearth serve` itself, on SmolLM2: its refusals, its log, its end. Usage: test_serve.py HEARTH MODEL"""
import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HEARTH, MODEL = sys.argv[1:3]
started = []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(*flags, env=None):
    process = subprocess.Popen([HEARTH, "serve", MODEL, "--threads", "1", *flags], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **(env or {})})
    started.append(process)
    return process


def post(path, body, headers=""):
    return (f"POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


class Server:
    def __init__(self, *flags, env=None):
        self.port = free_port()
        self.process = start("--port", str(self.port), *flags, env=env)
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True)
        self.reader.start()
        end = time.monotonic() + 300
        while not self.ask(b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200"):
            assert self.process.poll() is None and time.monotonic() < end, self.lines
            time.sleep(0.05)

    def ask(self, request):
        answer = b""
        try:
            with socket.create_connection(("127.0.0.1", self.port)) as s:
                s.sendall(request)
                while piece := s.recv(1 << 16):
                    answer += piece
        except OSError:
            pass
        return answer

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(120)
        self.reader.join()
        return code


class Serve(unittest.TestCase):
    def tearDown(self):
        """No server outlives its test, also one that failed: ctest would wait for it."""
        for process in started:
            process.kill()

    def refusal(self, *flags, env=None):
        process = start("--port", str(free_port()), *flags, env=env)
        log = process.communicate(timeout=120)[1]
        self.assertEqual(process.returncode, 1, log)
        self.assertEqual(log.count("\n"), 1, log)
        return log

    def metrics_until(self, server, right):
        """A function from a metric's name and labels to its value, once `right` is satisfied with it."""
        end = time.monotonic() + 60
        while True:
            page = server.ask(b"GET /metrics HTTP/1.0\r\n\r\n").decode()

            def value(name, labels=""):
                return float(re.search(rf"^hearth:{name}{{[^}}]*{labels}}} (\S+)$", page, re.M)[1])
            if right(value):
                return value
            self.assertLess(time.monotonic(), end, page)
            time.sleep(0.05)

    def test_what_would_be_an_open_server_is_refused(self):
        self.assertIn("HEARTH_API_KEY", self.refusal(env={"HEARTH_API_KEY": ""}))
        self.assertIn("HEARTH_API_KEY", self.refusal(env={"HEARTH_API_KEY": "a,,b"}))
        self.assertIn("--api-key is empty", self.refusal("--api-key", " "))
        self.assertIn("host to listen on is empty", self.refusal("--host", ""))
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("# none yet\n\n")
            file.flush()
            self.assertIn("--api-key-file holds no key", self.refusal("--api-key-file", file.name))
        self.assertIn("--max-body-bytes", self.refusal("--max-total-request-bytes", "1000000"))

    def test_memory_that_is_too_small_for_the_start(self):
        for flags, words in [
            (["--max-num-seqs", "4096", "--kv-cache-memory-bytes", str(1 << 44)], r"no memory for [a-z ]+: needs \d+ bytes, \d+ are free"),
            (["--kv-cache-memory-bytes", "100000"], r"KV cache: a context of \d+ tokens needs \d+ bytes, there are 100000; lower --max-model-len"),
        ]:
            process = start("--port", str(free_port()), *flags)
            log = process.communicate(timeout=300)[1]
            self.assertEqual(process.returncode, 1, log)
            self.assertRegex(log.splitlines()[-1], "error " + words)
            self.assertEqual(log.count(" error "), 1, log)

    def test_keys_of_all_sources_and_the_log(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("# of the team\nfrom-file \n\n")
            file.flush()
            server = Server("--api-key", "given", "--api-key-file", file.name, env={"HEARTH_API_KEY": "one, two"})
        body = json.dumps({"prompt": "secret words", "max_tokens": 3, "ignore_eos": True}).encode()
        for key in ("given", "from-file", "one", "two", "three"):
            answer = server.ask(post("/v1/completions", body, f"Authorization: Bearer {key}\r\nx-request-id: {key}\r\n"))
            self.assertIn(b" 401 " if key == "three" else b" 200 ", answer[:20])
        self.assertEqual(server.stop(), 0)
        log = "".join(server.lines)
        self.assertRegex(log, r"info two /v1/completions 200, first byte \d+ ms, total \d+ ms, \d+ prompt and 3 completion tokens\n")
        self.assertRegex(log, r"info three /v1/completions 401, first byte \d+ ms")
        self.assertNotIn("secret", log)
        self.assertNotIn("/health", log)  # probes are at debug

    def test_json_lines(self):
        server = Server("--log-format", "json", "--log-level", "debug", "--api-key", "good")
        body = json.dumps({"prompt": "secret words", "max_tokens": 3, "ignore_eos": True}).encode()
        server.ask(post("/v1/completions", body, "Authorization: Bearer good\r\nx-request-id: mine\r\n"))
        server.ask(post("/v1/completions", body, "x-request-id: theirs\r\n"))
        server.ask(b"BAD\r\n\r\n")
        with socket.create_connection(("127.0.0.1", server.port)) as leaves:
            leaves.sendall(post("/v1/completions", body.replace(b": 3", b": 4000"), "Authorization: Bearer good\r\nx-request-id: gone\r\n"))
            time.sleep(0.5)
        self.assertEqual(server.stop(), 0)
        lines = [json.loads(line) for line in server.lines]
        for line in lines:
            self.assertRegex(line["time"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIn(line["level"], ("debug", "info", "warning", "error"))
        self.assertTrue(any(line["message"].startswith("ready in ") for line in lines))
        requests = {line.get("request_id"): line for line in lines if line["message"] == "request"}
        mine = requests["mine"]
        self.assertEqual(set(mine), {"time", "level", "message", "request_id", "route", "status", "first_byte_ms", "total_ms",
                                     "prompt_tokens", "completion_tokens", "completed"})
        self.assertEqual([mine[name] for name in ("route", "status", "completion_tokens", "completed")], ["/v1/completions", 200, 3, True])
        self.assertGreater(mine["prompt_tokens"], 0)
        self.assertEqual((requests["theirs"]["status"], "prompt_tokens" in requests["theirs"]), (401, False))
        self.assertEqual((requests[None]["status"], "route" in requests[None]), (400, False))  # no HTTP
        self.assertIs(requests["gone"]["completed"], False)
        self.assertTrue(any(line.get("route") == "/health" and line["level"] == "debug" for line in lines))
        self.assertNotIn("secret", "".join(server.lines))

    def test_sighup_reads_the_keys_again(self):
        with tempfile.NamedTemporaryFile("w") as file:
            def write(text):
                file.seek(0)
                file.truncate()
                file.write(text)
                file.flush()

            write("old\n")
            server = Server("--api-key", "given", "--api-key-file", file.name)

            def reload(words):
                seen = len(server.lines)
                server.process.send_signal(signal.SIGHUP)
                end = time.monotonic() + 60
                while not any(words in line for line in server.lines[seen:]) and time.monotonic() < end:
                    time.sleep(0.05)
                self.assertTrue(any(words in line for line in server.lines[seen:]), server.lines)

            def statuses():
                return [server.ask(f"GET /v1/models HTTP/1.0\r\nAuthorization: Bearer {key}\r\n\r\n".encode())[9:12].decode()
                        for key in ("given", "old", "new", "none")]

            self.assertEqual(statuses(), ["200", "200", "401", "401"])
            write("new\n")
            reload("the API keys were read again: 2")
            self.assertEqual(statuses(), ["200", "401", "200", "401"])
            write("# none\n")
            reload("the old API keys stay: --api-key-file holds no key")
            self.assertEqual(statuses(), ["200", "401", "200", "401"])
        reload("the old API keys stay: --api-key-file cannot be read")
        self.assertEqual(statuses(), ["200", "401", "200", "401"])
        self.assertEqual(server.stop(), 0)

    def test_shutdown_keeps_its_limit(self):
        server = Server("--shutdown-timeout", "1")
        body = json.dumps({"prompt": "hello", "max_tokens": 4000, "ignore_eos": True}).encode()
        answers = []
        clients = [threading.Thread(target=lambda: answers.append(server.ask(post("/v1/completions", body)))) for _ in range(4)]
        half = socket.create_connection(("127.0.0.1", server.port))
        half.sendall(post("/v1/completions", body)[:-5])
        for client in clients:
            client.start()
        self.metrics_until(server, lambda value: value("server_num_requests_running") + value("server_num_requests_waiting") == 4)
        begin = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - begin, 20)  # of a machine that does much else
        for client in clients:
            client.join()
        self.assertEqual([answer[:12] for answer in answers], [b"HTTP/1.1 503"] * 4)
        self.assertEqual(half.recv(12), b"HTTP/1.1 503")

    def test_replicas_share_the_load_and_the_end(self):
        server = Server("--replicas", "2", "--max-model-len", "1024")
        self.assertIn(b'{"replicas":2,"serving":2,"failed":[]}', server.ask(b"GET /v2/health/ready HTTP/1.0\r\n\r\n"))
        prompts = [f"{n} is a number" for n in range(16)]
        def text(prompt):
            body = {"prompt": prompt, "max_tokens": 8, "ignore_eos": True, "temperature": 0}
            return json.loads(server.ask(post("/v1/completions", json.dumps(body).encode())).split(b"\r\n\r\n", 1)[1])["choices"][0]["text"]
        with concurrent.futures.ThreadPoolExecutor(16) as clients:
            at_once = list(clients.map(text, prompts))
        self.assertEqual(at_once, [text(prompt) for prompt in prompts])
        engines = [f'engine="{i}"' for i in range(2)]
        # A step's numbers are to be seen at its end, a moment after its tokens.
        value = self.metrics_until(server, lambda value: sum(value("generation_tokens_total", e) for e in engines) >= 2 * 16 * 8)
        each = [value("generation_tokens_total", e) for e in engines]
        self.assertTrue(all(each), each)  # both took some
        self.assertEqual(sum(each), 2 * 16 * 8)
        self.assertEqual(value("server_generation_tokens_total"), sum(each))
        self.assertEqual([value("replica_up", e) for e in engines], [1, 1])
        self.assertEqual(server.stop(), 0)
        self.assertIn("2 replicas of cpu", "".join(server.lines))
        self.assertIn("--trace: expected --replicas 1, found 2", self.refusal("--replicas", "2", "--trace", "/dev/null"))

    def test_memory_that_gives_out_costs_only_who_asked(self):
        server = Server()
        with open(f"/proc/{server.process.pid}/status") as status:
            size = int(re.search(r"VmSize:\s+(\d+)", status.read())[1]) << 10
        if size > 1 << 40:
            server.stop()
            self.skipTest("a sanitizer's address space cannot be limited")
        subprocess.run(["prlimit", f"--pid={server.process.pid}", f"--as={size + (64 << 20)}"], check=True)
        body = json.dumps({"prompt": "hello " * 4_000_000}).encode()
        answers = []
        clients = [threading.Thread(target=lambda: answers.append(server.ask(post("/v1/completions", body)))) for _ in range(6)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        self.assertLessEqual({answer[9:12] for answer in answers}, {b"400", b"429", b"503"})
        self.assertIn(b"503", {answer[9:12] for answer in answers})
        small = json.dumps({"prompt": "hello", "max_tokens": 2}).encode()
        self.assertTrue(server.ask(post("/v1/completions", small)).startswith(b"HTTP/1.1 200"))
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
