"""`hearth chat` in a terminal: what is typed, edited and brought back is what the server is asked. Usage: test_chat.py HEARTH"""
import os
import pathlib
import pty
import select
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from fake_openai import FakeOpenAI, chat_events, make_certificate

HEARTH = sys.argv[1]
UP, LEFT, CTRL_A, CTRL_C, CTRL_D, CTRL_R = "\x1b[A", "\x1b[D", "\x01", "\x03", "\x04", "\x12"


class Terminal:
    def __init__(self, url, *flags, locale="C.UTF-8"):
        self.master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "LC_ALL": locale, "HOME": "/nonexistent"}
        self.process = subprocess.Popen([HEARTH, "chat", "--url", url, *flags], stdin=slave, stdout=slave, stderr=slave,
                                        env=environment, start_new_session=True, preexec_fn=lambda: self.take(slave))
        os.close(slave)
        self.seen = ""
        self.wait_for("> ")

    @staticmethod
    def take(slave):
        import fcntl
        import termios
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def wait_for(self, text):
        end = time.monotonic() + 60
        start = self.seen
        while text not in self.seen:
            if time.monotonic() > end or not select.select([self.master], [], [], 60)[0]:
                raise AssertionError(f"{text!r} did not come; there is {start!r} and {self.seen!r}")
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # the process has ended
                break
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, *keys):
        os.write(self.master, "".join(keys).encode())

    def ask(self, *keys):
        self.type(*keys, "\r")
        self.wait_for("tokens")
        self.wait_for("> ")

    def end(self):
        self.type(CTRL_D)
        code = self.process.wait(timeout=60)
        os.close(self.master)
        return code


def answer(path, body):
    return 200, chat_events("fine")


class Chat(unittest.TestCase):
    def asked(self, fake):
        return [body["messages"][-1]["content"] for path, body in fake.requests]

    def test_editing_and_history(self):
        with FakeOpenAI(answer) as fake:
            terminal = Terminal(fake.url)
            terminal.ask("hllo", LEFT * 3, "e")
            terminal.ask("world", CTRL_A, "the ")
            terminal.ask(UP, "s")
            terminal.ask(UP, UP, UP)
            terminal.ask(CTRL_R, "worlds", "\x1b")
            terminal.ask("grün 東京", LEFT, "☃")
            self.assertEqual(terminal.end(), 0)
        self.assertEqual(self.asked(fake), ["hello", "the world", "the worlds", "hello", "the worlds", "grün 東☃京"])
        self.assertEqual([m["role"] for m in fake.requests[1][1]["messages"]], ["user", "assistant", "user"])
        self.assertNotIn("temperature", fake.requests[0][1])

    def test_commands_are_not_asked(self):
        with FakeOpenAI(answer) as fake:
            terminal = Terminal(fake.url, "--temperature", "0.5", "--system-prompt", "Be brief.")
            terminal.type("/help\r")
            terminal.wait_for("/reset")
            terminal.wait_for("> ")
            terminal.type("/hlep\r")
            terminal.wait_for("no such command")
            terminal.wait_for("> ")
            terminal.ask("/etc/hosts is what?")
            terminal.type("/reset\r")
            terminal.wait_for("forgotten")
            terminal.wait_for("> ")
            terminal.ask(" /help")
            terminal.type("/exit\r")
            self.assertEqual(terminal.process.wait(timeout=60), 0)
        self.assertEqual(self.asked(fake), ["/etc/hosts is what?", "/help"])
        self.assertEqual([m["role"] for m in fake.requests[1][1]["messages"]], ["system", "user"])
        self.assertEqual(fake.requests[0][1]["temperature"], 0.5)

    def test_ctrl_c_drops_the_line(self):
        with FakeOpenAI(answer) as fake:
            terminal = Terminal(fake.url, locale="C")
            terminal.type("never mind")
            terminal.wait_for("mind")
            terminal.type(CTRL_C)
            terminal.wait_for("leaves)")
            terminal.wait_for("> ")
            terminal.ask("später")
            self.assertEqual(terminal.end(), 0)
        self.assertEqual(self.asked(fake), ["später"])

    def test_https(self):
        with tempfile.TemporaryDirectory() as folder:
            certificate = pathlib.Path(folder, "both.pem")
            certificate.write_text(make_certificate(folder, "mine"))
            with FakeOpenAI(answer, certificate=certificate) as fake:
                def pipe(*flags):
                    return subprocess.run([HEARTH, "chat", "--url", fake.url + "/v1", *flags], input="hi", text=True, capture_output=True, timeout=100)

                for flags in (["--cacert", str(certificate)], ["--insecure"]):
                    done = pipe(*flags)
                    self.assertEqual((done.returncode, done.stdout.strip()), (0, "fine"), done.stderr)
                done = pipe()
                self.assertEqual(done.returncode, 1)
                self.assertIn("the server's certificate is not trusted", done.stderr)
                terminal = Terminal(fake.url, "--insecure")
                terminal.ask("well?")
                self.assertEqual(terminal.end(), 0)
        self.assertEqual(self.asked(fake), ["hi", "hi", "well?"])

    def test_an_error_is_said(self):
        with FakeOpenAI(lambda path, body: (400, {"error": {"message": "no such thing\x1b[31m"}})) as fake:
            terminal = Terminal(fake.url)
            terminal.type("x\r")
            terminal.wait_for("no such thing[31m")
            terminal.wait_for("> ")
            self.assertEqual(terminal.end(), 0)
            piped = subprocess.run([HEARTH, "chat", "--url", fake.url], input="hi", text=True, capture_output=True)
            self.assertEqual(piped.returncode, 1)
            self.assertIn("no such thing", piped.stderr)
        with FakeOpenAI(lambda path, body: (None, None)) as fake:
            piped = subprocess.run([HEARTH, "chat", "--url", fake.url], input="hi", text=True, capture_output=True)
            self.assertEqual(piped.returncode, 1)
            self.assertIn("the server closed the connection", piped.stderr)


unittest.main(argv=sys.argv[:1])
