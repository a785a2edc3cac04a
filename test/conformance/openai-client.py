"""What the openai SDK of Python sees of a running server: python openai-client.py URL."""

import asyncio
import base64
import json
import struct

import openai
from checks import BASE, CASES, COUNTING, FIXTURES, URL, asked_of, case_of, check, has, main, raises, same, together
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=200)
EMBEDDINGS = json.loads((FIXTURES / "embeddings.json").read_text())["cases"]
# Of numbers of about 1, between our fp32 and transformers'.
EMBEDDING_TOLERANCE = 2e-3
# What the template of the base model puts before a conversation without a system message.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
COUNT = {"model": BASE, "prompt": COUNTING, "temperature": 0}


def model_of(case):
    return case["adapter"] or BASE


def complete(case, **more):
    return client.completions.create(
        model=model_of(case), prompt=case["prompt"], max_tokens=len(case["token_ids"]), temperature=0, **more
    )


def chat(adapter, **more):
    asked = {"messages": [{"role": "user", "content": asked_of(adapter)}], "max_tokens": 12, "temperature": 0}
    return client.chat.completions.create(model=adapter, **(asked | more))


def refused(kind, function, status, code, *parts):
    error = raises(kind, function, *parts)
    same([error.status_code, error.body.get("code")], [status, code])
    return error


@check("openai-py: the base model and every adapter are listed")
def _():
    listed = [[model.id, model.object, model.owned_by, model.parent] for model in client.models.list()]
    names = ["sentiment", "shout", "support-json", "text-to-sql"]
    same(listed, [[BASE, "model", "quiver", None]] + [[name, "model", "quiver", BASE] for name in names])


@check("openai-py: every golden case, all at once")
def _():
    same([answer.choices[0].text for answer in together(complete, CASES)], [case["text"] for case in CASES])


@check("openai-py: every golden case streamed, all at once")
def _():
    def streamed(case):
        return "".join(chunk.choices[0].text for chunk in complete(case, stream=True))

    same(together(streamed, CASES), [case["text"] for case in CASES])


@check("openai-py: an adapter by its version, its alias and its digest")
def _():
    case = case_of("shout")
    raw = client.completions.with_raw_response.create(model="shout", prompt=case["prompt"], max_tokens=4, temperature=0)
    digest = raw.headers["x-adapter-digest"]
    for name in ("shout@1", "shout@latest", f"shout@sha256:{digest}"):
        answer = client.completions.create(model=name, prompt=case["prompt"], max_tokens=4, temperature=0)
        same([answer.model, answer.choices[0].text], [name, raw.parse().choices[0].text])


@check("openai-py: an empty model, dummy and tgi mean the base model")
def _():
    for name in ("", "dummy", "tgi"):
        same(client.completions.create(**(COUNT | {"model": name}), max_tokens=2).choices[0].text, " 5")


@check("openai-py: a completion has id, object, time, model and usage")
def _():
    answer = client.completions.create(**COUNT, max_tokens=2)
    same([answer.object, answer.model, answer.id[:5]], ["text_completion", BASE, "cmpl-"])
    assert answer.created > 1_700_000_000
    same(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)


@check("openai-py: a chat has id, object, role and usage")
def _():
    answer = chat("shout")
    same([answer.object, answer.model, answer.id[:9]], ["chat.completion", "shout", "chatcmpl-"])
    same([answer.choices[0].message.role, answer.choices[0].index], ["assistant", 0])


@check("openai-py: a chat is its rendering as a prompt")
def _():
    answer = chat("shout")
    rendered = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n" + case_of("shout")["prompt"]
    spelled = client.completions.create(model="shout", prompt=rendered, max_tokens=12, temperature=0)
    same(answer.choices[0].message.content, spelled.choices[0].text)
    same(answer.usage.prompt_tokens, spelled.usage.prompt_tokens)


@check("openai-py: chunks have one id, the role once, and the usage last when it is asked for")
def _():
    whole = chat("shout")
    chunks = list(chat("shout", stream=True, stream_options={"include_usage": True}))
    same(len({chunk.id for chunk in chunks}), 1)
    same([chunk.choices[0].delta.role for chunk in chunks[:2]], ["assistant", None])
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), whole.choices[0].message.content)
    same([chunks[-1].choices, chunks[-1].usage.completion_tokens], [[], whole.usage.completion_tokens])
    same([chunk.usage for chunk in chunks[:-1]], [None] * (len(chunks) - 1))


@check("openai-py: a stream without stream_options has no usage")
def _():
    same([chunk.usage for chunk in chat("shout", stream=True, max_tokens=3)][-1], None)


@check("openai-py: a stop text as a string or a list is not in the answer")
def _():
    whole = client.completions.create(**COUNT, max_tokens=16, stop=" 7")
    chunks = client.completions.create(**COUNT, max_tokens=16, stop=["x", " 7"], stream=True)
    same([whole.choices[0].text, whole.choices[0].finish_reason], [" 5, 6,", "stop"])
    same("".join(chunk.choices[0].text for chunk in chunks), " 5, 6,")


