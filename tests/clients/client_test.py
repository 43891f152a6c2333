"""What the clients' tests share: one server for all, started by run.py, and its model."""
import unittest

URL = ""  # of the server, without /v1; run.py sets it
KEY = "secret"
NAME = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"
MESSAGES = [{"role": "user", "content": QUESTION}]


class ClientTest(unittest.TestCase):
    maxDiff = None
