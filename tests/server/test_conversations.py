"""A real model holds conversations with 1 to 5 tools: what is streamed equals what is not, and every call is valid by jsonschema.
Tools get real results, which go back, so that later turns read their own calls. Prints what it saw as JSON.
Usage: test_conversations.py HEARTH MODEL [CONVERSATIONS]; exits with 77 where the model's file is missing."""
import concurrent.futures
import json
import os
import pathlib
import random
import sys
import time

import openai
from jsonschema import Draft202012Validator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from running_server import RunningServer

HEARTH, MODEL = sys.argv[1:3]
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 200
AT_ONCE, TURNS, MAX_TOKENS = 16, 3, 160
SYSTEM = "You are a helpful assistant. Use the tools where they help, and answer briefly."


def text(most=40, **more):
    return {"type": "string", "maxLength": most, **more}


def whole(low, high):
    return {"type": "integer", "minimum": low, "maximum": high}


# Name: what it does, its parameters, what it returns. Of real kinds: nested objects, enums, formats, unions, a recursive one.
TOOLS = {
    "get_weather": ("The weather forecast of a city.", {
        "type": "object", "properties": {"city": text(), "days": whole(1, 14), "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
        "required": ["city"], "additionalProperties": False}, {"sky": "sunny", "degrees": 21}),
    "search_flights": ("Finds flights between two airports on a date.", {
        "type": "object", "properties": {"from": text(3, pattern="^[A-Z]{3}$"), "to": text(3, pattern="^[A-Z]{3}$"), "date": {"type": "string", "format": "date"},
                                         "passengers": whole(1, 9)}, "required": ["from", "to", "date"], "additionalProperties": False},
        [{"flight": "LH 123", "departs": "09:40", "price": 189.5}]),
    "send_email": ("Sends an e-mail.", {
        "type": "object", "properties": {"to": {"type": "array", "items": {"type": "string", "format": "email"}, "minItems": 1, "maxItems": 3}, "subject": text(60),
                                         "body": text(200), "urgent": {"type": "boolean"}}, "required": ["to", "subject", "body"], "additionalProperties": False},
        {"sent": True}),
    "calculate": ("Calculates with two numbers.", {
        "type": "object", "properties": {"operation": {"enum": ["add", "subtract", "multiply", "divide"]}, "a": {"type": "number"}, "b": {"type": "number"}},
        "required": ["operation", "a", "b"], "additionalProperties": False}, 42),
    "create_event": ("Puts an event into the calendar.", {
        "type": "object", "properties": {"title": text(), "start": {"type": "string", "format": "date-time"}, "minutes": whole(5, 480),
                                         "guests": {"type": "array", "items": {"type": "object", "properties": {"name": text(30), "optional": {"type": "boolean"}},
                                                                               "required": ["name"], "additionalProperties": False}, "maxItems": 4},
                                         "repeat": {"anyOf": [{"enum": ["daily", "weekly"]}, {"type": "null"}]}},
        "required": ["title", "start"], "additionalProperties": False}, {"id": "event-7"}),
    "list_files": ("Lists the files of a folder.", {
        "type": "object", "properties": {"path": text(60), "recursive": {"type": "boolean"}}, "required": ["path"], "additionalProperties": False},
        ["README.md", "main.py", "Größe.txt"]),
    "now": ("The current date and time.", {"type": "object", "properties": {}, "additionalProperties": False}, "2026-12-01T09:30:00Z"),
    "filter_products": ("Searches the shop.", {
        "type": "object", "properties": {"query": text(), "price": {"type": "object", "properties": {"min": {"type": "number", "minimum": 0}, "max": {"type": "number", "minimum": 0}},
                                                                    "additionalProperties": False},
                                         "sort": {"type": "string", "enum": ["price", "rating", "newest"]}}, "required": ["query"], "additionalProperties": False},
        [{"name": "desk \"Oslo\"", "price": 120}]),
    "query": ("Evaluates a condition over the customers.", {
        "$defs": {"condition": {"anyOf": [
            {"type": "object", "properties": {"field": {"enum": ["age", "city"]}, "equals": {"type": ["string", "integer"]}}, "required": ["field", "equals"],
             "additionalProperties": False},
            {"type": "object", "properties": {"not": {"$ref": "#/$defs/condition"}}, "required": ["not"], "additionalProperties": False}]}},
        "type": "object", "properties": {"where": {"$ref": "#/$defs/condition"}, "limit": whole(1, 100)}, "required": ["where"], "additionalProperties": False},
        {"rows": 3}),
    "translate": ("Translates a text.", {
        "type": "object", "properties": {"text": text(120), "to": {"type": "string", "pattern": "^[a-z]{2}$"}}, "required": ["text", "to"], "additionalProperties": False},
        "Guten Morgen"),
}
TASKS = ["What is the weather in Oslo for the next 3 days?", "Find a flight from FRA to JFK on 2027-03-01 for two people.",
         "Write to ann@example.com that I am late, with the subject \"Late\".", "What is 17.5 times 24?", "Plan a meeting with Ben and Zoë tomorrow at 10.",
         "Which files are in /home/me/projects?", "What time is it?", "I want a desk for less than 200 euros, the cheapest first.",
         "How many customers are not from Paris?", "Translate 'good morning' to German.", "Compare the weather in Rome and in Lima.", "What is the capital of France?"]
MORE = ["And for tomorrow?", "Thanks. Do the same again for Berlin.", "Now tell me the result in one sentence.", "Use another tool for that."]


def tool(name):
    about, parameters, _ = TOOLS[name]
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


def plain(message):
    return message.content, [(call.function.name, call.function.arguments) for call in message.tool_calls or []]


class Seen(dict):
    def add(self, key, by=1):
        self[key] = self.get(key, 0) + by


def converse(client, number):
    rng, seen = random.Random(number), Seen()
    names = rng.sample(sorted(TOOLS), rng.randint(1, 5))
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": rng.choice(TASKS)}]
    for turn in range(TURNS):
        choice = rng.choice(["auto", "auto", "required", {"type": "function", "function": {"name": names[0]}}])
        arguments = dict(model="model", messages=messages, tools=[tool(name) for name in names], tool_choice=choice, seed=number,
                         temperature=rng.choice([0, 0.7]), parallel_tool_calls=rng.random() < 0.7, max_tokens=MAX_TOKENS)
        answer = client.chat.completions.create(**arguments)
        try:
            with client.chat.completions.stream(**arguments) as stream:
                streamed = stream.get_final_completion()
        except openai.LengthFinishReasonError as error:
            streamed = error.completion
        one, other = answer.choices[0], streamed.choices[0]
        assert plain(one.message) == plain(other.message) and one.finish_reason == other.finish_reason, (number, turn, one, other)
        calls = one.message.tool_calls or []
        seen.add("answers", 2)
        seen.add("tokens", 2 * answer.usage.completion_tokens)
        assert choice == "auto" or calls or one.finish_reason == "length", (number, turn, one)
        if one.finish_reason == "length":
            seen.add("cut at max_tokens", 2)
            break
        assert one.finish_reason == ("tool_calls" if calls else "stop"), (number, turn, one)
        assert arguments["parallel_tool_calls"] or len(calls) <= 1, (number, turn, one)
        seen.add("turns with calls, of auto" if choice == "auto" else "turns with calls, of forced", 1 if calls else 0)
        for call in calls:
            assert call.function.name in names, (number, turn, call)
            Draft202012Validator(TOOLS[call.function.name][1], format_checker=Draft202012Validator.FORMAT_CHECKER).validate(json.loads(call.function.arguments))
            seen.add("valid calls", 2)
        messages.append(one.message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": json.dumps(TOOLS[call.function.name][2])} for call in calls]
        if not calls:
            messages.append({"role": "user", "content": rng.choice(MORE)})
    return seen


def main():
    if not os.path.exists(MODEL):
        print("skipped: no", MODEL)
        sys.exit(77)
    begin, seen = time.monotonic(), Seen(conversations=COUNT)
    with RunningServer(HEARTH, MODEL, "--device", "cpu", "--max-model-len", "4096", "--served-model-name", "model", "--tool-call-parser", "hermes") as server:
        client = openai.OpenAI(base_url=server.url("/v1"), api_key="none", max_retries=0, timeout=3000)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for i, one in enumerate(pool.map(lambda number: converse(client, number), range(COUNT))):
                for key, count in one.items():
                    seen.add(key, count)
                if i % 20 == 19:
                    print(i + 1, dict(seen), f"{time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(seen | {"seconds": round(time.monotonic() - begin)}))
    assert seen.get("valid calls", 0) >= COUNT and seen.get("cut at max_tokens", 0) <= 0.4 * seen["answers"], seen


main()
