"""What lorax-client sees of a running server: python lorax-client.py URL."""

import asyncio
import json

from checks import CASES, COUNTING, URL, case_of, check, has, main, raises, same, together
from lorax import AsyncClient, Client
from lorax.errors import GenerationError, ValidationError
from lorax.types import MergedAdapters, ResponseFormat

client = Client(URL, timeout=200)
SQL, JSON, SHOUT = case_of("text-to-sql"), case_of("support-json"), case_of("shout")


def generate(case, **more):
    return client.generate(case["prompt"], adapter_id=case["adapter"], max_new_tokens=len(case["token_ids"]), **more)


def stream(case, **more):
    return list(
        client.generate_stream(case["prompt"], adapter_id=case["adapter"], max_new_tokens=len(case["token_ids"]), **more)
    )


def text_of(events):
    return "".join(event.token.text for event in events if not event.token.special)


@check("lorax: every golden case, all at once")
def _():
    same([answer.generated_text for answer in together(generate, CASES)], [case["text"] for case in CASES])


@check("lorax: every golden case streamed, all at once")
def _():
    same([text_of(events) for events in together(stream, CASES)], [case["text"] for case in CASES])


@check("lorax: an adapter answers otherwise than the base model")
def _():
    assert client.generate(SQL["prompt"], max_new_tokens=4).generated_text != generate(SQL).generated_text[:20]


@check("lorax: details have every field that the client requires")
def _():
    details = generate(SQL, decoder_input_details=True).details
    same([details.finish_reason.value, details.seed, details.generated_tokens], ["length", None, len(SQL["token_ids"])])
    same([token.id for token in details.tokens], SQL["token_ids"])
    same([token.special for token in details.tokens], [id == 2 for id in SQL["token_ids"]])


@check("lorax: prefill has the prompt's tokens, the first without a log-probability")
def _():
    prefill = generate(SQL, decoder_input_details=True).details.prefill
    same([token.id for token in prefill], SQL["prompt_ids"])
    same([prefill[0].logprob is None, all(token.logprob < 0 for token in prefill[1:])], [True, True])


@check("lorax: alternatives of every token, the chosen one first")
def _():
    tokens = generate(SQL, return_k_alternatives=2).details.tokens
    same([len(token.alternative_tokens) for token in tokens], [2] * len(tokens))
    same([token.alternative_tokens[0].id for token in tokens], SQL["token_ids"])


@check("lorax: a stream has the text and the details with its last token")
def _():
    events = stream(SQL)
    same([event.token.id for event in events], SQL["token_ids"])
    same([event.generated_text for event in events], [None] * (len(events) - 1) + [SQL["text"]])
    same([event.details for event in events[:-1]], [None] * (len(events) - 1))
    last = events[-1].details
    same([last.finish_reason.value, last.generated_tokens, last.seed], ["length", len(SQL["token_ids"]), None])


@check("lorax: a seed of 64 bits comes back exactly and replays")
def _():
    first = client.generate(COUNTING, do_sample=True, seed=2**64 - 1, max_new_tokens=8)
    again = client.generate(COUNTING, do_sample=True, seed=first.details.seed, max_new_tokens=8)
    same(first.details.seed, 2**64 - 1)
    same(again.generated_text, first.generated_text)


@check("lorax: a drawn seed is below 2^53 and replays")
def _():
    drawn = client.generate(COUNTING, temperature=0.9, max_new_tokens=8)
    again = client.generate(COUNTING, temperature=0.9, seed=drawn.details.seed, max_new_tokens=8)
    assert 0 <= drawn.details.seed < 2**53
    same(again.generated_text, drawn.generated_text)


@check("lorax: a streamed seed replays")
def _():
    events = list(client.generate_stream(COUNTING, temperature=0.9, max_new_tokens=8))
    again = list(client.generate_stream(COUNTING, temperature=0.9, seed=events[-1].details.seed, max_new_tokens=8))
    same(text_of(again), text_of(events))


@check("lorax: a stop text ends the answer and stays in it")
def _():
    answer = client.generate(COUNTING, stop_sequences=[" 7"], max_new_tokens=16)
    same([answer.generated_text, answer.details.finish_reason.value], [" 5, 6, 7", "stop_sequence"])


@check("lorax: a stop text over several tokens and inside one")
def _():
    same(client.generate(COUNTING, stop_sequences=["6, 7"], max_new_tokens=16).generated_text, " 5, 6, 7")
    case = CASES[0]
    same(client.generate(case["prompt"], stop_sequences=["ari"], max_new_tokens=8).generated_text, "The capital of France is Paris")


@check("lorax: a stop text ends a stream")
def _():
    events = list(client.generate_stream(COUNTING, stop_sequences=[" 7"], max_new_tokens=16))
    same([text_of(events), events[-1].details.finish_reason.value], [" 5, 6, 7", "stop_sequence"])


