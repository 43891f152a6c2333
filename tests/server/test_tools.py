"""openai-python's tools, pydantic parsing and streams against `hearth serve` on SmolLM2, jsonschema as the judge.
A grammar makes any model give valid calls. Usage: test_tools.py HEARTH MODEL [CONVERSATIONS]"""
import json
import pathlib
import random
import sys
import unittest
from typing import Literal, Optional

import openai
import pydantic
from jsonschema import Draft202012Validator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from running_server import RunningServer

HEARTH, MODEL = sys.argv[1:3]
CONVERSATIONS = int(sys.argv[3]) if len(sys.argv) > 3 else 12
NAME = "smollm2-135m-instruct"

TOOLS = {
    "get_weather": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 14},
                                                     "unit": {"type": "string", "enum": ["C", "F"]}}, "required": ["city", "days"], "additionalProperties": False},
    "add-note": {"type": "object", "properties": {"tags": {"type": "array", "items": {"enum": ["home", "work"]}, "maxItems": 2},
                                                  "done": {"type": "boolean"}}, "required": ["done"]},
    "now": {"type": "object", "properties": {}},
    "convert": {"type": "object", "properties": {"amount": {"type": "number", "minimum": 0, "maximum": 1000}, "to": {"anyOf": [{"const": "EUR"}, {"type": "null"}]}},
                "required": ["amount", "to"]},
    "search": {"type": "object", "properties": {"query": {"type": "string", "maxLength": 15}, "since": {"type": "string", "format": "date"}}, "required": ["query"]},
}


def tool(name):
    return {"type": "function", "function": {"name": name, "description": f"{name}.", "parameters": TOOLS[name]}}


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    age: int = pydantic.Field(ge=0, le=120)
    kind: Literal["cat", "human"]
    home: Optional["Home"]


class Home(pydantic.BaseModel):
    street: str = pydantic.Field(max_length=20)
    number: int = pydantic.Field(ge=1, le=99)


class GetWeather(pydantic.BaseModel):
    city: Literal["Paris", "Oslo"]


