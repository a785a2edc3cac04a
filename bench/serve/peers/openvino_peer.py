"""OpenVINO GenAI's continuous batching, with one adapter for whoever asks for any.

usage: openvino_peer.py MODEL_FOLDER THREADS PEFT_FOLDER...
"""

import pathlib
import sys

import numpy
import openvino
import openvino_genai as genai
from peer_lines import Requests, say

AT_ONCE = 16


def main(model: str, threads: str, first: str, *_: str) -> None:
    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs = AT_ONCE
    scheduler.cache_size = 1
    adapter = genai.Adapter(str(pathlib.Path(first) / "adapter_model.safetensors"))
    pipeline = genai.ContinuousBatchingPipeline(
        model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": int(threads), "adapters": genai.AdapterConfig(adapter)}
    )
    without = genai.AdapterConfig()
    requests = Requests()
    running: dict[int, tuple[object, int]] = {}
    say(ready=f"openvino-genai {genai.__version__}")
    while True:
        for request in requests.take(1_000, wait=not running):
            config = genai.GenerationConfig()
            config.max_new_tokens = request["new_tokens"]
            config.ignore_eos = True
            config.do_sample = False
            config.adapters = without if request["adapter"] is None else genai.AdapterConfig(adapter)
            prompt = openvino.Tensor(numpy.array([request["prompt"]], dtype=numpy.int64))
            running[request["id"]] = (pipeline.add_request(request["id"], prompt, config), request["new_tokens"])
        pipeline.step()
        for id, (handle, left) in list(running.items()):
            if not handle.can_read():
                continue
            tokens = sum(len(output.generated_ids) for output in handle.read().values())
            say(id=id, tokens=tokens)
            running[id] = (handle, left - tokens)
            if left <= tokens:
                del running[id]


if __name__ == "__main__":
    main(*sys.argv[1:])
