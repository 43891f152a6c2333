"""What the clients' tests share: one server for all, started by run.py, its model, and tools that any model can call."""
import unittest
from typing import Literal, Optional

import pydantic

URL = ""  # of the server, without /v1; run.py sets it
KEY = "secret"
NAME = "smollm2-135m-instruct"
# A bias by which a model begins a call where it may (small ones mostly do not); run.py sets it. Empty: its vocabulary has no token for that.
CALL_BIAS = {}
QUESTION = "What is the capital of France?"
MESSAGES = [{"role": "user", "content": QUESTION}]
CALL = "Set the clock to hour 7 in the zone UTC."


class ClientTest(unittest.TestCase):
    maxDiff = None


# Bounded, so that a model that repeats itself comes to an end too.
class Weather(pydantic.BaseModel):
    """The weather of a city."""
    city: Literal["Oslo", "Paris", "Rome"]
    degrees: int = pydantic.Field(ge=-40, le=50)
    sky: Optional[Literal["clear", "clouds"]]


class Clock(pydantic.BaseModel):
    """Sets the clock."""
    hour: int = pydantic.Field(ge=0, le=23)
    zone: Literal["UTC", "CET"]
