"""LangChain's ChatOpenAI and OpenAI."""
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI
import openai

from client_test import KEY, NAME, QUESTION, URL, ClientTest


class LangChain(ClientTest):
    def chat(self, **more):
        return ChatOpenAI(base_url=URL + "/v1", api_key=KEY, temperature=0, max_retries=0, **{"model": NAME, "max_tokens": 20, **more})

    def test_invoke_and_stream_agree(self):
        chat = self.chat(stream_usage=True)
        whole = chat.invoke(QUESTION)
        self.assertIn("Paris", whole.content)
        self.assertEqual(whole.response_metadata["finish_reason"], "stop")
        self.assertEqual(whole.usage_metadata["total_tokens"],
                         whole.usage_metadata["input_tokens"] + whole.usage_metadata["output_tokens"])
        chunks = list(chat.stream(QUESTION))
        self.assertEqual("".join(c.content for c in chunks), whole.content)
        total = chunks[0]
        for chunk in chunks[1:]:
            total += chunk
        self.assertEqual(total.usage_metadata["output_tokens"], whole.usage_metadata["output_tokens"])

    def test_batch_and_logprobs(self):
        answers = self.chat(max_tokens=5).batch([QUESTION, "Say hello."])
        self.assertEqual(len(answers), 2)
        logprobs = self.chat(max_tokens=3, logprobs=True, top_logprobs=2).invoke(QUESTION).response_metadata["logprobs"]["content"]
        self.assertEqual([len(t["top_logprobs"]) for t in logprobs], [2] * len(logprobs))

    def test_a_conversation_with_a_tools_answer(self):
        call = {"name": "capital", "args": {"country": "France"}, "id": "call_1", "type": "tool_call"}
        answer = self.chat().invoke([
            SystemMessage("You are brief."), HumanMessage(QUESTION), AIMessage("", tool_calls=[call]),
            ToolMessage("Paris", tool_call_id="call_1"), HumanMessage("And so?")])
        self.assertTrue(answer.content)

    def test_completions(self):
        text = OpenAI(base_url=URL + "/v1", api_key=KEY, model=NAME, temperature=0, max_tokens=5, max_retries=0).invoke("The capital of France is")
        self.assertIn("Paris", text)

    def test_errors(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat().invoke("word " * 5000)
        self.assertIn("This model's maximum context length is", str(caught.exception))
        with self.assertRaises(openai.NotFoundError):
            self.chat(model="else").invoke(QUESTION)
