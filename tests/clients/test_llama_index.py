"""LlamaIndex's OpenAILike."""
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

from client_test import KEY, NAME, QUESTION, URL, ClientTest


class LlamaIndex(ClientTest):
    def model(self, chat):
        return OpenAILike(model=NAME, api_base=URL + "/v1", api_key=KEY, is_chat_model=chat, temperature=0, max_tokens=20, max_retries=0,
                          context_window=2048)

    def test_chat(self):
        model = self.model(True)
        messages = [ChatMessage(role="user", content=QUESTION)]
        whole = model.chat(messages)
        self.assertIn("Paris", whole.message.content)
        parts = list(model.stream_chat(messages))
        self.assertEqual(parts[-1].message.content, whole.message.content)
        self.assertEqual("".join(p.delta for p in parts), whole.message.content)

    def test_completion(self):
        model = self.model(False)
        whole = model.complete("The capital of France is")
        self.assertIn("Paris", whole.text)
        self.assertEqual(list(model.stream_complete("The capital of France is"))[-1].text, whole.text)
