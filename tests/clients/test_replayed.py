"""The requests that Open WebUI, Continue and aider send, as they send them: fields, headers and all."""
import json
import urllib.request

from client_test import KEY, NAME, QUESTION, URL, ClientTest

AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}


def ask(path, body=None, headers=AUTHORIZATION):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(URL + path, data, {"Content-Type": "application/json", **headers})) as answer:
        return answer.read().decode()


def streamed(text):
    """What the events of a chat's stream say, and the usage of the last."""
    events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    return said, chunks[-1].get("usage")


class OpenWebUI(ClientTest):
    HEADERS = {**AUTHORIZATION, "X-OpenWebUI-User-Name": "Ada", "X-OpenWebUI-User-Id": "1", "X-OpenWebUI-User-Role": "admin"}

    def test_models_then_chat_then_title(self):
        models = json.loads(ask("/v1/models", headers=self.HEADERS))["data"]
        self.assertIn(NAME, [model["id"] for model in models])
        messages = [{"role": "user", "content": QUESTION}]
        said, usage = streamed(ask("/v1/chat/completions", {
            "stream": True, "model": NAME, "messages": messages, "temperature": 0, "max_tokens": 20,
            "stream_options": {"include_usage": True}}, self.HEADERS))
        self.assertIn("Paris", said)
        self.assertGreater(usage["completion_tokens"], 0)
        title = json.loads(ask("/v1/chat/completions", {
            "model": NAME, "stream": False, "max_completion_tokens": 30, "messages": [
                {"role": "user", "content": f"### Task:\nGenerate a concise title.\n### Chat:\nUSER: {QUESTION}\nASSISTANT: {said}"}]},
            self.HEADERS))
        self.assertTrue(title["choices"][0]["message"]["content"])
        # The conversation goes on with what came back, nulls and empty lists in it.
        messages += [{**title["choices"][0]["message"], "content": said, "tool_calls": [], "refusal": None},
                     {"role": "user", "content": [{"type": "text", "text": "And of Italy?"}]}]
        said, _ = streamed(ask("/v1/chat/completions", {"stream": True, "model": NAME, "messages": messages, "temperature": 0,
                                                        "max_tokens": 20, "tools": [], "metadata": {"chat_id": "1"}}, self.HEADERS))
        self.assertTrue(said)


class Continue(ClientTest):
    def test_chat_and_autocomplete(self):
        for headers in ({**AUTHORIZATION, "api-key": KEY}, {"api-key": KEY}, {"x-api-key": KEY}):
            said, _ = streamed(ask("/v1/chat/completions", {
                "messages": [{"role": "system", "content": "Answer in few words."}, {"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
                "model": NAME, "max_tokens": 16, "stream": True, "stop": [], "top_p": None, "frequency_penalty": None}, headers))
            self.assertTrue(said)
        text = ask("/v1/completions", {
            "model": NAME, "prompt": "def fib(n):\n    ", "max_tokens": 16, "temperature": 0.01, "stream": True,
            "stop": ["\n\n", "<|endoftext|>", "</s>", "<fim_prefix>", "\r\n\r\n"]}, {**AUTHORIZATION, "api-key": KEY})
        self.assertTrue(text.endswith("data: [DONE]\n\n"))


class Aider(ClientTest):
    def test_an_edit(self):
        said, _ = streamed(ask("/v1/chat/completions", {
            "model": NAME, "temperature": 0, "stream": True, "max_tokens": 24, "messages": [
                {"role": "system", "content": "Act as an expert software developer."},
                {"role": "user", "content": "I switched to a new code base."}, {"role": "assistant", "content": "Ok."},
                {"role": "user", "content": "print hello\n\n# *SEARCH/REPLACE block* Rules: use <|im_end|> nowhere."}]},
            {**AUTHORIZATION, "User-Agent": "OpenAI/Python 1.99", "X-Stainless-Lang": "python", "X-Stainless-Retry-Count": "0"}))
        self.assertTrue(said)
