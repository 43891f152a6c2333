"""The built-in page in headless Chromium, driven through chromedriver (Debian's chromium and chromium-driver), against the real
`hearth serve`: a key, a click, a streamed answer, a stop, the plots. Ends with 77 where there is no chromedriver.
Usage: test_page.py HEARTH MODEL [SCREENSHOT.png]"""
import base64
import json
import pathlib
import shutil
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from running_server import RunningServer, free_port

HEARTH, MODEL = sys.argv[1:3]
SCREENSHOT = sys.argv[3] if len(sys.argv) > 3 else None
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's name for a reference
ENTER = "\ue007"


class Browser:
    """As much of the WebDriver protocol as this test needs."""

    def __init__(self):
        self.port = free_port()
        self.process = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL)
        self.session = ""
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
        options = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        end = time.monotonic() + 60
        while True:
            try:
                self.session = "/" + self.call("/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def call(self, path, body=None):
        path = "/session" + self.session + path if self.session else path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def element(self, css):
        return "/element/" + self.call("/element", {"using": "css selector", "value": css})[ELEMENT]

    def text(self, css):
        return self.call(self.element(css) + "/text")

    def type(self, css, text):
        self.call(self.element(css) + "/value", {"text": text})

    def click(self, css):
        """Again where the page moved away under the pointer, as it does while an answer grows."""
        end = time.monotonic() + 20
        while True:
            try:
                return self.call(self.element(css) + "/click", {})
            except urllib.error.HTTPError as error:
                if error.code != 400 or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def until(self, what, script):
        end = time.monotonic() + 120
        while not self.call("/execute/sync", {"script": "return " + script, "args": []}):
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come; the page: {self.text('body')!r}")
            time.sleep(0.05)

    def stop(self):
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}/session{self.session}", method="DELETE"))
        self.process.terminate()
        self.process.wait()


class Page(unittest.TestCase):
    def test_key_chat_stop_and_plots(self):
        browser.call("/url", {"url": server.url("/")})
        browser.until("the question for a key", "!document.querySelector('#key-form').hidden")
        browser.type("#key", "secret" + ENTER)
        browser.until("the model's name", "document.querySelector('#facts').textContent.includes('smollm2')")
        self.assertIn("context 2,048", browser.text("#facts"))
        self.assertRegex(browser.text("#facts"), r"llama .*cpu .*version \d+\.\d+\.\d+ \([0-9a-f]{7}(-dirty)?\)")
        self.assertEqual(browser.call("/execute/sync", {"script": "return document.querySelector('#key-form').hidden", "args": []}), True)

        # A click, and an answer that grows.
        browser.type("#temperature", "0")
        browser.type("#message", "What is the capital of France?")
        browser.click("#send")
        browser.until("the beginning of an answer", "document.querySelectorAll('.turn.assistant span')[1]?.textContent.length > 0")
        browser.until("its end", "/tokens, first after/.test(document.querySelector('.turn.assistant .note')?.textContent)")
        self.assertIn("Paris", browser.text(".turn.assistant"))

        # The keyboard, and a stop: what came stays.
        browser.type("#message", "Write a long story about the sea." + ENTER)
        browser.until("a second answer", "document.querySelectorAll('.turn.assistant')[1]?.textContent.length > 60")
        browser.click("#stop")
        browser.until("the stop", "document.querySelectorAll('.turn.assistant .note')[1]?.textContent === 'stopped'")
        browser.until("nobody at work", "document.querySelector('#v-requests').textContent === '0, 0'")

        # Plots and percentiles of what was served.
        browser.until("the plots", "document.querySelector('#g-tokens path').getAttribute('d').split('L').length > 2")
        browser.until("the percentiles", "/^First token\\s+[0-9.]+ m?s/.test(document.querySelector('#latency').innerText)")
        errors = [entry for entry in browser.call("/se/log", {"type": "browser"}) if entry["level"] == "SEVERE" and "401" not in entry["message"]]
        self.assertEqual(errors, [])
        if SCREENSHOT:
            pathlib.Path(SCREENSHOT).write_bytes(base64.b64decode(browser.call("/screenshot")))

    def test_what_a_user_writes_is_text(self):
        browser.call("/url", {"url": server.url("/")})
        browser.until("the model's name", "document.querySelector('#facts').textContent.includes('smollm2')")
        browser.type("#message", "<img src=x onerror=document.title=1>" + ENTER)
        browser.until("the turn", "document.querySelector('.turn.user')?.textContent.includes('<img')")
        self.assertEqual(browser.call("/title"), "Hearth")
        browser.click("#stop")

    def test_labels(self):
        script = """return [...document.querySelectorAll('input, textarea, button, svg[role=img]')].filter(e =>
          !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())).map(e => e.id)"""
        browser.call("/url", {"url": server.url("/")})
        self.assertEqual(browser.call("/execute/sync", {"script": script, "args": []}), [])


if __name__ == "__main__":
    if not shutil.which("chromedriver"):
        print("no chromedriver on this machine: apt-get install chromium chromium-driver")
        sys.exit(77)
    with RunningServer(HEARTH, MODEL, "--device", "cpu", "--max-model-len", "2048", key="secret") as server:
        browser = Browser()
        try:
            result = unittest.main(argv=sys.argv[:1], exit=False, verbosity=2).result
        finally:
            browser.stop()
    sys.exit(not result.wasSuccessful())
