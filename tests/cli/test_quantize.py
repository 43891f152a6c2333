"""`hearth quantize`: what it writes, read and made again by this file's own arithmetic. Usage: test_quantize.py HEARTH"""
import bisect
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

HEARTH = sys.argv[1]
HIDDEN, INTERMEDIATE, VOCAB, HEADS, HEAD_DIM = 160, 200, 32, 4, 40
ATTENTION = {"q_proj": (160, 160), "k_proj": (80, 160), "v_proj": (80, 160), "o_proj": (160, 160)}
EXPERT = {"w1": (200, 160), "w3": (200, 160), "w2": (160, 200)}


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


# The 127 magnitudes of e4m3, by their codes.
E4M3 = [m / 8 * 2.0 ** -6 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7) for e in range(16) for m in range(8)][:127]


def to_e4m3(x):
    """Nearest, ties to even, saturating: the code."""
    a = min(abs(x), E4M3[-1])
    at = bisect.bisect_left(E4M3, a)
    if at > 0 and (a - E4M3[at - 1], at - 1 & 1) < (E4M3[at] - a, at & 1):
        at -= 1
    return at | (128 if struct.pack("<d", x)[7] & 128 else 0)


def expected(values, columns, group):
    """Codes and scales of a matrix with a scale for each group of (rows, columns)."""
    rows = len(values) // columns
    codes, scales = [0] * len(values), []
    for r0 in range(0, rows, group[0]):
        for c0 in range(0, columns, group[1]):
            at = [r * columns + c for r in range(r0, min(rows, r0 + group[0])) for c in range(c0, min(columns, c0 + group[1]))]
            most = max(abs(values[i]) for i in at)
            scales.append(f32(most / 448))
            inverse = f32(448 / most)
            for i in at:
                codes[i] = to_e4m3(f32(values[i] * inverse))
    return codes, scales


def read(path):
    """Name -> (dtype, shape, bytes), and whether each lies where its type wants it."""
    data = path.read_bytes()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert (8 + size + begin) % {"F32": 4, "BF16": 2, "F8_E4M3": 1}[entry["dtype"]] == 0, name
        out[name] = entry["dtype"], entry["shape"], data[8 + size + begin:8 + size + end]
    return out


def floats(tensor):
    dtype, _, data = tensor
    if dtype == "F32":
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return [struct.unpack("<f", b"\0\0" + data[i:i + 2])[0] for i in range(0, len(data), 2)]