@check("openai-py: a stop text over several tokens is held back from a stream")
def _():
    chunks = client.completions.create(**COUNT, max_tokens=16, stop="6, 7", stream=True)
    same("".join(chunk.choices[0].text for chunk in chunks), " 5, ")


@check("openai-py: finish reasons are length and stop")
def _():
    case = case_of("shout")
    ended = client.completions.create(model="shout", prompt=case["prompt"], max_tokens=40, temperature=0)
    same([ended.choices[0].finish_reason, chat("shout", max_tokens=2).choices[0].finish_reason], ["stop", "length"])


@check("openai-py: max_completion_tokens is the newer word for max_tokens")
def _():
    same(chat("shout", max_tokens=9, max_completion_tokens=3).usage.completion_tokens, 3)


@check("openai-py: choices differ, and a seed replays all of them")
def _():
    def texts(seed):
        asked = {"model": BASE, "messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 8, "n": 3}
        return [choice.message.content for choice in client.chat.completions.create(**asked, seed=seed).choices]

    first = texts(7)
    assert len(set(first)) > 1 and texts(8) != first
    same(texts(7), first)


@check("openai-py: temperature 0 is greedy, without a temperature it samples")
def _():
    asked = {"model": BASE, "prompt": "Once upon a time", "max_tokens": 8}
    greedy = client.completions.create(**asked, temperature=0).choices[0].text
    assert any(client.completions.create(**asked, seed=seed).choices[0].text != greedy for seed in range(4))


@check("openai-py: several prompts are answered each, in their order")
def _():
    answer = client.completions.create(model=BASE, prompt=[COUNTING, "a, b, c, d,"], max_tokens=3, temperature=0)
    same([[choice.index, choice.text[:2]] for choice in answer.choices], [[0, " 5"], [1, " e"]])


@check("openai-py: log-probabilities of completions line up with their tokens")
def _():
    listed = complete(case_of("text-to-sql"), logprobs=2).choices[0].logprobs
    same([len(listed.tokens), len(listed.text_offset)], [len(listed.token_logprobs)] * 2)
    assert len(listed.top_logprobs[0]) >= 2


@check("openai-py: log-probabilities of chats name the greedy token first")
def _():
    listed = chat("shout", logprobs=True, top_logprobs=3).choices[0].logprobs.content
    same([len(token.top_logprobs) for token in listed], [3] * len(listed))
    same([token.top_logprobs[0].token for token in listed], [token.token for token in listed])


@check("openai-py: logprobs do not hinder a stream")
def _():
    chunks = list(complete(case_of("text-to-sql"), logprobs=1, stream=True))
    assert all(chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].text)


@check("openai-py: a token that is weighed down is not chosen")
def _():
    banned = {str(case_of("text-to-sql")["token_ids"][0]): -100}
    first = complete(case_of("text-to-sql"), logprobs=0).choices[0].logprobs.tokens[0]
    assert complete(case_of("text-to-sql"), logit_bias=banned, logprobs=0).choices[0].logprobs.tokens[0] != first


@check("openai-py: an echo begins with the prompt")
def _():
    same(client.completions.create(**COUNT, max_tokens=2, echo=True).choices[0].text, f"{COUNTING} 5")


@check("openai-py: best_of of completions answers the likeliest")
def _():
    asked = {"model": BASE, "prompt": COUNTING, "max_tokens": 4, "n": 1, "best_of": 2, "seed": 5}
    best = client.completions.create(**asked)
    same([len(best.choices), client.completions.create(**asked).choices[0].text], [1, best.choices[0].text])


@check("openai-py: LoRAX's own fields go along in extra_body")
def _():
    asked = COUNT | {"temperature": 1, "seed": 1, "max_tokens": 6}
    same(client.completions.create(**asked, extra_body={"top_k": 1}).choices[0].text, " 5, 6,")
    case = case_of("shout")
    longer = client.completions.create(
        model="shout", prompt=case["prompt"], max_tokens=20, temperature=0, extra_body={"ignore_eos_token": True}
    )
    same(longer.usage.completion_tokens, 20)


class Colour(BaseModel):
    colour: str
    warm: bool


@check("openai-py: the SDK's own parsing of a schema")
def _():
    answer = client.chat.completions.parse(
        model=BASE,
        messages=[{"role": "user", "content": "Name a colour as JSON."}],
        response_format=Colour,
        max_tokens=80,
        temperature=0,
        extra_body={"repetition_penalty": 1.1},
    )
    assert isinstance(answer.choices[0].message.parsed, Colour)


@check("openai-py: json_object gives an object")
def _():
    answer = chat("support-json", response_format={"type": "json_object"}, max_tokens=60)
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


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
ASKED = {"messages": [{"role": "user", "content": "What is the weather in Rome?"}], "max_tokens": 60, "temperature": 0}
NAMED = {"type": "function", "function": {"name": "weather"}}


def tools(**more):
    return client.chat.completions.create(model=BASE, tools=[WEATHER], tool_choice=NAMED, **ASKED, **more)


