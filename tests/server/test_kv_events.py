"""KV events over ZeroMQ, read as vLLM's own subscribers do: msgspec's structs over pyzmq. Run: test_kv_events.py HEARTH MODEL"""
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Union

import msgspec
import zmq

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from running_server import RunningServer

HEARTH, MODEL = sys.argv[1:]


class Event(msgspec.Struct, array_like=True, omit_defaults=True, tag=True):
    pass


class BlockStored(Event):
    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None


class BlockRemoved(Event):
    block_hashes: list[int]
    medium: str | None


class AllBlocksCleared(Event):
    pass


class Batch(msgspec.Struct, array_like=True, omit_defaults=True):
    ts: float
    events: list[Union[BlockStored, BlockRemoved, AllBlocksCleared]]
    data_parallel_rank: int | None = None


DECODER = msgspec.msgpack.Decoder(Batch)


class Index:
    """What a router keeps: each cached block's tokens from the prompt's beginning on."""

    def __init__(self):
        self.prefixes = {}
        self.removed = 0

    def take(self, batch):
        for event in batch.events:
            if isinstance(event, AllBlocksCleared):
                self.prefixes.clear()
            elif isinstance(event, BlockRemoved):
                for name in event.block_hashes:
                    del self.prefixes[name]
                    self.removed += 1
            else:
                assert len(event.token_ids) == event.block_size * len(event.block_hashes), event
                before = [] if event.parent_block_hash is None else self.prefixes[event.parent_block_hash]
                for i, name in enumerate(event.block_hashes):
                    assert name not in self.prefixes, "a name is used twice"
                    before = before + event.token_ids[i * event.block_size:(i + 1) * event.block_size]
                    self.prefixes[name] = before

    def cached(self, tokens):
        return max((len(p) for p in self.prefixes.values() if tokens[:len(p)] == p), default=0)


def drain(subscriber, index, counts, patience=2000):
    while subscriber.poll(patience if not counts or patience > 500 else 300):
        topic, count, payload = subscriber.recv_multipart()
        assert topic == b"kv@here@smol", topic
        counts.append(int.from_bytes(count, "big", signed=True))
        index.take(DECODER.decode(payload))
        patience = 300


def main():
    context = zmq.Context()
    folder = tempfile.mkdtemp()
    endpoint, replay = f"ipc://{folder}/events", f"ipc://{folder}/replay"
    flags = ["--max-model-len", "512", "--kv-events-endpoint", endpoint, "--kv-events-replay-endpoint", replay,
             "--kv-events-topic", "kv@here@smol", "--kv-cache-memory-bytes", str(24 << 20)]
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"kv@here")
    subscriber.connect(endpoint)
    with RunningServer(HEARTH, MODEL, *flags) as server:
        def complete(prompt, **more):
            answer = server.post("/v1/completions", {"prompt": prompt, "max_tokens": 1, "temperature": 0, **more})
            assert "choices" in answer, answer
            return answer["usage"]

        index, counts = Index(), []
        prompt = [(7 * i) % 400 + 300 for i in range(200)]
        complete(prompt)
        drain(subscriber, index, counts)
        assert index.cached(prompt) == 192, index.prefixes
        # A longer prompt hangs on the first; what a salt hides is not told.
        longer = prompt[:192] + [(11 * i) % 400 + 300 for i in range(100)]
        usage = complete(longer)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 192, usage
        hidden = [(13 * i) % 400 + 300 for i in range(200)]
        complete(hidden, cache_salt="mine")
        drain(subscriber, index, counts)
        assert index.cached(longer) == 256
        assert index.cached(hidden) == 0
        # The cache holds few prompts: old ones go, and we hear of it.
        for i in range(12):
            complete([(17 * i + j * j) % 400 + 300 for j in range(200)])
        drain(subscriber, index, counts)
        assert index.removed > 0
        assert counts == list(range(counts[0], counts[0] + len(counts))), "messages were lost"
        # The router's picture is the server's: what it calls cached is.
        last = [(17 * 11 + j * j) % 400 + 300 for j in range(200)]
        assert index.cached(last) == 192
        # (The server computes at least a prompt's last token.)
        assert complete(last)["prompt_tokens_details"]["cached_tokens"] == 192
        # Who came late asks for all from the beginning, and has the same picture.
        asker = context.socket(zmq.DEALER)
        asker.connect(replay)
        asker.send_multipart([b"", (0).to_bytes(8, "big")])
        late, n = Index(), 0
        while True:
            assert asker.poll(5000), "the replay did not end"
            _, count, payload = asker.recv_multipart()
            if int.from_bytes(count, "big", signed=True) == -1:
                break
            assert int.from_bytes(count, "big") == n
            n += 1
            late.take(DECODER.decode(payload))
        assert late.prefixes == index.prefixes
        asker.send_multipart([b"", b"nonsense that is too long"])
        asker.send_multipart([b"x" * 100] * 9)
        assert not asker.poll(300)
        info = server.request("/get_server_info")[2]
        assert info["kv_events"] is True and info["tp_size"] == 1 and info["page_size"] == 64, info
        assert server.request("/get_model_info")[2]["is_generation"] is True

    for bad in [["--kv-events-endpoint", "tcp://nowhere"], ["--kv-events-endpoint", "inproc://x"], ["--kv-events-endpoint", "tcp://*:99999"], ["--kv-events-topic", "x"],
                ["--kv-events-endpoint", endpoint, "--prefix-cache", "off"]]:
        ran = subprocess.run([HEARTH, "serve", MODEL, "--port", "0", *bad], capture_output=True, text=True, timeout=60)
        errors = [line for line in ran.stderr.splitlines() if "error" in line]
        assert ran.returncode == 1 and len(errors) == 1, (bad, ran.stderr)
    print("ok")
    os._exit(0)


main()
