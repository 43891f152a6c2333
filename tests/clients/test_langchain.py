"""LangChain's ChatOpenAI and OpenAI: chat, tools, answers with a structure."""
import json
import unittest

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI
import openai

from client_test import CALL, CALL_BIAS, KEY, NAME, QUESTION, URL, ClientTest, Clock, Weather


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

    def test_bind_tools(self):
        for choice, models in (("any", (Weather, Clock)), ("required", (Weather, Clock)), ("Clock", (Clock,))):
            with self.subTest(choice=choice):
                chat = self.chat(max_tokens=200).bind_tools([Weather, Clock], tool_choice=choice, parallel_tool_calls=False)
                answer = chat.invoke("Set the clock to 7 in UTC.")
                self.assertEqual(answer.response_metadata["finish_reason"], "tool_calls")
                self.assertEqual(answer.invalid_tool_calls, [])
                [call] = answer.tool_calls
                {model.__name__: model for model in models}[call["name"]].model_validate(call["args"])
                streamed = None
                for chunk in chat.stream("Set the clock to 7 in UTC."):
                    streamed = chunk if streamed is None else streamed + chunk
                self.assertEqual([(one["name"], one["args"]) for one in streamed.tool_calls], [(call["name"], call["args"])])
                # The call and its result go back.
                after = self.chat().invoke([HumanMessage("Set the clock."), answer, ToolMessage("done", tool_call_id=call["id"])])
                self.assertEqual(after.tool_calls, [])

    def test_with_structured_output(self):
        for method in ("json_schema", "function_calling"):
            for strict in (True, None):
                with self.subTest(method=method, strict=strict):
                    chat = self.chat(max_tokens=200).with_structured_output(Weather, method=method, strict=strict, include_raw=True)
                    answer = chat.invoke("How warm is it in Oslo?")
                    self.assertIsNone(answer["parsing_error"])
                    self.assertIsInstance(answer["parsed"], Weather)
                    self.assertEqual(bool(answer["raw"].tool_calls), method == "function_calling")
                    *_, last = chat.stream("How warm is it in Oslo?")
                    if "parsed" in last:
                        self.assertEqual(last["parsed"], answer["parsed"])
        schema = {"title": "die", "type": "object", "properties": {"eyes": {"type": "integer", "minimum": 1, "maximum": 6}}, "required": ["eyes"]}
        self.assertIn(self.chat().with_structured_output(schema, method="json_schema").invoke("Roll a die.")["eyes"], range(1, 7))
        said = self.chat(max_tokens=200).with_structured_output(None, method="json_mode", include_raw=True).invoke("The weather as JSON, please.")["raw"]
        if said.response_metadata["finish_reason"] == "stop":
            self.assertIsInstance(json.loads(said.content), dict)

    @unittest.skipUnless(CALL_BIAS, "needs a token that begins calls")
    def test_tools_that_may_be_called(self):
        chat = self.chat(max_tokens=200, logit_bias=CALL_BIAS).bind_tools([Weather, Clock], parallel_tool_calls=False)
        self.assertEqual([call["name"] for call in chat.invoke(CALL).tool_calls], ["Clock"])

    def test_completions(self):
        text = OpenAI(base_url=URL + "/v1", api_key=KEY, model=NAME, temperature=0, max_tokens=5, max_retries=0).invoke("The capital of France is")
        self.assertIn("Paris", text)

    def test_errors(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat().invoke("word " * 5000)
        self.assertIn("This model's maximum context length is", str(caught.exception))
        with self.assertRaises(openai.NotFoundError):
            self.chat(model="else").invoke(QUESTION)
