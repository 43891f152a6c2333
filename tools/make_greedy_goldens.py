"""Greedy continuations of real models by transformers, on the weights of their GGUF files dequantized and, where they were quantized
or in 16 bit, rounded to float16 as Hearth's loader does. Writes tests/golden/models/NAME_greedy.json. Run with gguf 0.19.0,
torch 2.15.0, transformers 5.23.0: python tools/make_greedy_goldens.py [NAME ...] (tools/fetch_*.sh fetch the files)"""
import json
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache/models"
MODELS = {"smollm2": "smollm2-135m-instruct.gguf", "qwen2.5_coder": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"}
NEW_TOKENS = 64
# A step whose two best logits are closer than this could go either way in another summation order.
LEAST_MARGIN = 2e-3
QUESTIONS = [
    "What is the capital of France?", "Write a haiku about the sea.", "Explain gravity to a child.",
    "List three prime numbers.", "Who wrote Hamlet?", "Translate 'good morning' into Spanish.",
    "Why is the sky blue?", "Give me a recipe for pancakes.", "What is 12 times 9?", "Describe a sunset in two sentences.",
    "How do plants make food?", "Name a famous mathematician and what they did.", "What is a binary search?",
    "Tell me a short story about a fox.", "What causes the seasons?", "How many legs does a spider have?",
    "What is the difference between a list and a tuple in Python?", "Give advice for learning to swim.",
    "What does a compiler do?", "Write a polite e-mail asking for a day off.", "What is photosynthesis?",
    "Name the planets of the solar system.", "What is the largest ocean?", "How does a rainbow form?",
]
TEXTS = ["def fibonacci(n):\n", "Once upon a time, in a village by the sea,", "The three laws of motion are",
         "Zürich is a city in", "import numpy as np\n\ndef softmax(x):", "In 1969, "]

NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}


def load(file):
    reader = gguf.GGUFReader(file)
    value = {name.removeprefix("llama.").removeprefix("qwen2."): field.contents() for name, field in reader.fields.items()}
    is_llama, state = value["general.architecture"] == "llama", {}
    # llama.cpp keeps the rows of Llama's rotary heads in pairs.
    heads = {"attn_q": value["attention.head_count"], "attn_k": value["attention.head_count_kv"]} if is_llama else {}
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if tensor.tensor_type != gguf.GGMLQuantizationType.F32:
            data = data.astype(np.float16).astype(np.float32)
        words = tensor.name.split(".")
        if words[0] == "blk":
            if words[2] in heads:
                rows, columns = data.shape
                data = data.reshape(heads[words[2]], -1, 2, columns).swapaxes(1, 2).reshape(rows, columns)
            name = f"model.layers.{words[1]}.{NAMES[words[2]]}.{words[3]}"
        else:
            name = TOP[tensor.name]
        state[name] = torch.from_numpy(np.array(data, dtype=np.float32))
    tied = "lm_head.weight" not in state
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    kind, cls = (transformers.LlamaConfig, transformers.LlamaForCausalLM) if is_llama else (transformers.Qwen2Config, transformers.Qwen2ForCausalLM)
    config = kind(
        hidden_size=value["embedding_length"], intermediate_size=value["feed_forward_length"], num_hidden_layers=value["block_count"],
        num_attention_heads=value["attention.head_count"], num_key_value_heads=value["attention.head_count_kv"],
        vocab_size=len(state["model.embed_tokens.weight"]), max_position_embeddings=value["context_length"],
        rms_norm_eps=value["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": value["rope.freq_base"]}, tie_word_embeddings=tied,
        attn_implementation="eager")
    model = cls(config).eval()
    model.load_state_dict(state)
    model.tie_weights()
    assert abs(model.model.rotary_emb.inv_freq[1].item() - value["rope.freq_base"] ** (-2 / 64)) < 1e-7
    return model


@torch.no_grad()
def continue_greedily(model, prompts):
    """Each prompt's next tokens, and the smallest distance between its two best logits on the way. All prompts run as one
    batch, padded on the left."""
    width = max(map(len, prompts))
    step = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out, margins, cache = [], [], None
    for _ in range(NEW_TOKENS):
        result = model(step, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
        best = result.logits[:, -1].topk(2)
        margins.append(best.values[:, 0] - best.values[:, 1])
        step, cache = best.indices[:, :1], result.past_key_values
        out.append(step)
        mask = torch.cat([mask, torch.ones_like(step)], 1)
        positions = positions[:, -1:] + 1
    return torch.cat(out, 1).tolist(), torch.stack(margins).min(0).values.tolist()


def write(name):
    file = CACHE / MODELS[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    prompts = TEXTS + [f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" for q in QUESTIONS]
    model = load(file)
    cases = []
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts]
    for prompt, tokens, margin in zip(ids, *continue_greedily(model, ids)):
        print(f"{len(prompt)} prompt tokens, margin {margin:.5f}: {tokenizer.decode(tokens)[:60]!r}", flush=True)
        if margin >= LEAST_MARGIN and len(cases) < 20:
            cases.append({"prompt": prompt, "continuation": tokens})
    assert len(cases) == 20, len(cases)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (ROOT / f"tests/golden/models/{name}_greedy.json").write_text(f'{{"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        write(name)
