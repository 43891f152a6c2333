"""Greedy continuations of SmolLM2-135M-Instruct by transformers, on the weights of the GGUF file dequantized and rounded to
float16 as Hearth's loader does. Writes tests/golden/models/smollm2_greedy.json. Run with gguf 0.19.0, torch 2.15.0,
transformers 5.23.0: python tools/make_smollm2_golden.py"""
import json
import pathlib

import gguf
import numpy as np
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / ".cache/models/smollm2-135m-instruct.gguf"
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
TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def load():
    reader = gguf.GGUFReader(MODEL)
    value = {name: field.contents() for name, field in reader.fields.items()}
    heads = {"attn_q": value["llama.attention.head_count"], "attn_k": value["llama.attention.head_count_kv"]}
    state = {}
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
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    config = transformers.LlamaConfig(
        hidden_size=value["llama.embedding_length"], intermediate_size=value["llama.feed_forward_length"],
        num_hidden_layers=value["llama.block_count"], num_attention_heads=value["llama.attention.head_count"],
        num_key_value_heads=value["llama.attention.head_count_kv"], vocab_size=value["llama.vocab_size"],
        max_position_embeddings=value["llama.context_length"], rms_norm_eps=value["llama.attention.layer_norm_rms_epsilon"],
        rope_theta=value["llama.rope.freq_base"], tie_word_embeddings=True, attn_implementation="eager")
    model = transformers.LlamaForCausalLM(config).eval()
    model.load_state_dict(state)
    model.tie_weights()
    assert abs(model.model.rotary_emb.inv_freq[1].item() - value["llama.rope.freq_base"] ** (-2 / 64)) < 1e-7
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


def main():
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL.parent, gguf_file=MODEL.name)
    prompts = TEXTS + [f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" for q in QUESTIONS]
    model = load()
    cases = []
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts]
    for prompt, tokens, margin in zip(ids, *continue_greedily(model, ids)):
        print(f"{len(prompt)} prompt tokens, margin {margin:.5f}: {tokenizer.decode(tokens)[:60]!r}", flush=True)
        if margin >= LEAST_MARGIN and len(cases) < 20:
            cases.append({"prompt": prompt, "continuation": tokens})
    assert len(cases) == 20, len(cases)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (ROOT / "tests/golden/models/smollm2_greedy.json").write_text(f'{{"cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
