"""pydantic-ai: an agent that chats, goes on with its history, and streams."""
import asyncio

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from client_test import KEY, NAME, QUESTION, URL, ClientTest


class PydanticAi(ClientTest):
    def agent(self):
        model = OpenAIChatModel(NAME, provider=OpenAIProvider(base_url=URL + "/v1", api_key=KEY))
        return Agent(model, instructions="Answer in few words.", model_settings={"temperature": 0, "max_tokens": 20})

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
