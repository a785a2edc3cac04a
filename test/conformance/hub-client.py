"""What huggingface_hub's InferenceClient sees of a running server: python hub-client.py URL."""

import asyncio
import json
import re

from checks import BASE, CASES, COUNTING, URL, asked_of, case_of, check, has, main, raises, same, together
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import GenerationError, ValidationError

hub = InferenceClient(model=URL, timeout=200)
SQL, SHOUT = case_of("text-to-sql"), case_of("shout")


def generate(case, **more):
    return hub.text_generation(case["prompt"], adapter_id=case["adapter"], max_new_tokens=len(case["token_ids"]), **more)


def counted(**more):
    return hub.text_generation(COUNTING, details=True, **({"max_new_tokens": 6} | more))


@check("hub: every golden case, all at once")
def _():
    same(together(generate, CASES), [case["text"] for case in CASES])


@check("hub: every golden case streamed, all at once")
def _():
    def streamed(case):
        return "".join(event.token.text for event in generate(case, stream=True, details=True) if not event.token.special)

    same(together(streamed, CASES), [case["text"] for case in CASES])


@check("hub: a stream without details is its texts")
def _():
    same("".join(hub.text_generation(COUNTING, max_new_tokens=6, stream=True)), " 5, 6,")


@check("hub: details parse, with ids, log-probabilities and no seed")
def _():
    details = generate(SQL, details=True, decoder_input_details=True).details
    same([token.id for token in details.tokens], SQL["token_ids"])
    same([token.id for token in details.prefill], SQL["prompt_ids"])
    same([details.finish_reason, details.seed, details.generated_tokens], ["length", None, len(SQL["token_ids"])])


@check("hub: the last event of a stream has the text and the details")
def _():
    *others, last = counted(stream=True)
    same([event.details for event in others], [None] * len(others))
    same([last.generated_text, last.details.generated_tokens, last.details.finish_reason], [" 5, 6,", 6, "length"])


@check("hub: top_n_tokens is answered in top_tokens")
def _():
    details = counted(top_n_tokens=3).details
    same([len(tops) for tops in details.top_tokens], [3] * 6)
    same([tops[0]["id"] for tops in details.top_tokens], [token.id for token in details.tokens])


@check("hub: a grammar of JSON")
def _():
    value = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    answer = hub.text_generation("Give a number.", grammar={"type": "json", "value": value}, max_new_tokens=30)
    assert json.loads(answer)["n"] in (1, 2), answer


@check("hub: a grammar of a pattern")
def _():
    answer = hub.text_generation("Phone:", grammar={"type": "regex", "value": "[0-9]{3}-[0-9]{4}"}, max_new_tokens=20)
    assert re.fullmatch("[0-9]{3}-[0-9]{4}", answer), answer


@check("hub: a grammar that does not compile raises ValidationError")
def _():
    raises(ValidationError, lambda: hub.text_generation("Hi", grammar={"type": "regex", "value": "(a"}, max_new_tokens=2))


@check("hub: stop and stop_sequences end the answer")
def _():
    same(counted(stop=[" 6"]).generated_text, " 5, 6")


@check("hub: a seed comes back and replays")
def _():
    first = counted(do_sample=True, seed=2**63 + 1)
    same(first.details.seed, 2**63 + 1)
    same(counted(do_sample=True, seed=2**63 + 1).generated_text, first.generated_text)


@check("hub: best_of shows the other answer")
def _():
    same(len(counted(best_of=2, do_sample=True).details.best_of_sequences), 1)


@check("hub: penalties, typical_p, top_p and top_k are taken")
def _():
    answer = counted(
        frequency_penalty=0.5, repetition_penalty=1.1, typical_p=0.9, top_p=0.9, top_k=10, temperature=0.5, watermark=True
    )
    same(answer.details.generated_tokens, 6)


@check("hub: return_full_text and truncate")
def _():
    answer = hub.text_generation("word " * 40 + COUNTING, truncate=11, return_full_text=True, max_new_tokens=3)
    has(answer, COUNTING + " 5")


@check("hub: an unknown adapter raises GenerationError, whole and streamed")
def _():
    text = "Server error: Adapter 'nobody/nothing' is not known here"
    raises(GenerationError, lambda: hub.text_generation("Hi", adapter_id="nobody/nothing"), text)
    raises(GenerationError, lambda: list(hub.text_generation("Hi", adapter_id="nobody/nothing", stream=True)), text)


@check("hub: a bad parameter raises ValidationError, whole and streamed")
def _():
    text = "Input validation error: `temperature` must be non-negative"
    raises(ValidationError, lambda: hub.text_generation("Hi", temperature=-1), text)
    raises(ValidationError, lambda: list(hub.text_generation("Hi", temperature=-1, stream=True)), text)


@check("hub: a chat without a model is the base model's, which it calls dummy")
def _():
    answer = hub.chat_completion([{"role": "user", "content": "Hi"}], max_tokens=2, temperature=0)
    same([answer.model, answer.choices[0].message.role, answer.usage.completion_tokens], ["dummy", "assistant", 2])


@check("hub: a chat with an adapter, whole and streamed")
def _():
    asked = {"messages": [{"role": "user", "content": asked_of("shout")}], "model": "shout", "max_tokens": 12, "temperature": 0}
    whole = hub.chat_completion(**asked)
    chunks = list(hub.chat_completion(stream=True, **asked))
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), whole.choices[0].message.content)
    same([whole.model, chunks[-1].choices[0].finish_reason], ["shout", whole.choices[0].finish_reason])


@check("hub: a chat's answer has the form of a schema")
def _():
    schema = {"type": "object", "properties": {"warm": {"type": "boolean"}}, "required": ["warm"], "additionalProperties": False}
    answer = hub.chat_completion(
        [{"role": "user", "content": "Is red warm? As JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "warmth", "schema": schema}},
        max_tokens=30,
        temperature=0,
    )
    same(list(json.loads(answer.choices[0].message.content)), ["warm"])


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@check("hub: a tool is called with arguments that fit")
def _():
    (call,) = (
        hub.chat_completion(
            [{"role": "user", "content": "What is the weather in Rome?"}],
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "weather"}},
            max_tokens=40,
            temperature=0,
        )
        .choices[0]
        .message.tool_calls
    )
    same([call.function.name, list(json.loads(call.function.arguments))], ["weather", ["city"]])


@check("hub: an error of a chat shows its text")
def _():
    error = raises(Exception, lambda: hub.chat_completion([{"role": "user", "content": "Hi"}], model="nobody/nothing"))
    has(str(error) + error.response.text, "does not exist")


@check("hub: a bad parameter of a streamed chat raises before any chunk")
def _():
    asked = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100000, "stream": True}
    error = raises(Exception, lambda: list(hub.chat_completion(**asked)))
    has(str(error) + error.response.text, "must be <= 2048")


@check("hub: get_endpoint_info")
def _():
    endpoint = InferenceClient(model=URL, provider="hf-inference")
    same(endpoint.get_endpoint_info()["model_id"], BASE)


@check("hub: the asynchronous client streams")
def _():
    async def text():
        asynchronous = AsyncInferenceClient(model=URL, timeout=200)
        pieces = await asynchronous.text_generation(
            SHOUT["prompt"], adapter_id="shout", max_new_tokens=len(SHOUT["token_ids"]), stream=True, details=True
        )
        return "".join([event.token.text async for event in pieces if not event.token.special])

    same(asyncio.run(text()), SHOUT["text"])


main()
