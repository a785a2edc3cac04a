"""Writes the model of a GGUF file as a Hugging Face folder, in float32: what other servers read.

usage: huggingface_folder.py GGUF FOLDER
"""

import pathlib
import sys

from transformers import AutoModelForCausalLM, AutoTokenizer


def main(gguf: str, folder: str) -> None:
    file = pathlib.Path(gguf)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    # The weights are plain floats by now; with the mark of where they came from they could not be saved.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
