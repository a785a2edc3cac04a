"""Writes PEFT folders as the GGUF files that llama.cpp loads as adapters: 0.gguf, 1.gguf, and so on.

usage: gguf_adapters.py MODEL_GGUF FOLDER PEFT_FOLDER...

The rows of Q and K stand in another order there (rotary pairs are neighbours), so those of B of q_proj and k_proj are moved likewise;
names as in the project's own converter (gguf.TensorNameMap).
"""

import json
import pathlib
import re
import sys

import gguf
import numpy
from safetensors.numpy import load_file

NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
TENSOR = re.compile(r"\.layers\.(\d+)\.\w+\.(\w+)\.lora_([AB])\.weight$")


def paired(rows: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Halves of each head to pairs: [heads, 2, dim/2, …] to [heads, dim/2, 2, …]."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def write(folder: str, file: str, heads: dict[str, int]) -> None:
    config = json.loads((pathlib.Path(folder) / "adapter_config.json").read_text())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(config["lora_alpha"]))
    for name, values in load_file(pathlib.Path(folder) / "adapter_model.safetensors").items():
        layer, module, part = TENSOR.search(name).groups()
        if part == "B" and module in heads:
            values = paired(values, heads[module])
        writer.add_tensor(f"blk.{layer}.{NAMES[module]}.weight.lora_{part.lower()}", numpy.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(model: str, target: str, *folders: str) -> None:
    fields = gguf.GGUFReader(model).fields

    def number(key: str) -> int:
        return int(fields[key].contents())

    heads = {"q_proj": number("llama.attention.head_count"), "k_proj": number("llama.attention.head_count_kv")}
    for index, folder in enumerate(folders):
        write(folder, str(pathlib.Path(target) / f"{index}.gguf"), heads)


if __name__ == "__main__":
    main(*sys.argv[1:])
