"""LiteLLM's completion, as openai/ and as hosted_vllm/: its own exceptions come from what the server's errors say."""
import litellm

from client_test import KEY, MESSAGES, NAME, URL, ClientTest

litellm.telemetry = False
litellm.suppress_debug_info = True


class LiteLLM(ClientTest):
    def ask(self, provider="openai", **more):
        return litellm.completion(**{"model": f"{provider}/{NAME}", "messages": MESSAGES, "api_base": URL + "/v1", "api_key": KEY,
                                     "temperature": 0, "max_tokens": 20, "num_retries": 0, **more})

    def test_both_providers_and_streams(self):
        for provider in ("openai", "hosted_vllm"):
            whole = self.ask(provider)
            self.assertIn("Paris", whole.choices[0].message.content)
            chunks = list(self.ask(provider, stream=True, stream_options={"include_usage": True}))
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            self.assertEqual(text, whole.choices[0].message.content)
            self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)

    def test_text_completion(self):
        answer = litellm.text_completion(model=f"text-completion-openai/{NAME}", prompt="The capital of France is", api_base=URL + "/v1",
                                         api_key=KEY, temperature=0, max_tokens=5)
        self.assertIn("Paris", answer.choices[0].text)

    def test_errors(self):
        with self.assertRaises(litellm.ContextWindowExceededError):
            self.ask(messages=[{"role": "user", "content": "word " * 5000}])
        with self.assertRaises(litellm.AuthenticationError):
            self.ask(api_key="wrong")
        with self.assertRaises(litellm.NotFoundError):
            self.ask(model="openai/else")
        with self.assertRaises(litellm.BadRequestError):
            self.ask(temperature=-1)