@check("lorax: too many stop texts raise ValidationError")
def _():
    raises(
        ValidationError,
        lambda: client.generate("Hi", stop_sequences=["x"] * 17),
        "`stop` supports up to 16 stop sequences. Given: 17",
    )


@check("lorax: the end token ends the answer with eos_token")
def _():
    case = case_of("shout")
    answer = client.generate(case["prompt"], adapter_id="shout", max_new_tokens=40)
    same([answer.generated_text, answer.details.finish_reason.value], [case["text"], "eos_token"])
    assert answer.details.tokens[-1].special


@check("lorax: the last allowed token counts as length, even if it is the end token")
def _():
    case = case_of("shout")
    with_end = client.generate(case["prompt"], adapter_id="shout", max_new_tokens=40).details.generated_tokens
    answer = client.generate(case["prompt"], adapter_id="shout", max_new_tokens=with_end)
    same(answer.details.finish_reason.value, "length")


@check("lorax: ignore_eos_token goes on after the end token")
def _():
    case = case_of("shout")
    answer = client.generate(case["prompt"], adapter_id="shout", max_new_tokens=20, ignore_eos_token=True)
    same([answer.details.generated_tokens, answer.details.finish_reason.value], [20, "length"])


@check("lorax: best_of answers the likelier of two and shows the other")
def _():
    def mean(tokens):
        return sum(token.logprob for token in tokens) / len(tokens)

    details = client.generate(COUNTING, best_of=2, do_sample=True, max_new_tokens=6).details
    (other,) = details.best_of_sequences
    assert mean(details.tokens) >= mean(other.tokens)
    assert details.seed != other.seed


@check("lorax: the full text begins with the prompt, whole and streamed")
def _():
    full = f"{COUNTING} 5, 6"
    same(client.generate(COUNTING, return_full_text=True, max_new_tokens=5).generated_text, full)
    events = list(client.generate_stream(COUNTING, return_full_text=True, max_new_tokens=5))
    same([events[-1].generated_text, text_of(events)], [full, " 5, 6"])


@check("lorax: truncate keeps the last tokens, before lengths are checked")
def _():
    cut = client.generate("word " * 3000 + COUNTING, truncate=11, max_new_tokens=5, decoder_input_details=True)
    whole = client.generate(COUNTING, max_new_tokens=5, decoder_input_details=True)
    same(cut.details.prompt_tokens, 11)
    same([token.id for token in cut.details.prefill][-10:], [token.id for token in whole.details.prefill][-10:])


@check("lorax: a length that is exactly full is accepted, one more is not")
def _():
    room = 2048 - client.generate(COUNTING, max_new_tokens=1).details.prompt_tokens
    same(client.generate(COUNTING, max_new_tokens=room, stop_sequences=["5"]).generated_text, " 5")
    raises(
        ValidationError,
        lambda: client.generate(COUNTING, max_new_tokens=room + 1),
        f"`inputs` tokens + `max_new_tokens` must be <= 2048. Given: {2048 - room} `inputs` tokens and {room + 1} `max_new_tokens`",
    )


@check("lorax: a prompt that is too long raises ValidationError")
def _():
    raises(
        ValidationError,
        lambda: client.generate("word " * 3000),
        "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 300",
    )


@check("lorax: repetition_penalty changes what is likely")
def _():
    plain = client.generate("a b a b a b a b", max_new_tokens=8).generated_text
    assert client.generate("a b a b a b a b", repetition_penalty=1.8, max_new_tokens=8).generated_text != plain


@check("lorax: top_k 1 samples the greedy text")
def _():
    answer = client.generate(COUNTING, top_k=1, temperature=0.7, seed=5, max_new_tokens=6)
    same([answer.generated_text, answer.details.seed], [" 5, 6,", 5])


@check("lorax: top_p and typical_p sample and replay")
def _():
    for more in ({"top_p": 0.9}, {"typical_p": 0.9}):
        first = client.generate("Once", seed=3, max_new_tokens=6, **more)
        same(client.generate("Once", seed=3, max_new_tokens=6, **more).generated_text, first.generated_text)
        same(first.details.seed, 3)


@check("lorax: an answer has the form of the schema that the client sends")
def _():
    schema = {
        "type": "object",
        "properties": {"category": {"enum": ["billing", "technical"]}, "urgent": {"type": "boolean"}},
        "required": ["category", "urgent"],
    }
    response_format = ResponseFormat(type="json_object", schema=schema)
    answer = generate(JSON | {"token_ids": [0] * 60}, response_format=response_format)
    found = json.loads(answer.generated_text)
    same([sorted(found), found["category"] in ("billing", "technical"), type(found["urgent"])], [["category", "urgent"], True, bool])
    same(answer.details.finish_reason.value, "eos_token")


