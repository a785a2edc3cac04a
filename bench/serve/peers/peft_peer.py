"""transformers' `generate` over batches of whoever waits, each row with its own adapter by PEFT's `adapter_names`.

usage: peft_peer.py MODEL_FOLDER THREADS PEFT_FOLDER...
"""

import sys

import peft
import torch
import transformers
from peer_lines import Requests, say

AT_ONCE = 16


class Counted(transformers.StoppingCriteria):
    """Says after each step that every row has one more token."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        for id in self._ids:
            say(id=id, tokens=1)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def main(folder: str, threads: str, *adapters: str) -> None:
    torch.set_num_threads(int(threads))
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, adapters[0], adapter_name="a0")
    for index, adapter in enumerate(adapters[1:], start=1):
        model.load_adapter(adapter, adapter_name=f"a{index}")
    model.eval()
    requests = Requests()
    say(ready=f"transformers {transformers.__version__}, peft {peft.__version__}, torch {torch.__version__}")
    while True:
        batch = requests.take(AT_ONCE, wait=True)
        # One batch is of one length: those that differ come next.
        new_tokens = batch[0]["new_tokens"]
        length = len(batch[0]["prompt"])
        while batch:
            alike = [one for one in batch if len(one["prompt"]) == length and one["new_tokens"] == new_tokens]
            batch = [one for one in batch if one not in alike]
            answer(model, alike, new_tokens)
            if batch:
                length, new_tokens = len(batch[0]["prompt"]), batch[0]["new_tokens"]


def answer(model: peft.PeftModel, batch: list[dict], new_tokens: int) -> None:
    tokens = torch.tensor([one["prompt"] for one in batch])
    names = ["__base__" if one["adapter"] is None else f"a{one['adapter']}" for one in batch]
    with torch.inference_mode():
        model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            adapter_names=names,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=2,
            stopping_criteria=transformers.StoppingCriteriaList([Counted([one["id"] for one in batch])]),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