class Tools(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = openai.OpenAI(base_url=server.url("/v1"), api_key="none", max_retries=0)

    def check(self, message, allowed):
        self.assertGreater(len(message.tool_calls), 0)
        self.assertEqual(len({call.id for call in message.tool_calls}), len(message.tool_calls))
        for call in message.tool_calls:
            self.assertEqual(call.type, "function")
            self.assertIn(call.function.name, allowed)
            Draft202012Validator(TOOLS[call.function.name]).validate(json.loads(call.function.arguments))

    def create(self, **arguments):
        return self.client.chat.completions.create(model=NAME, max_tokens=250, **arguments)

    def test_conversations(self):
        rng = random.Random(5)
        for i in range(CONVERSATIONS):
            names = rng.sample(sorted(TOOLS), rng.randint(1, 5))
            messages = [{"role": "user", "content": rng.choice(["What is the weather?", "Do something.", "Note that!", "Which day is it?"])}]
            arguments = dict(messages=messages, tools=[tool(name) for name in names], tool_choice="required", seed=i,
                             parallel_tool_calls=rng.random() < 0.5, temperature=rng.choice([0, 1]))
            if not arguments["parallel_tool_calls"] and rng.random() < 0.5:
                arguments["tool_choice"] = {"type": "function", "function": {"name": names[0]}}
            whole = self.create(**arguments).choices[0]
            if whole.finish_reason == "length":
                continue  # it would have called on and on
            self.assertEqual(whole.finish_reason, "tool_calls")
            self.assertIsNone(whole.message.content)
            self.check(whole.message, names)
            if not arguments["parallel_tool_calls"]:
                self.assertEqual(len(whole.message.tool_calls), 1)

            with self.client.chat.completions.stream(model=NAME, max_tokens=250, **arguments) as stream:
                streamed = stream.get_final_completion().choices[0]
            self.assertEqual([c.function.arguments for c in streamed.message.tool_calls], [c.function.arguments for c in whole.message.tool_calls])
            self.assertEqual([c.function.name for c in streamed.message.tool_calls], [c.function.name for c in whole.message.tool_calls])
            self.assertEqual(streamed.finish_reason, whole.finish_reason)

            # The result goes back, and the model answers.
            messages.append(whole.message.model_dump(exclude_none=True))
            for call in whole.message.tool_calls:
                messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
            if i % 4 == 0:
                answer = self.create(**arguments | {"messages": messages, "tool_choice": "none"}).choices[0]
                self.assertFalse(answer.message.tool_calls)
                self.assertNotEqual(answer.message.content, "")

    def test_auto_may_answer_in_words(self):
        answer = self.create(messages=[{"role": "user", "content": "What is the capital of France?"}], tools=[tool("now")], temperature=0).choices[0]
        self.assertIn("Paris", answer.message.content)
        self.assertEqual(answer.finish_reason, "stop")

    def test_parse(self):
        for seed in range(3):
            answer = self.client.chat.completions.parse(model=NAME, messages=[{"role": "user", "content": "Invent a person."}], seed=seed,
                                                        max_tokens=200, response_format=Person)
            self.assertEqual(answer.choices[0].finish_reason, "stop")
            self.assertIsInstance(answer.choices[0].message.parsed, Person)

    def test_parse_of_tools(self):
        answer = self.client.chat.completions.parse(model=NAME, messages=[{"role": "user", "content": "How warm is it in Oslo?"}], max_tokens=100,
                                                    tools=[openai.pydantic_function_tool(GetWeather)], tool_choice="required",
                                                    parallel_tool_calls=False, temperature=0)
        self.assertIsInstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, GetWeather)

    def test_json_object(self):
        answer = self.create(messages=[{"role": "user", "content": "A JSON object with one key, please."}], temperature=0,
                             response_format={"type": "json_object"}).choices[0]
        if answer.finish_reason == "stop":
            self.assertIsInstance(json.loads(answer.message.content), dict)

    def test_guided(self):
        complete = lambda **extra: self.client.completions.create(model=NAME, prompt="The answer is", temperature=0, max_tokens=30, extra_body=extra).choices[0].text
        self.assertIn(complete(guided_choice=["yes", "no"]), ["yes", "no"])
        self.assertRegex(complete(structured_outputs={"regex": r"[a-c]{2}-\d{3}"}), r"^[a-c]{2}-\d{3}$")
        self.assertRegex(complete(guided_grammar='root ::= "<" [0-9] ">"'), "^<[0-9]>$")
        self.assertIn(json.loads(complete(guided_json={"enum": ["a", 1]})), ["a", 1])

    def test_structural_tags(self):
        structure = {"begin": "<t>", "schema": {"enum": ["yes", "no"]}, "end": "</t>"}
        tags = {"type": "structural_tag", "format": {"type": "tags_with_separator", "at_least_one": True, "stop_after_first": True, "separator": ", ", "tags": [
            {"begin": "<t>", "content": {"type": "json_schema", "json_schema": structure["schema"]}, "end": "</t>"}]}}
        ask = dict(messages=[{"role": "user", "content": "Yes or no?"}], temperature=0)
        for extra in ({"response_format": tags}, {"structured_outputs": {"structural_tag": tags}}, {"structured_outputs": {"structural_tag": json.dumps(tags)}}):
            self.assertRegex(self.create(**ask, extra_body=extra).choices[0].message.content, '^<t>"(yes|no)"</t>$')
        older = {"type": "structural_tag", "structures": [structure], "triggers": ["<t>"]}
        said = self.create(**ask, extra_body={"response_format": older, "max_tokens": 30}).choices[0].message.content
        for rest in said.split("<t>")[1:]:
            self.assertRegex(rest, '^"(yes|no)"</t>')

    def test_other_forms_beside_tools(self):
        """What is not a call has the form."""
        ask = dict(messages=[{"role": "user", "content": "Yes or no?"}], tools=[tool("now")], temperature=0)
        for extra, form in (({"guided_choice": ["yes", "no"]}, "^(yes|no)$"), ({"guided_grammar": 'root ::= "(" root ")" | [0-9]'}, r"^\(*[0-9]\)*$"),
                            ({"guided_regex": "[a-z]{3}"}, "^[a-z]{3}$")):
            message = self.create(**ask, extra_body=extra).choices[0].message
            if message.tool_calls:
                self.check(message, ["now"])
            else:
                self.assertRegex(message.content, form)

    def test_token_rules_beside_a_schema(self):
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["red", "blue"]}}}
        ask = dict(messages=[{"role": "user", "content": "Red or blue?"}], response_format=schema, temperature=0)
        first = json.loads(self.create(**ask).choices[0].message.content)
        other = self.create(**ask, extra_body={"bad_words": [first, first[:2], first[:1]]}).choices[0].message.content
        self.assertEqual({first, json.loads(other)}, {"red", "blue"})

    def test_many_choices_are_each_valid(self):
        answer = self.create(messages=[{"role": "user", "content": "Roll a die."}], n=4, seed=1,
                             response_format={"type": "json_schema", "json_schema": {"name": "die", "strict": True, "schema": {"type": "integer", "minimum": 1, "maximum": 6}}})
        for choice in answer.choices:
            self.assertIn(json.loads(choice.message.content), range(1, 7))

    def test_refusals_name_what_is_wrong(self):
        for extra, param in [({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "if": {}}}}}, "response_format"),
                             ({"extra_body": {"guided_regex": "(a|a)*b"}}, "guided_regex"),
                             ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name")]:
            with self.assertRaises(openai.BadRequestError) as caught:
                self.create(messages=[{"role": "user", "content": "x"}], **extra)
            self.assertEqual(caught.exception.param, param)


with RunningServer(HEARTH, MODEL, "--max-model-len", "2048", "--tool-call-parser", "hermes") as server:
    unittest.main(argv=sys.argv[:1])
