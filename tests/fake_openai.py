"""A server that speaks OpenAI's API with answers a test chose; it keeps what it was asked."""
import http.server
import json
import pathlib
import ssl
import subprocess
import threading


def make_certificate(folder, name, subject_alternatives="IP:127.0.0.1"):
    """The text of a key and a certificate that it signs itself."""
    key, certificate = pathlib.Path(folder, "key.pem"), pathlib.Path(folder, "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", f"subjectAltName={subject_alternatives}", "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate.read_text() + key.read_text()


class FakeOpenAI:
    """Use as a context. `answer(path, body)` gives a status and a JSON body, or an iterable of stream events."""

    def __init__(self, answer, certificate=None):
        """`certificate`: a PEM file with a key, for HTTPS."""
        self.requests = []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.respond(None)

            def do_POST(self):
                self.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def respond(self, body):
                fake.requests.append((self.path, body))
                status, content = answer(self.path, body)
                if status is None:  # the connection closes without a word
                    self.close_connection = True
                    return
                stream = not isinstance(content, dict)
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
                self.send_header("Connection", "close")
                data = b"" if stream else json.dumps(content).encode()
                if not stream:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                for event in content if stream else ():
                    self.wfile.write(b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n")
                    self.wfile.flush()
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.handle_error = lambda *_: None  # clients that do not trust it
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def chat_events(text):
    for i, piece in enumerate(text):
        delta = {"content": piece, **({"role": "assistant"} if i == 0 else {})}
        yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": {"completion_tokens": i + 1}}
    yield "[DONE]"
