#!/usr/bin/env python3
"""Writes tests/golden/text/tool_templates.json: 20 conversations of agents, with what published templates make of them, and what models would have
written for their calls.

Judge: transformers 5.17.0 (its Jinja settings), jinja2 3.1.6; the templates are those of tools/fetch_test_models.sh. A rendered prompt is kept as its
CRC-32. An answer is what stands between the prompt for it and what comes next: the text a model writes for reasoning and calls, which the format's
parser must take apart into the same calls again.
"""
import copy
import datetime
import json
import pathlib
import random
import zlib

import transformers.utils.chat_template_utils as chat_template_utils

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/golden/text/tool_templates.json"
MODELS = ROOT / ".cache/models"
# Published templates that write calls, and their format.
FAMILIES = {
    "chat-templates-trl/qwen2_5.jinja": "hermes", "chat-templates-trl/qwen3.jinja": "hermes", "chat-templates-trl/qwen3_instruct_2507.jinja": "hermes",
    "chat-templates-trl/qwen3_5_think.jinja": "qwen3_coder", "chat-templates-trl/qwen3_6.jinja": "qwen3_coder", "chat-templates-trl/qwen3_8.jinja": "qwen3_coder",
    "chat-templates-trl/nemotron_3_nano.jinja": "qwen3_coder", "chat-templates-trl/nemotron_3_super.jinja": "qwen3_coder",
    "chat-templates-trl/llama3_1.jinja": "llama3_json", "chat-templates-trl/llama3_2.jinja": "llama3_json",
    "chat-templates-trl/glm4moe.jinja": "glm45", "chat-templates-trl/gptoss.jinja": "harmony",
    "chat-templates-axolotl/mistral_v2v3.jinja": "mistral_v3",
}
TOOLS = {
    "get_weather": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string", "enum": ["C", "F"]}}, "required": ["city"]},
    "search": {"type": "object", "properties": {"query": {"type": "string"}, "filters": {"type": "object", "properties": {"year": {"type": "integer"}, "tags": {
        "type": "array", "items": {"type": "string"}}}}, "exact": {"type": "boolean"}}, "required": ["query"]},
    "now": {"type": "object", "properties": {}},
    "send-mail": {"type": "object", "properties": {"to": {"type": "array", "items": {"type": "string"}}, "body": {"type": "string"}, "score": {"type": "number"}}, "required": ["to", "body"]},
}
ENDS = ["<|im_end|>\n", "<|eot_id|>", "</s>", "<|call|>"]  # what ends a turn: for the engine, not for the parser
TEXTS = ["Oslo", "Zürich", "say \"hi\"\nand go", "a\\b", "日本 🙂", "x < y && y > z", "C:\\tmp\\n.txt", "it's 50%", "{\"a\": [1]}"]


def tool(name):
    return {"type": "function", "function": {"name": name, "description": f"Does {name}: \"now\" & <then>.", "parameters": TOOLS[name]}}


def arguments(rng, name):
    text = lambda: rng.choice(TEXTS)
    if name == "get_weather":
        return {"city": text(), **({"days": rng.randint(1, 9)} if rng.random() < 0.5 else {}), **({"unit": "F"} if rng.random() < 0.5 else {})}
    if name == "search":
        return {"query": text(), **({"filters": {"year": 1999, "tags": [text(), "b"]}} if rng.random() < 0.6 else {}), **({"exact": True} if rng.random() < 0.5 else {})}
    if name == "send-mail":
        return {"to": [text() for _ in range(rng.randint(0, 2))], "body": text() + " " + text(), **({"score": rng.choice([0.5, -2.25])} if rng.random() < 0.5 else {})}
    return {}


def conversations():
    rng = random.Random(20)
    out = []
    for number in range(20):
        names = rng.sample(sorted(TOOLS), rng.randint(1, 4))
        messages = [{"role": "system", "content": rng.choice(["Be brief.", "  Use the tools.\n"])}] if rng.random() < 0.6 else []
        for turn in range(rng.randint(1, 3)):
            messages.append({"role": "user", "content": rng.choice(["What now?", "And <b>then</b>?", "Größe 🙂\n\nplease"])})
            for round_ in range(rng.randint(0, 2)):
                calls = []
                for i in range(rng.choice([1, 1, 1, 2])):
                    name = rng.choice(names)
                    calls.append({"id": f"call{number:02}{turn}{round_}{i}", "type": "function", "function": {"name": name, "arguments": arguments(rng, name)}})
                message = {"role": "assistant", "content": rng.choice(["", "", "Let me see."]), "tool_calls": calls}
                if rng.random() < 0.5:
                    message["reasoning_content"] = "The user wants it.\nSo I call."
                messages.append(message)
                messages += [{"role": "tool", "name": call["function"]["name"], "tool_call_id": call["id"], "content": rng.choice(["21", "{\"ok\": true}", "no <result>\n"])} for call in calls]
            message = {"role": "assistant", "content": rng.choice(["Done.", "It is 21 °C.\n"])}
            if rng.random() < 0.4:
                message["reasoning_content"] = "Now I know."
            messages.append(message)
        if rng.random() < 0.7:
            messages.append({"role": "user", "content": "Thanks. Once more?"})
        more = {"enable_thinking": rng.random() < 0.5} if rng.random() < 0.4 else {}
        if rng.random() < 0.2:
            more["reasoning_effort"] = rng.choice(["low", "high"])
        out.append({"messages": messages, "tools": [tool(name) for name in names], "add_generation_prompt": messages[-1]["role"] != "assistant",
                    "bos_token": "<s>", "eos_token": "</s>", **more})
    return out


def render(template, variables):
    """Null where Jinja refuses."""
    try:
        return template.render(**copy.deepcopy(variables), strftime_now=lambda form: datetime.datetime.fromtimestamp(0, datetime.timezone.utc).strftime(form))
    except Exception:
        return None


def answers(template, conversation):
    """For each turn with calls: what the template adds for it behind the prompt for an answer."""
    out = []
    for i, message in enumerate(conversation["messages"]):
        if not message.get("tool_calls"):
            continue
        before = render(template, {**conversation, "messages": conversation["messages"][:i], "add_generation_prompt": True})
        after = render(template, {**conversation, "messages": conversation["messages"][:i + 1], "add_generation_prompt": False})
        if before is not None and after is not None and after.startswith(before):
            text = after[len(before):]
            for end in ENDS:
                text = text.removesuffix(end)
            out.append({"prompt": before[-40:], "text": text, "content": message["content"], "reasoning": message.get("reasoning_content", ""),
                        "calls": [[call["function"]["name"], call["function"]["arguments"]] for call in message["tool_calls"]]})
    return out


def main():
    cases = conversations()
    templates = {}
    for path, name in FAMILIES.items():
        template = chat_template_utils._compile_jinja_template((MODELS / path).read_text())
        rendered = [render(template, case) for case in cases]
        templates[path] = {"format": name, "crc": "".join("--------" if text is None else f"{zlib.crc32(text.encode()):08x}" for text in rendered),
                           "answers": [answer for case in cases for answer in answers(template, case)][:12]}
        print(path, "refused", sum(text is None for text in rendered), "answers", len(templates[path]["answers"]))
    OUT.write_text(json.dumps({"tools": TOOLS, "conversations": cases, "templates": templates}, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
