#!/usr/bin/env bash
# Serves the demo model, asks it a question over HTTP, shows the answer as it streams, and stops the server. demo.sh HEARTH [QUESTION]
set -euo pipefail
cd "$(dirname "$0")/.."
hearth=$1
question=${2:-"What is the capital of France, and what is it famous for?"}
tools/fetch_test_models.sh
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

echo "\$ hearth serve smollm2-135m-instruct.gguf --port $port"
"$hearth" serve .cache/models/smollm2-135m-instruct.gguf --port "$port" &
server=$!
trap 'kill -9 $server 2>/dev/null || true' EXIT
until curl -sf -o /dev/null "http://127.0.0.1:$port/health"; do
  kill -0 $server 2>/dev/null || { echo "demo: the server ended" >&2; exit 1; }
  sleep 0.1
done

echo "\$ curl -N http://127.0.0.1:$port/v1/chat/completions ...   # $question"
body=$(python3 -c 'import json, sys; print(json.dumps({"messages": [{"role": "user", "content": sys.argv[1]}], "temperature": 0,
  "max_tokens": 128, "stream": True, "stream_options": {"include_usage": True}}))' "$question")
curl -sS -N --fail-with-body "http://127.0.0.1:$port/v1/chat/completions" -H "Content-Type: application/json" -d "$body" | python3 -c '
import json, sys, time
text, first, usage = "", None, None
for line in sys.stdin:
    if not line.startswith("data: {"):
        if line.startswith("{"): sys.exit("demo: " + line)
        continue
    chunk = json.loads(line[6:])
    usage = chunk.get("usage") or usage
    for choice in chunk.get("choices", []):
        first = first or time.monotonic()
        last = time.monotonic()
        text += choice["delta"].get("content", "")
        print(choice["delta"].get("content", ""), end="", flush=True)
if not text or not usage: sys.exit("demo: no answer came")
tokens = usage["completion_tokens"]
print("\n\n%d tokens, %.1f tokens/s" % (tokens, (tokens - 1) / max(last - first, 1e-9)))'

kill -TERM $server
code=0
wait $server || code=$?
[ $code -eq 0 ] || { echo "demo: the server ended with $code" >&2; exit 1; }
