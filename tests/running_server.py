"""A `hearth serve` of its own for a test: started on a free port, waited for, its log kept."""
import json
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class RunningServer:
    """Use as a context: the process is ended at its end, whatever happened."""

    def __init__(self, hearth, model, *flags, key=None, certificate=None):
        """`certificate`: a PEM file with a key, for HTTPS."""
        self.scheme = "https" if certificate else "http"
        self.context = ssl.create_default_context(cafile=certificate) if certificate else None
        if certificate:
            flags = [*flags, "--ssl-certfile", certificate]
        self.port = free_port()
        self.key = key
        self.log_file = tempfile.TemporaryFile("w+")
        flags = [*flags, "--api-key", key] if key else flags
        self.process = subprocess.Popen([hearth, "serve", model, "--port", str(self.port), *flags], stderr=self.log_file)

    def __enter__(self):
        end = time.monotonic() + 600  # a sanitizer build on a busy machine takes minutes
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.url("/health"), context=self.context)
                return self
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        raise SystemExit("the server did not become ready:\n" + self.log())

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log_file.close()

    def url(self, path=""):
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read()

    def request(self, path, body=None, headers={}):
        """Status, headers and JSON (or text, where it is none) of a GET, or of a POST of `body`."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {}), **headers}
        request = urllib.request.Request(self.url(path), None if body is None else json.dumps(body).encode(), headers)
        try:
            answer = urllib.request.urlopen(request, context=self.context)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
        return answer.status, answer.headers, json.loads(text) if "json" in answer.headers["Content-Type"] else text

    def post(self, path, body):
        return self.request(path, body)[2]
