"""Writes the tiny random models of test/fixtures/models and what transformers computes from them.

    pip install torch transformers==5.23.0 peft==0.21.2 safetensors tokenizers gguf numpy
    python scripts/make-tiny-models.py

Every run gives the same files: all numbers come from fixed seeds. Each model is a few layers of random weights with a
byte-level tokenizer of 272 tokens. `index.json` lists them with a prompt; `<name>/logits.bin` holds the float32 logits
[prompt tokens, vocabulary] that transformers gives in float32 (eager attention) for the weights as they are stored, which for
GGUF files are the dequantised ones. `<name>/embeddings.bin`, of one model, holds the mean of the last hidden states of its
prompt [2, hidden]: as it is, and with the LoRA adapter of random weights beside it, which PEFT applies. `dequantize/<type>.{blocks,values}.bin` hold random blocks of every GGUF type and
what the `gguf` package makes of them.
"""
import json
import math
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config)

ROOT = Path(__file__).resolve().parent.parent / "test" / "fixtures" / "models"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "Ġ a", "h e", "i n", "r e", "o n", "Ġt he", "e r", "a n", "o r", "e n", "Ġ s", "in g"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
index = []


def vocabulary():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return SPECIAL + alphabet + [merge.replace(" ", "") for merge in MERGES]


VOCABULARY = vocabulary()
COMMON = dict(vocab_size=len(VOCABULARY), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
              attn_implementation="eager", tie_word_embeddings=True)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)


def default_rope(theta):
    return dict(rope_type="default", rope_theta=theta)


def make_model(config, seed):
    """Weights large enough that attention is far from uniform and norms and biases matter."""
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * noise)
            elif "embed" in name or "lm_head" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise * 1.5 / math.sqrt(parameter.shape[-1]))
    return model.eval()


def prompt_ids(seed, length):
    return [int(i) for i in np.random.default_rng(seed).integers(3, len(VOCABULARY), length)]


def record(name, path, model, prompt, family):
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0].numpy().astype("<f4")
    (ROOT / name / "logits.bin").write_bytes(logits.tobytes())
    index.append(dict(name=name, path=path, family=family, vocabSize=len(VOCABULARY), promptIds=prompt))
    print(f"{name}: logits std {logits.std():.2f}, {sum(f.stat().st_size for f in (ROOT / name).iterdir())} bytes")


def write_tokenizer(folder):
    vocab = {token: number for number, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(m.split(" ")) for m in MERGES]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    config = dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<|im_start|>", eos_token="<|im_end|>",
                  unk_token="<|endoftext|>", model_max_length=512, chat_template=TEMPLATE)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def fresh(name):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def hf(name, config, seed, dtype, family, prompt_length=12, shard_size="5GB", old_rope=False, generation_eos=None):
    folder = fresh(name)
    model = make_model(config, seed).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard_size)
    write_tokenizer(folder)
    config_file = folder / "config.json"
    written = json.loads(config_file.read_text())
    if old_rope:  # transformers 4 wrote rope_theta beside the other fields
        rope = written.pop("rope_parameters")
        written["rope_theta"] = rope.pop("rope_theta")
        rope_type = rope.pop("rope_type")
        written["rope_scaling"] = None if rope_type == "default" else dict(rope_type=rope_type, **rope)
    config_file.write_text(json.dumps(written, indent=1) + "\n")
    generation = folder / "generation_config.json"
    generation.unlink(missing_ok=True)
    if generation_eos is not None:
        generation.write_text(json.dumps(dict(bos_token_id=1, eos_token_id=generation_eos)) + "\n")
    # Read back, not model.float(): the cast to 16 bits above has rounded the rotary frequencies, which no file holds.
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    record(name, name, stored, prompt_ids(seed, prompt_length), family)


def embeddings(name, seed):
    folder = ROOT / name
    prompt = torch.tensor([next(entry["promptIds"] for entry in index if entry["name"] == name)])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=modules, base_model_name_or_path=f"tiny/{name}", task_type="CAUSAL_LM")
    with torch.no_grad():
        plain = model.model(prompt).last_hidden_state[0].mean(dim=0)
        adapted = get_peft_model(model, config).eval()
        generator = torch.Generator().manual_seed(seed)
        for parameter_name, parameter in adapted.named_parameters():
            if "lora_" in parameter_name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        changed = adapted.base_model.model.model(prompt).last_hidden_state[0].mean(dim=0)
    adapted.peft_config["default"].base_model_name_or_path = f"tiny/{name}"
    adapted.peft_config["default"].target_modules = modules  # not a set, whose order changes
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    (folder / "embeddings.bin").write_bytes(torch.stack([plain, changed]).numpy().astype("<f4").tobytes())
    print(f"{name}: embeddings differ by up to {(plain - changed).abs().max():.2f}")


