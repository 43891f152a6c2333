"""openai-python's Responses and the anthropic client's Messages against `hearth serve` on SmolLM2: whole and streamed.
Usage: test_spellings.py HEARTH MODEL"""
import json
import pathlib
import sys
import unittest

import anthropic
import openai
import pydantic

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from running_server import RunningServer

HEARTH, MODEL = sys.argv[1:3]
NAME = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}}, "required": ["city"], "additionalProperties": False}


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    people: int = pydantic.Field(ge=0, le=99999999)


class Responses(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = openai.OpenAI(base_url=server.url("/v1"), api_key="secret", max_retries=0)

    def test_text_whole_and_streamed(self):
        arguments = dict(model=NAME, input=QUESTION, temperature=0, max_output_tokens=40)
        whole = self.client.responses.create(**arguments)
        self.assertEqual((whole.object, whole.status, whole.model), ("response", "completed", NAME))
        self.assertIn("Paris", whole.output_text)
        self.assertEqual(whole.usage.total_tokens, whole.usage.input_tokens + whole.usage.output_tokens)
        with self.client.responses.stream(**arguments) as stream:
            events = list(stream)
            final = stream.get_final_response()
        self.assertEqual([e.sequence_number for e in events if hasattr(e, "sequence_number")], list(range(len(events))))
        types = [e.type for e in events]
        self.assertEqual(types[:4], ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"])
        self.assertEqual(types[-4:], ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"])
        self.assertEqual("".join(e.delta for e in events if e.type == "response.output_text.delta"), whole.output_text)
        self.assertEqual(final.output_text, whole.output_text)

    def test_cut_off(self):
        answer = self.client.responses.create(model=NAME, input=QUESTION, temperature=0, max_output_tokens=3)
        self.assertEqual((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"))
        self.assertEqual(answer.output[0].status, "incomplete")

    def test_conversation_by_id(self):
        first = self.client.responses.create(model=NAME, instructions="Answer in a word.", input="My name is Ada.", temperature=0, max_output_tokens=30)
        second = self.client.responses.create(model=NAME, input=QUESTION, previous_response_id=first.id, temperature=0, max_output_tokens=30)
        self.assertGreater(second.usage.input_tokens, first.usage.input_tokens)
        listed = self.client.responses.create(model=NAME, temperature=0, max_output_tokens=30, store=False, input=[
            {"role": "user", "content": "My name is Ada."}, *[item.model_dump(exclude_none=True) for item in first.output], {"role": "user", "content": QUESTION}])
        self.assertEqual(listed.output_text, second.output_text)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.create(model=NAME, input="x", previous_response_id=listed.id)

    def test_function_calls(self):
        tools = [{"type": "function", "name": "visit", "description": "Visit.", "parameters": SCHEMA, "strict": True}]
        arguments = dict(model=NAME, input="Go to Oslo.", tools=tools, tool_choice="required", parallel_tool_calls=False, temperature=0, max_output_tokens=60)
        whole = self.client.responses.create(**arguments)
        (call,) = whole.output
        self.assertEqual((call.type, call.name, call.status), ("function_call", "visit", "completed"))
        self.assertIn(json.loads(call.arguments)["city"], ["Paris", "Oslo"])
        with self.client.responses.stream(**arguments) as stream:
            events = list(stream)
        self.assertEqual("".join(e.delta for e in events if e.type == "response.function_call_arguments.delta"), call.arguments)
        answer = self.client.responses.create(model=NAME, temperature=0, max_output_tokens=10, previous_response_id=whole.id,
                                              input=[{"type": "function_call_output", "call_id": call.call_id, "output": "done"}])
        self.assertEqual(answer.output[0].type, "message")

    def test_parse(self):
        answer = self.client.responses.parse(model=NAME, input="Name a city.", text_format=City, max_output_tokens=100, temperature=0)
        self.assertIsInstance(answer.output_parsed, City)


class Messages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = anthropic.Anthropic(base_url=server.url(), api_key="secret", max_retries=0)

    def create(self, **arguments):
        return self.client.messages.create(**dict(model=NAME, max_tokens=40, extra_body={"temperature": 0}, messages=[{"role": "user", "content": QUESTION}]) | arguments)

    def test_text_whole_and_streamed(self):
        whole = self.create(system="You are a helpful AI assistant.")
        self.assertEqual((whole.type, whole.role), ("message", "assistant"))
        self.assertIn("Paris", whole.content[0].text)
        with self.client.messages.stream(model=NAME, max_tokens=40, extra_body={"temperature": 0}, system=[{"type": "text", "text": "You are a helpful AI assistant."}],
                                         messages=[{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, whole.content[0].text)
        self.assertEqual(final.content[0].text, text)
        self.assertEqual((final.stop_reason, final.usage.output_tokens), (whole.stop_reason, whole.usage.output_tokens))

    def test_stop_reasons(self):
        self.assertEqual(self.create(max_tokens=2).stop_reason, "max_tokens")
        stopped = self.create(stop_sequences=["Paris"])
        self.assertEqual((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", "Paris"))

    def test_tools(self):
        tools = [{"name": "visit", "description": "Visit.", "input_schema": SCHEMA}]
        arguments = dict(messages=[{"role": "user", "content": "Go to Oslo."}], tools=tools, max_tokens=60,
                         tool_choice={"type": "tool", "name": "visit"})
        whole = self.create(**arguments)
        self.assertEqual(whole.stop_reason, "tool_use")
        (use,) = whole.content
        self.assertEqual((use.type, use.name), ("tool_use", "visit"))
        self.assertIn(use.input["city"], ["Paris", "Oslo"])
        with self.client.messages.stream(model=NAME, extra_body={"temperature": 0}, **arguments) as stream:
            final = stream.get_final_message()
        self.assertEqual(final.content[0].input, use.input)
        self.assertEqual(final.stop_reason, "tool_use")
        answer = self.create(tools=tools, tool_choice={"type": "none"}, max_tokens=10, messages=[
            *arguments["messages"], {"role": "assistant", "content": [use.model_dump()]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "done"}]}])
        self.assertEqual(answer.content[0].type, "text")

    def test_count_tokens_is_what_a_call_uses(self):
        messages = [{"role": "user", "content": QUESTION}]
        count = self.client.messages.count_tokens(model=NAME, messages=messages).input_tokens
        usage = self.create(messages=messages, max_tokens=1).usage
        self.assertEqual(count, usage.input_tokens + (usage.cache_read_input_tokens or 0))

    def test_json_output(self):
        answer = self.create(messages=[{"role": "user", "content": "Name a city."}], output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
        self.assertIn(json.loads(answer.content[0].text)["city"], ["Paris", "Oslo"])

    def test_prefill(self):
        self.assertTrue(self.create(messages=[{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "The capital of France is"}])
                        .content[0].text.startswith(" Paris"))

    def test_errors(self):
        with self.assertRaises(anthropic.BadRequestError) as caught:
            self.create(messages=[{"role": "user", "content": [{"type": "image", "source": {}}]}])
        self.assertEqual(caught.exception.body["error"]["type"], "invalid_request_error")
        with self.assertRaises(anthropic.NotFoundError):
            self.create(model="other")
        with self.assertRaises(anthropic.AuthenticationError):
            anthropic.Anthropic(base_url=server.url(), api_key="wrong", max_retries=0).messages.create(model=NAME, max_tokens=1, messages=[])


with RunningServer(HEARTH, MODEL, "--max-model-len", "2048", "--tool-call-parser", "hermes", key="secret") as server:
    outcome = unittest.main(argv=sys.argv[:1], exit=False).result
sys.exit(not outcome.wasSuccessful())
