"""LiteLLM's completion, as openai/ and as hosted_vllm/: chat, tools, schemas. Its own exceptions come from what the server's errors say."""
import unittest

import litellm
import openai

from client_test import CALL, CALL_BIAS, KEY, MESSAGES, NAME, URL, ClientTest, Clock, Weather

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

    def test_tools(self):
        models = {model.__name__: model for model in (Weather, Clock)}
        ask = dict(messages=[{"role": "user", "content": "Set the clock to 7 in UTC."}], tools=[openai.pydantic_function_tool(model) for model in models.values()],
                   max_tokens=200, parallel_tool_calls=False)
        for provider in ("openai", "hosted_vllm"):
            for choice in ("required", {"type": "function", "function": {"name": "Clock"}}):
                with self.subTest(provider=provider, choice=choice):
                    whole = self.ask(provider, tool_choice=choice, **ask)
                    self.assertEqual(whole.choices[0].finish_reason, "tool_calls")
                    [call] = whole.choices[0].message.tool_calls
                    self.assertIn(call.function.name, models if choice == "required" else ["Clock"])
                    models[call.function.name].model_validate_json(call.function.arguments)
                    chunks = list(self.ask(provider, tool_choice=choice, stream=True, **ask))
                    streamed = litellm.stream_chunk_builder(chunks, messages=ask["messages"]).choices[0]
                    self.assertEqual([(one.function.name, one.function.arguments) for one in streamed.message.tool_calls],
                                     [(call.function.name, call.function.arguments)])
                    self.assertEqual(streamed.finish_reason, "tool_calls")
                    history = [*ask["messages"], whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
                    after = self.ask(provider, messages=history, tools=ask["tools"], tool_choice="none")
                    self.assertFalse(after.choices[0].message.tool_calls)
                    self.assertTrue(after.choices[0].message.content)

    @unittest.skipUnless(CALL_BIAS, "needs a token that begins calls")
    def test_tools_that_may_be_called(self):
        answer = self.ask(messages=[{"role": "user", "content": CALL}], max_tokens=200,
                          tools=[openai.pydantic_function_tool(Clock)], logit_bias=CALL_BIAS, parallel_tool_calls=False)
        self.assertEqual([call.function.name for call in answer.choices[0].message.tool_calls], ["Clock"])

    def test_schemas(self):
        for provider in ("openai", "hosted_vllm"):
            with self.subTest(provider=provider):
                answer = self.ask(provider, messages=[{"role": "user", "content": "How warm is it in Oslo?"}], response_format=Weather, max_tokens=200)
                Weather.model_validate_json(answer.choices[0].message.content)

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

