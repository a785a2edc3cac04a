"""Drives a running server with the real openai SDK and huggingface_hub. Prints one JSON object: check name -> what came back."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
from huggingface_hub import InferenceClient

url, cases = sys.argv[1], json.loads(sys.argv[2])
BASE = "smollm2-135m-instruct"
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
hub = InferenceClient(model=url, timeout=120)
results = {}
embedding_cases = json.loads((Path(__file__).parent.parent / "fixtures" / "embeddings.json").read_text())["cases"]

OPEN, MIDDLE = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


def check(name):
    def run(function):
        try:
            results[name] = function()
        except Exception as error:  # The test compares the kind and the text.
            results[name] = {"raised": type(error).__name__, "text": str(error)}

    return run


def raised(function):
    try:
        function()
    except openai.APIError as error:
        body = error.body if isinstance(error.body, dict) else {}
        status = getattr(error, "status_code", None)
        return {"raised": type(error).__name__, "status": status, "code": body.get("code"), "text": error.message}
    return "nothing was raised"


def model_of(case):
    return case["adapter"] or BASE


def complete(case, **more):
    return client.completions.create(
        model=model_of(case), prompt=case["prompt"], max_tokens=len(case["token_ids"]), temperature=0, **more
    )


def messages_of(case):
    assert case["prompt"].startswith(OPEN) and case["prompt"].endswith(MIDDLE), case["prompt"]
    system = {"role": "system", "content": "You are a helpful AI assistant named SmolLM, trained by Hugging Face"}
    return [{"role": "user", "content": case["prompt"][len(OPEN) : -len(MIDDLE)]}], system


def is_chat(case):
    return case["prompt"].startswith(OPEN) and case["prompt"].count("<|im_start|>") == 2


def chat(case, **more):
    messages, _ = messages_of(case)
    return client.chat.completions.create(
        model=model_of(case), messages=messages, max_tokens=len(case["token_ids"]), temperature=0, **more
    )


@check("models")
def _():
    return [[model.id, model.object, model.owned_by, getattr(model, "parent", "")] for model in client.models.list()]


@check("golden_completions")
def _():
    with ThreadPoolExecutor(4) as pool:
        return [response.choices[0].text for response in pool.map(complete, cases)]


@check("golden_completion_streams")
def _():
    def streamed(case):
        return "".join(chunk.choices[0].text for chunk in complete(case, stream=True))

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(streamed, cases))


@check("golden_hub")
def _():
    return [
        hub.text_generation(case["prompt"], adapter_id=case["adapter"], max_new_tokens=len(case["token_ids"]))
        for case in cases
    ]


@check("golden_hub_streams")
def _():
    return [
        "".join(
            event.token.text
            for event in hub.text_generation(
                case["prompt"], adapter_id=case["adapter"], max_new_tokens=len(case["token_ids"]), stream=True, details=True
            )
            if not event.token.special
        )
        for case in cases
    ]


@check("chat_prompts")
def _():
    # What the chat route answers is what its rendering gives as a prompt: the same count of tokens and the same text.
    case = next(case for case in cases if is_chat(case))
    messages, system = messages_of(case)
    answer = chat(case, seed=1)
    chunks = list(chat(case, stream=True, stream_options={"include_usage": True}))
    rendered = f"<|im_start|>system\n{system['content']}<|im_end|>\n" + case["prompt"]
    spelled = client.completions.create(
        model=model_of(case), prompt=rendered, max_tokens=len(case["token_ids"]), temperature=0
    )
    through_hub = hub.chat_completion(messages, model=case["adapter"], max_tokens=len(case["token_ids"]), temperature=0)
    hub_stream = hub.chat_completion(
        messages, model=case["adapter"], max_tokens=len(case["token_ids"]), temperature=0, stream=True
    )
    return {
        "object": answer.object,
        "model": answer.model == model_of(case),
        "roles": [chunk.choices[0].delta.role for chunk in chunks[:2]],
        "same_tokens": answer.usage.prompt_tokens == spelled.usage.prompt_tokens,
        "texts": [
            answer.choices[0].message.content == other
            for other in (
                "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
                spelled.choices[0].text,
                through_hub.choices[0].message.content,
                "".join(chunk.choices[0].delta.content or "" for chunk in hub_stream),
            )
        ],
        "usage_in_stream": chunks[-1].usage.model_dump(include={"prompt_tokens", "completion_tokens"})
        == answer.usage.model_dump(include={"prompt_tokens", "completion_tokens"}),
    }


@check("dummy_model")
def _():
    return hub.chat_completion([{"role": "user", "content": "Hi"}], max_tokens=2, temperature=0).model


@check("stop")
def _():
    prompt = "1, 2, 3, 4,"
    whole = client.completions.create(model=BASE, prompt=prompt, max_tokens=32, temperature=0, stop=" 7")
    chunks = client.completions.create(model=BASE, prompt=prompt, max_tokens=32, temperature=0, stop=[" 7"], stream=True)
    return [whole.choices[0].text, whole.choices[0].finish_reason, "".join(chunk.choices[0].text for chunk in chunks)]


@check("n_and_seed")
def _():
    def texts(**more):
        answer = client.chat.completions.create(
            model=BASE, messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=12, n=3, **more
        )
        return [choice.message.content for choice in answer.choices]

    first = texts(seed=7)
    return {"differ": len(set(first)) > 1, "replays": first == texts(seed=7), "another": first != texts(seed=8)}


@check("logprobs")
def _():
    case = cases[0]
    legacy = complete(case, logprobs=2).choices[0].logprobs
    listed = chat(cases[1], logprobs=True, top_logprobs=3).choices[0].logprobs.content
    return {
        "lengths": [len(legacy.tokens) == len(legacy.token_logprobs) == len(legacy.text_offset), len(legacy.top_logprobs[0]) >= 2],
        "top": all(len(token.top_logprobs) == 3 for token in listed),
        "greedy": all(token.top_logprobs[0].token == token.token for token in listed),
    }


@check("logit_bias")
def _():
    case = cases[0]
    first = complete(case, logprobs=0).choices[0].logprobs.tokens[0]
    banned = complete(case, logit_bias={str(case["token_ids"][0]): -100}, logprobs=0).choices[0].logprobs.tokens[0]
    return first != banned


@check("echo")
def _():
    return client.completions.create(model=BASE, prompt="1, 2, 3, 4,", max_tokens=3, temperature=0, echo=True).choices[0].text


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}, "celsius": {"type": "boolean"}},
            "required": ["city", "celsius"],
            "additionalProperties": False,
        },
    },
}
ASKED = {"messages": [{"role": "user", "content": "What is the weather in Rome?"}], "max_tokens": 80, "temperature": 0}
NAMED = {"type": "function", "function": {"name": "weather"}}


@check("tool_call")
def _():
    def asked(**more):
        return client.chat.completions.create(model=BASE, tools=[WEATHER], tool_choice=NAMED, **ASKED, **more)

    choice = asked().choices[0]
    call = choice.message.tool_calls[0]
    deltas = [chunk.choices[0].delta for chunk in asked(stream=True) if chunk.choices]
    pieces = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    through_hub = hub.chat_completion(tools=[WEATHER], tool_choice=NAMED, **ASKED).choices[0].message.tool_calls[0]
    return {
        "reason": choice.finish_reason,
        "content": choice.message.content,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "streamed": [pieces[0].function.name, "".join(piece.function.arguments or "" for piece in pieces)]
        == ["weather", call.function.arguments],
        "hub": [through_hub.function.name, json.loads(through_hub.function.arguments)],
    }


@check("unknown_tool")
def _():
    choice = {"type": "function", "function": {"name": "launch"}}
    return raised(lambda: client.chat.completions.create(model=BASE, tools=[WEATHER], tool_choice=choice, **ASKED))


@check("embeddings")
def _():
    # The SDK asks for base64 unless it is told otherwise.
    def embed(case):
        model = model_of(case)
        answer = client.embeddings.create(model=model, input=case["input"], user="somebody")
        plain = client.embeddings.create(model=model, input=case["input"], encoding_format="float")
        tokens = client.embeddings.create(model=model, input=case["tokens"])
        values = answer.data[0].embedding
        return {
            "values": values,
            "same": [values == other.data[0].embedding for other in (plain, tokens)],
            "model": answer.model == model,
            "usage": answer.usage.model_dump() == {"prompt_tokens": len(case["tokens"]), "total_tokens": len(case["tokens"])},
        }

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(embed, embedding_cases))


@check("embeddings_of_a_list")
def _():
    texts = ["red", "How many users are there?", "blue", "red"]
    listed = client.embeddings.create(model=BASE, input=texts)
    single = [client.embeddings.create(model=BASE, input=text).data[0].embedding for text in texts]
    near = max(abs(a - b) for one, other in zip(listed.data, single) for a, b in zip(one.embedding, other))
    return {"indexes": [one.index for one in listed.data], "near": near < 1e-3, "total": listed.usage.total_tokens}


@check("embeddings_refused")
def _():
    create = client.embeddings.create
    return [
        raised(lambda: create(model="nobody/nothing", input="Hi")),
        raised(lambda: create(model=BASE, input="Hi", dimensions=64)),
        raised(lambda: create(model=BASE, input=["Hi", ""])),
        raised(lambda: create(model=BASE, input=["Hi", "so " * 3000])),
        raised(lambda: create(model=BASE, input=[[1, 49152]])),
    ]


@check("unknown_model")
def _():
    return raised(lambda: client.chat.completions.create(model="nobody/nothing", messages=[{"role": "user", "content": "Hi"}]))


@check("unknown_model_stream")
def _():
    create = client.completions.create
    return raised(lambda: list(create(model="nobody/nothing", prompt="Hi", stream=True)))


@check("bad_parameter")
def _():
    return raised(lambda: client.completions.create(model=BASE, prompt="Hi", temperature=-1))


@check("too_long")
def _():
    return raised(lambda: list(client.completions.create(model=BASE, prompt="Hi", max_tokens=100000, stream=True)))


json.dump(results, sys.stdout)