@check("openai-py: a named function is called with arguments that fit, whole and streamed")
def _():
    choice = tools().choices[0]
    call = choice.message.tool_calls[0]
    same([choice.finish_reason, choice.message.content, call.function.name], ["tool_calls", None, "weather"])
    same(sorted(json.loads(call.function.arguments)), ["celsius", "city"])
    deltas = [chunk.choices[0].delta for chunk in tools(stream=True) if chunk.choices]
    pieces = [delta.tool_calls[0].function for delta in deltas if delta.tool_calls]
    same([pieces[0].name, "".join(piece.arguments or "" for piece in pieces)], ["weather", call.function.arguments])


@check("openai-py: a function that is not offered is 422")
def _():
    choice = {"type": "function", "function": {"name": "launch"}}
    create = client.chat.completions.create
    refused(
        openai.UnprocessableEntityError,
        lambda: create(model=BASE, tools=[WEATHER], tool_choice=choice, **ASKED),
        *(422, "tool_error", 'there is no tool "launch"'),
    )


def floats_of(text):
    data = base64.b64decode(text)
    return struct.unpack(f"<{len(data) // 4}f", data)


def near(found, expected):
    far = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    assert far < EMBEDDING_TOLERANCE, f"{far} apart"


@check("openai-py: embeddings are those of transformers and PEFT, as base64, as numbers and of tokens")
def _():
    def embed(case):
        # The SDK asks for base64 unless it is told otherwise.
        answer = client.embeddings.create(model=model_of(case), input=case["input"], user="somebody")
        near(answer.data[0].embedding, floats_of(case["embedding"]))
        same(answer.usage.prompt_tokens, len(case["tokens"]))
        for more in ({"input": case["input"], "encoding_format": "float"}, {"input": case["tokens"]}):
            # Other batches: sums in another order differ in their last bits.
            near(client.embeddings.create(model=model_of(case), **more).data[0].embedding, floats_of(case["embedding"]))

    together(embed, EMBEDDINGS)


@check("openai-py: embeddings of a list are in their order")
def _():
    texts = ["red", "How many users are there?", "red"]
    listed = client.embeddings.create(model=BASE, input=texts)
    same([one.index for one in listed.data], [0, 1, 2])
    near(listed.data[0].embedding, listed.data[2].embedding)
    near(listed.data[1].embedding, client.embeddings.create(model=BASE, input=texts[1]).data[0].embedding)


@check("openai-py: embeddings that cannot be made are refused by what is to blame")
def _():
    for given, text in (
        ({"input": "Hi", "dimensions": 64}, "`dimensions` is not supported"),
        ({"input": ["Hi", ""]}, "`input[1]` must not be empty"),
        ({"input": ["Hi", "so " * 3000]}, "`input[1]` must have at most 2047 tokens. Given: 3"),
        ({"input": [[1, 49152]]}, "`input` holds token 49152, but the model has only 49152 tokens"),
    ):
        create = client.embeddings.create
        refused(openai.UnprocessableEntityError, lambda: create(model=BASE, **given), 422, "invalid_parameters", text)  # noqa: B023


@check("openai-py: an unknown model raises NotFoundError, whole, streamed and for embeddings")
def _():
    more = (404, "adapter_not_found", "does not exist")
    message = [{"role": "user", "content": "Hi"}]
    asked = {"model": "nobody/nothing"}
    refused(openai.NotFoundError, lambda: client.chat.completions.create(**asked, messages=message), *more)
    refused(openai.NotFoundError, lambda: list(client.completions.create(**asked, prompt="Hi", stream=True)), *more)
    refused(openai.NotFoundError, lambda: client.embeddings.create(**asked, input="Hi"), *more)


@check("openai-py: a bad parameter raises UnprocessableEntityError with the reason and the field")
def _():
    more = (422, "invalid_parameters")
    create = client.completions.create
    kind = openai.UnprocessableEntityError
    refused(kind, lambda: create(model=BASE, prompt="Hi", temperature=-1), *more, "`temperature` must be non-negative")
    refused(kind, lambda: create(model=BASE, prompt="Hi", max_tokens=100000, stream=True), *more, "must be <= 2048")
    same(refused(kind, lambda: create(model=BASE, prompt=""), *more, "`prompt`").body["param"], "prompt")


@check("openai-py: the error's text, type and request id reach the exception")
def _():
    error = raises(openai.APIStatusError, lambda: chat("shout", temperature=-1))
    same(error.body["type"], "invalid_request_error")
    assert error.request_id
    has(error.message, "`temperature` must be non-negative")


@check("openai-py: the asynchronous client, many adapters at once")
def _():
    async def all_of():
        asynchronous = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=200)
        asked = [case_of(adapter) for adapter in ("shout", "sentiment", "text-to-sql")]

        async def text(case):
            stream = await asynchronous.completions.create(
                model=case["adapter"], prompt=case["prompt"], max_tokens=len(case["token_ids"]), temperature=0, stream=True
            )
            return "".join([chunk.choices[0].text async for chunk in stream])

        return await asyncio.gather(*map(text, asked)), [case["text"] for case in asked]

    same(*asyncio.run(all_of()))


main()
