"""pydantic-ai: an agent that chats, goes on with its history, streams, calls tools and answers with a structure."""
import asyncio
import unittest
from typing import Literal

from pydantic_ai import Agent, NativeOutput, ToolOutput, UsageLimitExceeded, UsageLimits, capture_run_messages
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from client_test import CALL, CALL_BIAS, KEY, NAME, QUESTION, URL, ClientTest, Clock, Weather


class PydanticAi(ClientTest):
    def agent(self, max_tokens=20, **more):
        model = OpenAIChatModel(NAME, provider=OpenAIProvider(base_url=URL + "/v1", api_key=KEY))
        return Agent(model, instructions="Answer in few words.", model_settings={"temperature": 0, "max_tokens": max_tokens, "parallel_tool_calls": False}, **more)

    def test_a_conversation(self):
        agent = self.agent()
        first = agent.run_sync(QUESTION)
        self.assertIn("Paris", first.output)
        second = agent.run_sync("And of Italy?", message_history=first.all_messages())
        self.assertIn("Rome", second.output)

    def test_a_stream(self):
        async def pieces():
            async with self.agent().run_stream(QUESTION) as answer:
                return [piece async for piece in answer.stream_text(delta=True)]
        said = asyncio.run(pieces())
        self.assertIn("Paris", "".join(said))

    def test_outputs(self):
        """As a call of an output tool, of one of two, and by a JSON Schema; whole and streamed."""
        async def last(agent):
            async with agent.run_stream("How warm is it in Oslo?") as answer:
                return await answer.get_output()
        for output in (Weather, [ToolOutput(Weather), ToolOutput(Clock)], NativeOutput(Weather)):
            with self.subTest(output=output):
                agent = self.agent(200, output_type=output, retries=0)
                whole = agent.run_sync("How warm is it in Oslo?").output
                self.assertIsInstance(whole, (Weather, Clock))
                self.assertEqual(asyncio.run(last(agent)), whole)

    def test_a_tool_is_called_with_valid_arguments(self):
        """The model must call: a function or the output tool. What it calls is run, and its result goes back."""
        called = []
        agent = self.agent(200, output_type=ToolOutput(Weather), retries=0)

        @agent.tool_plain
        def thermometer(weather: Weather) -> str:
            """Measures the temperature."""
            called.append(weather)
            return f"{weather.degrees} degrees"
        with capture_run_messages() as messages:
            try:
                agent.run_sync("Measure the temperature in Oslo with the thermometer.", usage_limits=UsageLimits(request_limit=4))
            except UsageLimitExceeded:
                pass  # a model that knows nothing of tools may call on and on
        parts = [part for message in messages for part in message.parts]
        self.assertTrue(any(isinstance(part, ToolCallPart) for part in parts))
        returned = [part.content for part in parts if isinstance(part, ToolReturnPart) and part.tool_name == "thermometer"]
        self.assertEqual(returned, [f"{weather.degrees} degrees" for weather in called])

    @unittest.skipUnless(CALL_BIAS, "needs a token that begins calls")
    def test_an_agent_that_may_call(self):
        called = []
        agent = self.agent(200)

        @agent.tool_plain
        def set_clock(hour: int, zone: Literal["UTC", "CET"]) -> str:
            """Sets the clock."""
            called.append((hour, zone))
            return "done"
        with capture_run_messages() as messages:
            try:
                agent.run_sync(CALL, model_settings={"logit_bias": CALL_BIAS}, usage_limits=UsageLimits(request_limit=2))
            except UsageLimitExceeded:
                pass
        self.assertEqual(called[0][0], 7)