def write(folder, tensors, config):
    """tensors: name -> (shape, bytes or None for zeros), bfloat16. Zeros take no room on the disk."""
    folder.mkdir()
    header, end = {}, 0
    for name, (shape, _) in tensors.items():
        size = 2
        for dim in shape:
            size *= dim
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, (_, data) in tensors.items():
            if data is not None:
                file.seek(8 + len(text) + header[name]["data_offsets"][0])
                file.write(data)
        file.truncate(8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps(config))
    words = {chr(97 + i): i for i in range(26)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": words, "merges": []}}))


def config(**more):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": 2, "head_dim": HEAD_DIM, "vocab_size": VOCAB,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False, **more}


def small_mixtral(folder):
    rng = random.Random(5)
    shapes = {"model.embed_tokens": (VOCAB, HIDDEN), "lm_head": (VOCAB, HIDDEN), "model.norm": (HIDDEN,)}
    layer = "model.layers.0."
    shapes |= {layer + "input_layernorm": (HIDDEN,), layer + "post_attention_layernorm": (HIDDEN,)}
    shapes |= {layer + "self_attn." + name: shape for name, shape in ATTENTION.items()}
    shapes |= {f"{layer}block_sparse_moe.experts.{e}.{name}": shape for e in range(2) for name, shape in EXPERT.items()}
    shapes[layer + "block_sparse_moe.gate"] = (2, HIDDEN)
    tensors = {}
    for name, shape in shapes.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        spread = 10 ** rng.uniform(-2, 0)
        tensors[name + ".weight"] = shape, b"".join(struct.pack("<f", rng.gauss(0, spread))[2:] for _ in range(n))
    write(folder, tensors, config(model_type="mixtral", architectures=["MixtralForCausalLM"], num_local_experts=2, num_experts_per_tok=1))


class Quantize(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.keep = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.keep.name)
        cls.model = cls.folder / "model"
        small_mixtral(cls.model)
        cls.text = cls.folder / "text.txt"
        cls.text.write_text("thequickbrownfoxjumpsoverthelazydog" * 4)

    @classmethod
    def tearDownClass(cls):
        cls.keep.cleanup()

    def quantize(self, *words):
        return subprocess.run([HEARTH, "quantize", *map(str, words)], capture_output=True, text=True)

    def written(self, *flags):
        out = pathlib.Path(tempfile.mkdtemp(dir=self.folder)) / "out"
        done = self.quantize(self.model, out, *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, f"{out}: 10 matrices in e4m3, 1 MiB in 1 file\n")
        return read(out / "model.safetensors"), json.loads((out / "config.json").read_text())

    def check_tensors(self, tensors, group, scale_name, scale_shape):
        """Every matrix is what this file makes of it, everything else is as it was; returns what is left over."""
        rest = dict(tensors)
        for name, (dtype, shape, data) in read(self.model / "model.safetensors").items():
            stored = rest.pop(name)
            if len(shape) < 2 or any(kept in name for kept in ("embed", "lm_head", "moe.gate")):
                self.assertEqual(stored, (dtype, shape, data), name)
                continue
            codes, scales = expected(floats((dtype, shape, data)), shape[1], group or tuple(shape))
            self.assertEqual(stored[:2], ("F8_E4M3", shape), name)
            self.assertEqual(list(stored[2]), codes, name)
            found = rest.pop(name.replace("weight", scale_name))
            self.assertEqual(found[:2], ("F32", scale_shape(*shape)), name)
            self.assertEqual(floats(found), scales, name)
        return rest

    def test_channel(self):
        tensors, written = self.written()
        self.assertEqual(self.check_tensors(tensors, (1, 1 << 30), "weight_scale", lambda out, _: [out, 1]), {})
        quantization = written["quantization_config"]
        self.assertEqual(quantization["quant_method"], "compressed-tensors")
        self.assertEqual(quantization["format"], "float-quantized")
        self.assertEqual(quantization["ignore"], ["lm_head", "model.layers.0.block_sparse_moe.gate"])
        group = quantization["config_groups"]["group_0"]
        self.assertEqual((group["weights"]["strategy"], group["input_activations"]["strategy"], group["input_activations"]["dynamic"]), ("channel", "token", True))
        self.assertEqual({k: v for k, v in written.items() if k != "quantization_config"}, json.loads((self.model / "config.json").read_text()))

    def test_block(self):
        tensors, written = self.written("--scheme", "block")
        self.assertEqual(self.check_tensors(tensors, (128, 128), "weight_scale_inv", lambda out, columns: [-(-out // 128), -(-columns // 128)]), {})
        self.assertEqual(written["quantization_config"]["weight_block_size"], [128, 128])

    def test_static(self):
        tensors, written = self.written("--scheme", "static", "--calibrate", self.text)
        scales = self.check_tensors(tensors, None, "weight_scale", lambda *_: [])
        self.assertEqual(written["quantization_config"]["activation_scheme"], "static")
        self.assertEqual(len(scales), 10)
        self.assertTrue(all(name.endswith(".input_scale") and shape == [] and 0 < floats((dtype, shape, data))[0] < 1 for name, (dtype, shape, data) in scales.items()))
        same = {scales[f"model.layers.0.self_attn.{name}.input_scale"][2] for name in ("q_proj", "k_proj", "v_proj")}
        self.assertEqual(len(same), 1)
        other, _ = self.written("--scheme", "static", "--calibrate", self.text, "--calibration-tokens", "1")
        self.assertLess(floats(other["model.layers.0.self_attn.o_proj.input_scale"]), floats(scales["model.layers.0.self_attn.o_proj.input_scale"]))

    def test_what_is_written_can_be_evaluated(self):
        out = self.folder / "evaluated"
        self.assertEqual(self.quantize(self.model, out).returncode, 0)
        results = []
        for model, flags in ((out, []), (self.model, ["--quantization", "fp8"]), (self.model, [])):
            done = subprocess.run([HEARTH, "eval", "perplexity", self.text, "--model", model, "--device", "cpu", *flags], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            results.append(done.stdout)
        self.assertEqual(results[0], results[1])
        self.assertNotEqual(results[0], results[2])

    def test_refusals_are_one_line_and_leave_nothing(self):
        before = sorted(self.folder.iterdir())
        for words, reason in (((self.model, self.model), "is there already"), ((self.folder / "none", self.folder / "out"), "expected a folder"),
                              ((self.model, self.folder / "out", "--scheme", "static"), "--calibrate"), ((self.model, self.folder / "out", "--calibrate", self.text), "--scheme static"),
                              ((self.model, "/proc/out"), "/proc")):
            done = self.quantize(*words)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
            self.assertIn(reason, done.stderr)
        self.assertEqual(sorted(self.folder.iterdir()), before)

    def test_no_room(self):
        free = shutil.disk_usage(self.folder).free
        hidden, intermediate = 8192, 1 << 17
        layers = free // (4 * hidden ** 2 + 3 * hidden * intermediate) + 1
        shapes = {"model.embed_tokens": (VOCAB, hidden), "model.norm": (hidden,)}
        for i in range(layers):
            shapes |= {f"model.layers.{i}.{name}_layernorm": (hidden,) for name in ("input", "post_attention")}
            shapes |= {f"model.layers.{i}.self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"}
            shapes |= {f"model.layers.{i}.mlp.{name}_proj": (intermediate, hidden) for name in ("gate", "up")}
            shapes[f"model.layers.{i}.mlp.down_proj"] = hidden, intermediate
        huge = self.folder / "huge"
        try:
            write(huge, {name + ".weight": (shape, None) for name, shape in shapes.items()},
                  config(hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=64,
                         num_key_value_heads=64, head_dim=128, tie_word_embeddings=True))
        except OSError as error:
            self.skipTest(f"a file with holes as large as what is free: {error}")
        done = self.quantize(huge, self.folder / "roomless")
        (huge / "model.safetensors").unlink()
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertRegex(done.stderr, r"roomless: needs \d+ MiB, \d+ MiB are free$")
        self.assertEqual(list(self.folder.glob("roomless*")), [])

    def test_room_that_ends_while_writing(self):
        out = self.folder / "limited"
        done = subprocess.run([HEARTH, "quantize", self.model, out], capture_output=True, text=True,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)))
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertEqual(list(self.folder.glob("limited*")), [])

    def large_model(self, name):
        """Some seconds of work, of zeros."""
        hidden, intermediate, layers = 1024, 4096, 24
        tensors = {"model.embed_tokens.weight": ((VOCAB, hidden), None), "lm_head.weight": ((VOCAB, hidden), None), "model.norm.weight": ((hidden,), None)}
        for i in range(layers):
            layer = f"model.layers.{i}."
            tensors |= {f"{layer}{name}.weight": ((hidden,), None) for name in ("input_layernorm", "post_attention_layernorm")}
            tensors |= {f"{layer}self_attn.{name}.weight": ((hidden, hidden), None) for name in ATTENTION}
            tensors |= {f"{layer}mlp.{name}_proj.weight": ((intermediate, hidden) if name != "down" else (hidden, intermediate), None) for name in ("gate", "up", "down")}
        write(self.folder / name, tensors, config(hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=8, num_key_value_heads=8, head_dim=128))
        return self.folder / name

    def test_calibration_holds_one_layer(self):
        large = self.large_model("calibrated")  # 768 MiB of weights in 24 layers
        done = subprocess.run([HEARTH, "quantize", large, self.folder / "static", "--scheme", "static", "--calibrate", self.text, "--calibration-tokens", "8", "--threads", "1"],
                              capture_output=True, text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20)))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(read(self.folder / "static/model.safetensors")), 3 + 24 * (2 + 7 * 3))

    def start(self, model, out):
        """A process that is writing tensors."""
        written = pathlib.Path(f"{out}.partial") / "model.safetensors"

        def born():
            try:
                return written.stat().st_ino, written.stat().st_ctime_ns
            except FileNotFoundError:
                return None

        before = born()
        process = subprocess.Popen([HEARTH, "quantize", model, out], stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        while process.poll() is None and born() in (None, before):
            time.sleep(0.001)
        return process

    def end(self, process, reason):
        error = process.communicate()[1]
        self.assertEqual((process.returncode, len(error.splitlines())), (1, 1), error)
        self.assertIn(reason, error)

    def test_signals_clean_up(self):
        large = self.large_model("large")
        out, partial = self.folder / "interrupted", self.folder / "interrupted.partial"
        for signals in ((signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGINT)):
            process = self.start(large, out)
            process.send_signal(signal.SIGSTOP)  # so that all of them are there when it goes on
            for which in (*signals, signal.SIGCONT):
                process.send_signal(which)
            self.end(process, "stopped by a signal")
            self.assertFalse(out.exists() or partial.exists())

    def test_what_a_killed_process_left_is_taken_over(self):
        large = self.large_model("killed")
        out, partial = self.folder / "again", self.folder / "again.partial"
        process = self.start(large, out)
        process.send_signal(signal.SIGSTOP)
        second = self.quantize(self.model, out)
        self.assertEqual((second.returncode, len(second.stderr.splitlines())), (1, 1), second.stderr)
        self.assertIn(f"{partial}: is being written by another process", second.stderr)
        process.kill()
        process.communicate()
        self.assertTrue((partial / "model.safetensors").exists())

        process = self.start(large, out)  # takes it over
        process.send_signal(signal.SIGSTOP)
        os.truncate(large / "model.safetensors", 1 << 20)
        process.send_signal(signal.SIGCONT)
        self.end(process, "truncated or unreadable while it was being read")
        self.assertTrue(partial.exists())

        self.assertEqual(self.quantize(self.model, out).returncode, 0)
        self.assertFalse(partial.exists())
        self.assertEqual(sorted(p.name for p in out.iterdir()), ["config.json", "model.safetensors", "tokenizer.json"])

    def test_a_folder_of_somebody_else_is_left_alone(self):
        out, partial = self.folder / "mine", self.folder / "mine.partial"
        partial.mkdir()
        (partial / "notes").write_text("mine")
        done = self.quantize(self.model, out)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertIn(f"{partial}: is there already", done.stderr)
        self.assertEqual((partial / "notes").read_text(), "mine")
        (partial / "notes").unlink()
        (partial / "link").symlink_to(self.model)
        self.assertEqual(self.quantize(self.model, out).returncode, 1)
        (partial / "link").unlink()
        self.assertEqual(self.quantize(self.model, out).returncode, 0)


unittest.main(argv=sys.argv[:1])
