"""Draws texts from the grammars of 1,000 random JSON Schemas and asks jsonschema whether each is valid.
test_schemas.py GRAMMAR_BENCH [SCHEMAS]"""
import datetime
import json
import random
import subprocess
import sys
import tempfile

from jsonschema import Draft202012Validator

rng = random.Random(20261201)
FORMATS = ["date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]
NAMES = ["id", "name", "größe", "a b", "\"quoted\"", "x^y-z]", "ab", "abc", "\\", "n\nl", "", "日本"]


def integer():
    schema = {"type": "integer"}
    low = rng.choice([None, -1000, -37, -1, 0, 1, 5, 99, 100, 12345])
    if low is not None:
        schema[rng.choice(["minimum", "exclusiveMinimum"])] = low
        if rng.random() < 0.6:
            schema[rng.choice(["maximum", "exclusiveMaximum"])] = low + rng.choice([2, 9, 10, 150, 98765])
    elif rng.random() < 0.3:
        schema["maximum"] = rng.choice([-500, -1, 0, 42])
    elif rng.random() < 0.2:
        schema["multipleOf"] = rng.choice([2, 3, 5, 7, 10, 100])
    return schema


def number():
    schema = {"type": "number"}
    low = rng.choice([None, -1000.5, -37, -0.000001, 0, 0.25, 0.999999, 1, 99.9, 12345.678])
    if low is not None:
        schema[rng.choice(["minimum", "exclusiveMinimum"])] = low
        if rng.random() < 0.6:
            schema[rng.choice(["maximum", "exclusiveMaximum"])] = round(low + rng.choice([0.5, 0.000002, 1, 10, 98765.4321]), 6)
    elif rng.random() < 0.3:
        schema[rng.choice(["maximum", "exclusiveMaximum"])] = rng.choice([-500, -1.5, 0, 42.125])
    return schema


def string():
    kind = rng.randrange(5)
    if kind == 0:
        low = rng.randrange(6)
        return {"type": "string", "minLength": low, "maxLength": low + rng.randrange(6)}
    if kind == 1:
        return {"type": "string", "format": rng.choice(FORMATS)}
    if kind == 2:
        return {"type": "string", "pattern": rng.choice([
            r"^[A-Z]{2,4}-\d{3}$", r"^(foo|ba[rz])+$", r"^\S+@\S+$", r"^.{1,3}$", "^[^\"]*$", r"[\"\\]x", r"^\w+(\.\w+)*$",
            r"^é?[ä-ü]{2}$", r"^(a|b\n?)\t$", r"^(?:[0-9]{1,3}\.){3}$", r"^\D\W\S$"])}
    if kind == 3:
        pattern, low, high = rng.choice([("^[a-z]+$", 0, 9), ("^[\"a]*$", 2, 5), (r"^\w+(-\w+)*$", 1, 20), (r"^[A-Z]+\d*\.?$", 3, 6), ("^(ab|cde)*$", 0, 12),
                                         (r"^(\d{2},)*\d{2}$", 5, 11), ("^[a-z]+@[a-z]+(\\.[a-z]+)+$", 8, 30)])
        return {"type": "string", "pattern": pattern, "minLength": low, "maxLength": high}
    return {"type": "string"}


def enum():
    values = [None, True, 0, 1, 1.5, -3, "a", "b\"c", "ü", [], [1, "x"], {}, {"k": None}]
    if rng.random() < 0.3:
        return {"const": rng.choice(values)}
    return {"enum": rng.sample(values, rng.randrange(1, 5))}


def array(depth):
    schema = {"type": "array"}
    if rng.random() < 0.8:
        schema["items"] = any_schema(depth - 1)
    if rng.random() < 0.3:
        schema["prefixItems"] = [any_schema(depth - 1) for _ in range(rng.randrange(1, 3))]
        if rng.random() < 0.3:
            schema["items"] = False
            return schema
    low = rng.randrange(3)
    if rng.random() < 0.4:
        schema["minItems"] = low
    if rng.random() < 0.4:
        schema["maxItems"] = low + 2 + rng.randrange(3)
    return schema


def object_(depth):
    schema = {"type": "object"}
    names = rng.sample(NAMES, rng.randrange(5))
    if names:
        schema["properties"] = {name: any_schema(depth - 1) for name in names}
        schema["required"] = [name for name in names if rng.random() < 0.5]
    if rng.random() < 0.3:
        schema["additionalProperties"] = rng.choice([False, True, any_schema(depth - 1)])
    elif not names and rng.random() < 0.5:
        schema[rng.choice(["minProperties", "maxProperties"])] = 1
    elif not names and rng.random() < 0.3:
        return {"type": "object", "patternProperties": {"^x_[a-z]{1,3}$": any_schema(depth - 1)}, "additionalProperties": False}
    elif not names and rng.random() < 0.3:
        schema["propertyNames"] = {"pattern": "^[a-z]{1,3}$"}
    return schema


def union(depth):
    kind = rng.randrange(4)
    if kind == 0:
        return {"anyOf": [any_schema(depth - 1) for _ in range(rng.randrange(1, 4))]}
    if kind == 1:
        return {"oneOf": [{"type": "object", "properties": {"kind": {"const": name}, "value": any_schema(depth - 1)},
                           "required": ["kind"]} for name in ("cat", "dog", "cow")[:rng.randrange(1, 4)]]}
    if kind == 2:
        return {"oneOf": [integer(), string(), {"type": "null"}]}
    return {"allOf": [{"type": "object", "properties": {"p": any_schema(depth - 1)}}, {"properties": {"q": string()}, "required": ["q"]}],
            "description": "merged"}


def any_schema(depth):
    if depth <= 0 or rng.random() < 0.35:
        return rng.choice([integer, number, string, enum, lambda: {"type": "boolean"}, lambda: {"type": "null"},
                           lambda: {"type": ["string", "null"]}, lambda: {}])()
    return rng.choice([array, object_, object_, union])(depth)


def recursive(depth):
    node = {"type": "object", "properties": {"value": any_schema(depth - 1), "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                                             "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}},
            "required": ["value", "next"], "additionalProperties": False}
    return {"$defs": {"node": node}, "$ref": "#/$defs/node"}


def main():
    bench, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    schemas = [recursive(2) if i % 10 == 0 else any_schema(3) for i in range(count)]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as lines:
        lines.write("".join(json.dumps(schema) + "\n" for schema in schemas))
        lines.flush()
        run = subprocess.run([bench, lines.name, "8"], capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in run.stdout.split("\n") if line]
    assert len(answers) == count, (len(answers), count)
    kept = texts = 0
    refusals = {}
    for schema, answer in zip(schemas, answers):
        if "refused" in answer:
            refusals[answer["refused"]] = refusals.get(answer["refused"], 0) + 1
            continue
        kept += 1
        assert answer["dead"] == 0, ("a text that could not go on", schema)
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        for text in answer["texts"]:
            texts += 1
            problems = list(validator.iter_errors(json.loads(text)))
            assert not problems, (schema, text, problems[0].message)
            if schema.get("format") == "date-time":
                datetime.datetime.fromisoformat(json.loads(text).replace("Z", "+00:00"))
    for refusal, times in sorted(refusals.items(), key=lambda item: -item[1]):
        print(times, refusal)
    print(f"{kept} of {count} schemas kept, {texts} texts valid, slowest compilation {max(a['compile_ms'] for a in answers):.0f} ms")
    assert kept > 0.9 * count and texts > 5 * kept


main()
