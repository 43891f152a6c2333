"""Starts one server and runs the tests of real clients against it. Usage: run.py HEARTH GGUF [--short] [TEST...]"""
import os
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import client_test
from client_test import KEY, NAME
from running_server import RunningServer

SHORT = ["openai", "prometheus", "replayed", "langchain", "llm", "llama_index", "pydantic_ai", "instructor"]

hearth, model, *names = sys.argv[1:]
if "--short" in names:
    names = SHORT
if not names:
    names = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))
with RunningServer(hearth, model, "--device", "cpu", "--max-model-len", "2048", "--tool-call-parser", "hermes", "--served-model-name", NAME, "org/" + NAME, key=KEY) as server:
    client_test.URL = server.url()  # before the tests take it
    begin = server.post("/tokenize", {"prompt": "<tool_call>", "add_special_tokens": False})["tokens"]
    if len(begin) == 1:
        client_test.CALL_BIAS = {str(begin[0]): 100}
    os.environ.update(HEARTH_BINARY=hearth, HEARTH_MODEL=model)
    suite = unittest.defaultTestLoader.loadTestsFromNames([f"test_{name}" for name in names])
    outcome = unittest.TextTestRunner(verbosity=2, warnings="ignore").run(suite)
if suite.countTestCases() == 0:
    sys.exit("no tests")
sys.exit(not outcome.wasSuccessful())
