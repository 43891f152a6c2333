"""instructor: pydantic models out of tool calls and out of JSON, whole, in parts and as a list."""
import unittest
from typing import Iterable, Union

import instructor
import openai
from pydantic import field_validator

from client_test import CALL, CALL_BIAS, KEY, NAME, URL, ClientTest, Clock, Weather

ASK = [{"role": "user", "content": "How warm is it in Oslo, in degrees?"}]


class Instructor(ClientTest):
    def client(self, mode):
        return instructor.from_openai(openai.OpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0), mode=mode)

    def arguments(self, **more):
        # max_retries=1: the first answer must be valid, or instructor's own error is the test's failure.
        return dict(model=NAME, messages=ASK, max_tokens=200, temperature=0, max_retries=1) | more

    def test_every_mode(self):
        for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA):
            with self.subTest(mode=mode):
                weather, completion = self.client(mode).chat.completions.create_with_completion(response_model=Weather, **self.arguments())
                self.assertIsInstance(weather, Weather)
                self.assertEqual(bool(completion.choices[0].message.tool_calls), mode != instructor.Mode.JSON_SCHEMA)

    def test_parts_of_a_stream(self):
        for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
            with self.subTest(mode=mode):
                client = self.client(mode)
                parts = list(client.chat.completions.create_partial(response_model=Weather, **self.arguments()))
                whole = client.chat.completions.create(response_model=Weather, **self.arguments())
                self.assertGreater(len(parts), 2)
                self.assertEqual(parts[-1].model_dump(), whole.model_dump())

    @unittest.skipUnless(CALL_BIAS, "needs a token that begins calls")
    def test_calls_of_several_models(self):
        ask = [{"role": "user", "content": CALL}]
        calls = list(self.client(instructor.Mode.PARALLEL_TOOLS).chat.completions.create(
            response_model=Iterable[Union[Weather, Clock]], logit_bias=CALL_BIAS, **self.arguments(messages=ask, parallel_tool_calls=False)))
        self.assertGreater(len(calls), 0)
        for call in calls:
            self.assertIsInstance(call, (Weather, Clock))

    def test_what_a_schema_cannot_say_is_asked_again(self):
        """A validator of Python's own fails: instructor sends the call and the error back, and asks once more."""
        seen = []

        class Picky(Weather):
            @field_validator("degrees")
            @classmethod
            def twice(cls, value):
                seen.append(value)
                if len(seen) == 1:
                    raise ValueError("not so, try again")
                return value
        answer = self.client(instructor.Mode.TOOLS).chat.completions.create(response_model=Picky, **self.arguments(max_retries=2))
        self.assertIsInstance(answer, Picky)
        self.assertEqual(len(seen), 2)
