"""`hearth serve --ssl-certfile` and the real openai-python client over HTTPS. Usage: test_tls.py HEARTH MODEL"""
import pathlib
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import openai

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from fake_openai import make_certificate
from running_server import RunningServer

HEARTH, MODEL = sys.argv[1:3]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def name_shown(port):
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    return subprocess.run(["openssl", "x509", "-noout", "-subject"], input=pem, capture_output=True, text=True, check=True).stdout


class Tls(unittest.TestCase):
    def client(self):
        return openai.OpenAI(base_url=server.url("/v1"), api_key="secret", max_retries=0, http_client=openai.DefaultHttpxClient(verify=server.context))

    def test_chat_whole_and_streamed(self):
        client = self.client()
        arguments = dict(model="smollm2-135m-instruct", messages=QUESTION, temperature=0, max_tokens=30)
        whole = client.chat.completions.create(**arguments).choices[0].message.content
        self.assertIn("Paris", whole)
        self.assertEqual("".join(c.choices[0].delta.content for c in client.chat.completions.create(**arguments, stream=True)), whole)

    def test_errors_keep_their_classes(self):
        wrong = openai.OpenAI(base_url=server.url("/v1"), api_key="wrong", max_retries=0, http_client=openai.DefaultHttpxClient(verify=server.context))
        self.assertRaises(openai.AuthenticationError, wrong.models.list)

    def test_a_client_that_does_not_trust_it_goes_away(self):
        with self.assertRaises(urllib.error.URLError):
            urllib.request.urlopen(server.url("/health"))
        self.assertEqual(self.client().models.list().data[0].id, "smollm2-135m-instruct")

    def test_the_log_says_https(self):
        self.assertIn(f"https://127.0.0.1:{server.port}", server.log())

    def test_sighup_reads_the_certificate_again(self):
        self.assertIn("first", name_shown(server.port))
        server.certificate.write_text(make_certificate(server.folder, "second"))
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 60
        while "second" not in name_shown(server.port) and time.monotonic() < end:
            time.sleep(0.1)
        self.assertIn("second", name_shown(server.port))
        server.certificate.write_text("nothing")
        server.process.send_signal(signal.SIGHUP)
        while "the old certificate stays" not in server.log() and time.monotonic() < end:
            time.sleep(0.1)
        self.assertIn("the old certificate stays: --ssl-certfile holds no certificate", server.log())
        self.assertIn("second", name_shown(server.port))

    def test_refused_before_the_model_is_loaded(self):
        for flags, line in (
            (["--ssl-keyfile", str(server.certificate)], "--ssl-certfile"),
            (["--ssl-certfile", str(server.folder / "none")], "none"),
            (["--ssl-certfile", __file__], "holds no certificate"),
        ):
            ended = subprocess.run([HEARTH, "serve", MODEL, *flags], capture_output=True, text=True, timeout=100)
            self.assertNotEqual(ended.returncode, 0)
            self.assertIn(line, ended.stderr)


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    certificate = folder / "both.pem"
    certificate.write_text(make_certificate(folder, "first"))
    with RunningServer(HEARTH, MODEL, "--threads", "2", key="secret", certificate=str(certificate)) as server:
        server.folder, server.certificate = folder, certificate
        unittest.main(argv=sys.argv[:1])