def permute(weights, heads):
    """As llama.cpp's converter stores q and k: the members of a rotated pair side by side."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def unpermute(weights, heads):
    return weights.reshape(heads, weights.shape[0] // heads // 2, 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def float16_bytes(values):
    return values.astype("<f2").view(np.uint8)


def quantize_q4_k(x):
    """Blocks of 256: eight groups of 32, x = (d·scale)·q − dmin·minimum. A plain round to nearest, without a search."""
    groups = x.reshape(-1, 8, 32)
    low = np.minimum(groups.min(axis=2), 0)
    step = (groups.max(axis=2) - low) / 15
    d = np.float16(step.max(axis=1) / 63).astype(np.float32)
    dmin = np.float16((-low).max(axis=1) / 63).astype(np.float32)
    scale = np.clip(np.round(step / d[:, None]), 0, 63).astype(np.uint8)
    minimum = np.clip(np.round(-low / dmin[:, None]), 0, 63).astype(np.uint8)
    factor = np.maximum(d[:, None] * scale, 1e-12)[:, :, None]
    q = np.clip(np.round((groups + (dmin[:, None] * minimum)[:, :, None]) / factor), 0, 15).astype(np.uint8)
    packed = np.zeros((len(groups), 12), np.uint8)
    for j in range(4):
        packed[:, j] = scale[:, j] | ((scale[:, j + 4] >> 4) << 6)
        packed[:, 4 + j] = minimum[:, j] | ((minimum[:, j + 4] >> 4) << 6)
        packed[:, 8 + j] = (scale[:, j + 4] & 15) | ((minimum[:, j + 4] & 15) << 4)
    nibbles = (q[:, 0::2] | (q[:, 1::2] << 4)).reshape(-1, 128)
    blocks = np.concatenate([float16_bytes(d).reshape(-1, 2), float16_bytes(dmin).reshape(-1, 2), packed, nibbles], axis=1)
    return blocks.reshape(x.shape[0], -1)


def quantize_q6_k(x):
    """Blocks of 256: sixteen groups of 16, x = (d·scale)·(q − 32)."""
    groups = x.reshape(-1, 16, 16)
    step = np.abs(groups).max(axis=2) / 31
    d = np.float16(step.max(axis=1) / 127).astype(np.float32)
    scale = np.clip(np.round(step / d[:, None]), 1, 127).astype(np.int8)
    q = np.clip(np.round(groups / (d[:, None] * scale)[:, :, None]), -32, 31).astype(np.int8) + 32
    q = q.astype(np.uint8).reshape(-1, 2, 4, 32)  # halves of 128, quarters of 32
    low = np.concatenate([(q[:, :, 0:2] & 15) | ((q[:, :, 2:4] & 15) << 4)], axis=2).reshape(-1, 128)
    upper = q >> 4
    high = (upper[:, :, 0] | (upper[:, :, 1] << 2) | (upper[:, :, 2] << 4) | (upper[:, :, 3] << 6)).reshape(-1, 64)
    blocks = np.concatenate([low, high, scale.view(np.uint8), float16_bytes(d).reshape(-1, 2)], axis=1)
    return blocks.reshape(x.shape[0], -1)


OWN = {Q.Q4_K: quantize_q4_k, Q.Q6_K: quantize_q6_k}


def quantize(values, kind):
    """Stored bytes and the float32 values that they stand for. Short rows fall back to Q8_0, vectors stay F32, as in llama.cpp."""
    if values.ndim == 1:
        kind = Q.F32
    elif values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] != 0:
        kind = Q.Q8_0
    values = np.ascontiguousarray(values, dtype=np.float32)
    stored = np.ascontiguousarray(OWN[kind](values) if kind in OWN else gguf.quantize(values, kind))
    back = gguf.dequantize(stored, kind).reshape(values.shape).astype(np.float32)
    assert np.abs(back - values).max() <= 0.2 * np.abs(values).max(), kind
    return stored, back, kind


NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in NAMES:
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def rope_factors(config):
    """What the inverse frequencies of llama-3 scaling are divided by."""
    half = config.head_dim // 2
    rope = config.rope_parameters
    wavelength = 2 * np.pi * rope["rope_theta"] ** (np.arange(half) / half)
    ratio = rope["original_max_position_embeddings"] / wavelength
    ramp = np.clip((ratio - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"]), 0, 1)
    return (1 / ((1 - ramp) / rope["factor"] + ramp)).astype(np.float32)


def write_metadata(writer, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    if config.rope_parameters["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in VOCABULARY])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def ggml(name, config, seed, kind, architecture):
    folder = fresh(name)
    if getattr(config, "head_dim", None) is None:
        config.head_dim = config.hidden_size // config.num_attention_heads
    model = make_model(config, seed)
    writer = gguf.GGUFWriter(str(folder / "model.gguf"), architecture)
    write_metadata(writer, config)
    if config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(config))
    with torch.no_grad():
        for tensor_name, parameter in model.named_parameters():
            values = parameter.numpy()
            heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(tensor_name.split(".")[-2])
            paired = architecture == "llama" and heads is not None
            stored, back, used = quantize(permute(values, heads) if paired else values, kind)
            writer.add_tensor(gguf_name(tensor_name), stored, raw_dtype=used)
            parameter.copy_(torch.from_numpy((unpermute(back, heads) if paired else back).copy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    record(name, f"{name}/model.gguf", model, prompt_ids(seed, 12), architecture)


def dequantize_fixtures():
    folder = fresh("dequantize")
    rng = np.random.default_rng(7)
    scales = {Q.Q8_0: [0], Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q4_K: [0, 2], Q.Q6_K: [208]}
    for kind in (Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q4_K, Q.Q6_K):
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        count = 8 if elements > 1 else 64
        blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
        if kind in scales:
            for at in scales[kind]:  # finite, of either sign, some below the normal range
                exponents = rng.choice([1e-6, 1e-3, 1, 100], count)
                blocks[:, at:at + 2] = float16_bytes(rng.standard_normal(count) * exponents).reshape(-1, 2)
        else:
            blocks = np.ascontiguousarray(gguf.quantize((rng.standard_normal((count, 1)) * 3).astype(np.float32), kind)).view(np.uint8)
        blocks = np.ascontiguousarray(blocks)
        values = gguf.dequantize(blocks.reshape(1, -1), kind).astype("<f4")
        (folder / f"{kind.name}.blocks.bin").write_bytes(blocks.tobytes())
        (folder / f"{kind.name}.values.bin").write_bytes(values.tobytes())


def main():
    hf("llama-fp32-tied", LlamaConfig(**COMMON, rope_parameters=default_rope(10000.0)), 1, torch.float32, "llama",
       old_rope=True, generation_eos=[2, 0])
    untied = {**COMMON, "tie_word_embeddings": False}
    hf("llama-bf16-sharded", LlamaConfig(**untied, attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3), 2, torch.bfloat16,
       "llama", prompt_length=16, shard_size="60KB")
    hf("mistral-fp16-window", MistralConfig(**untied, sliding_window=6, rope_parameters=default_rope(10000.0)), 3, torch.float16,
       "mistral", prompt_length=20, generation_eos=2)
    hf("qwen2-bf16", Qwen2Config(**COMMON, rope_parameters=default_rope(1000000.0)), 4, torch.bfloat16, "qwen2")
    hf("qwen3-bf16", Qwen3Config(**COMMON, head_dim=32, rope_parameters=dict(rope_type="linear", rope_theta=1000000.0, factor=2.0)),
       5, torch.bfloat16, "qwen3")

    llama = lambda **more: LlamaConfig(**{**COMMON, "rope_parameters": default_rope(10000.0), **more})
    ggml("gguf-llama-f32", llama(), 11, Q.F32, "llama")
    ggml("gguf-llama-f16", llama(rope_parameters=LLAMA3, tie_word_embeddings=False), 12, Q.F16, "llama")
    ggml("gguf-llama-bf16", llama(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)), 13, Q.BF16, "llama")
    ggml("gguf-llama-q8_0", llama(attention_bias=True, mlp_bias=True), 14, Q.Q8_0, "llama")
    ggml("gguf-llama-q4_0", llama(), 15, Q.Q4_0, "llama")
    ggml("gguf-llama-q4_1", llama(), 16, Q.Q4_1, "llama")
    wide = dict(hidden_size=256, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=1)
    narrow = {**wide, "intermediate_size": 64, "num_attention_heads": 2, "head_dim": 32}
    ggml("gguf-llama-q4_k", llama(**wide), 17, Q.Q4_K, "llama")
    ggml("gguf-llama-q6_k", llama(**narrow), 18, Q.Q6_K, "llama")
    ggml("gguf-qwen2-q8_0", Qwen2Config(**COMMON, rope_parameters=default_rope(1000000.0)), 19, Q.Q8_0, "qwen2")
    ggml("gguf-qwen3-f16", Qwen3Config(**COMMON, head_dim=32, rope_parameters=default_rope(1000000.0)), 20, Q.F16, "qwen3")
    embeddings("llama-fp32-tied", 21)
    dequantize_fixtures()
    (ROOT / "index.json").write_text(json.dumps(index, indent=1) + "\n")


main()