@check("lorax: a schema that cannot be held to raises ValidationError")
def _():
    response_format = ResponseFormat(type="json_object", schema={"type": "object", "not": {}})
    raises(ValidationError, lambda: client.generate("Hi", response_format=response_format), "Input validation error: ")


def merge(ids, weights, strategy="linear", density=1.0, sign="total"):
    return MergedAdapters(ids=ids, weights=weights, merge_strategy=strategy, density=density, majority_sign_method=sign)


def generate_merged(case, merged):
    return client.generate(case["prompt"], merged_adapters=merged, max_new_tokens=len(case["token_ids"])).generated_text


BOTH = ["support-json", "shout"]


@check("lorax: a linear merge of ranks 16 and 8 with a weight of 0 is the other adapter")
def _():
    same(generate_merged(JSON, merge(BOTH, [1.0, 0.0])), JSON["text"])
    same(generate_merged(SHOUT, merge(BOTH, [0.0, 1.0])), SHOUT["text"])


@check("lorax: a merge is streamed")
def _():
    events = client.generate_stream(
        JSON["prompt"], merged_adapters=merge(BOTH, [1.0, 0.0]), max_new_tokens=len(JSON["token_ids"])
    )
    same(text_of(list(events)), JSON["text"])


@check("lorax: ties of an adapter with itself is that adapter, by both sign methods")
def _():
    for sign in ("total", "frequency"):
        same(generate_merged(SHOUT, merge(["shout", "shout"], [1.0, 1.0], "ties", 1.0, sign)), SHOUT["text"])


@check("lorax: dare_linear and dare_ties give the same weights each time")
def _():
    for strategy in ("dare_linear", "dare_ties"):
        merged = merge(BOTH, [0.3, 1.0], strategy, 0.8)
        same(generate_merged(SHOUT, merged), generate_merged(SHOUT, merged))


@check("lorax: a merge with an unknown adapter raises GenerationError")
def _():
    merged = merge(["shout", "nobody/nothing"], [1.0, 1.0])
    raises(GenerationError, lambda: generate_merged(SHOUT, merged), "'nobody/nothing' is not known here")


@check("lorax: ties without a density raises ValidationError")
def _():
    raises(
        ValidationError,
        lambda: generate_merged(SHOUT, merge(["shout"], [1.0], "ties", 0.0)),
        "Input validation error: `density` must be > 0.0 with `merge_strategy` ties",
    )


@check("lorax: an unknown adapter raises GenerationError, whole and streamed")
def _():
    text = "Request failed during generation: Server error: Adapter 'nobody/nothing' is not known here"
    raises(GenerationError, lambda: client.generate("Hi", adapter_id="nobody/nothing"), text)
    raises(GenerationError, lambda: list(client.generate_stream("Hi", adapter_id="nobody/nothing")), text)


@check("lorax: a source that is not offered raises GenerationError")
def _():
    raises(GenerationError, lambda: client.generate("Hi", adapter_id="a/b", adapter_source="pbase"), "is not offered by this server")


@check("lorax: a bad parameter raises ValidationError, whole and streamed")
def _():
    text = "Input validation error: `max_new_tokens` must be strictly positive"
    same(str(raises(ValidationError, lambda: client.generate("Hi", max_new_tokens=0))), text)
    same(str(raises(ValidationError, lambda: list(client.generate_stream("Hi", max_new_tokens=0)))), text)


@check("lorax: watermark is accepted and marks the text")
def _():
    plain = client.generate("Once upon a time", max_new_tokens=12).generated_text
    assert client.generate("Once upon a time", watermark=True, max_new_tokens=12).generated_text != plain


@check("lorax: the asynchronous client, whole and streamed")
def _():
    async def both():
        asynchronous = AsyncClient(URL, timeout=200)
        whole = await asynchronous.generate(SQL["prompt"], adapter_id="text-to-sql", max_new_tokens=len(SQL["token_ids"]))
        events = asynchronous.generate_stream(SQL["prompt"], adapter_id="text-to-sql", max_new_tokens=len(SQL["token_ids"]))
        return [whole.generated_text, text_of([event async for event in events])]

    same(asyncio.run(both()), [SQL["text"], SQL["text"]])


@check("lorax: the asynchronous client raises what the other does")
def _():
    asynchronous = AsyncClient(URL, timeout=200)
    raises(GenerationError, lambda: asyncio.run(asynchronous.generate("Hi", adapter_id="nobody/nothing")), "is not known here")


@check("lorax: embed gives the model's numbers")
def _():
    same(len(client.embed("How many users are there?").embeddings), 576)


@check("lorax: classify raises GenerationError that says why")
def _():
    raises(GenerationError, lambda: client.classify("Hi"), "Model does not support classification")
    raises(GenerationError, lambda: client.classify_batch(["Hi"]), "Model does not support classification")


main()
