"""Drives a running server with the real lorax-client. Prints one JSON object: check name -> what came back."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from lorax import Client
from lorax.errors import GenerationError, ValidationError
from lorax.types import MergedAdapters, ResponseFormat

url, cases = sys.argv[1], json.loads(sys.argv[2])
client = Client(url, timeout=120)
results = {}


def check(name):
    def run(function):
        try:
            results[name] = function()
        except Exception as error:  # The test compares the kind and the text.
            results[name] = {"raised": type(error).__name__, "text": str(error)}

    return run


def generate(case, **more):
    return client.generate(case["prompt"], adapter_id=case["adapter"], max_new_tokens=len(case["token_ids"]), **more)


@check("plain")
def _():
    return generate(cases[0]).generated_text


@check("base")
def _():
    return client.generate(cases[0]["prompt"], max_new_tokens=3).generated_text


@check("details")
def _():
    details = generate(cases[0], decoder_input_details=True, return_k_alternatives=2).details
    return {
        "finish_reason": details.finish_reason.value,
        "prompt_ids": [token.id for token in details.prefill],
        "token_ids": [token.id for token in details.tokens],
        "seed": details.seed,
        "generated_tokens": details.generated_tokens,
        "alternatives": [len(token.alternative_tokens) for token in details.tokens],
        "special": [token.special for token in details.tokens],
    }


@check("stream")
def _():
    events = list(
        client.generate_stream(
            cases[0]["prompt"], adapter_id=cases[0]["adapter"], max_new_tokens=len(cases[0]["token_ids"])
        )
    )
    return {
        "token_ids": [event.token.id for event in events],
        "text": "".join(event.token.text for event in events if not event.token.special),
        "generated_text": [event.generated_text for event in events],
        "finish_reason": events[-1].details.finish_reason.value,
    }


@check("seed")
def _():
    seed = 2**64 - 1
    first = client.generate(cases[0]["prompt"], do_sample=True, seed=seed, max_new_tokens=12)
    second = client.generate(cases[0]["prompt"], do_sample=True, seed=first.details.seed, max_new_tokens=12)
    drawn = client.generate(cases[0]["prompt"], temperature=0.9, max_new_tokens=12)
    replayed = client.generate(cases[0]["prompt"], temperature=0.9, seed=drawn.details.seed, max_new_tokens=12)
    return {
        "reported": str(first.details.seed),
        "replays": first.generated_text == second.generated_text,
        "drawn_replays": drawn.generated_text == replayed.generated_text,
        "drawn_is_small": drawn.details.seed < 2**53,
    }


@check("stop")
def _():
    response = client.generate("1, 2, 3, 4,", stop_sequences=[" 7"], max_new_tokens=32)
    return {"text": response.generated_text, "finish_reason": response.details.finish_reason.value}


@check("schema")
def _():
    schema = {
        "type": "object",
        "properties": {"category": {"enum": ["billing", "technical"]}, "urgent": {"type": "boolean"}},
        "required": ["category", "urgent"],
    }
    case = next(case for case in cases if case["adapter"] == "support-json")
    response = client.generate(
        case["prompt"],
        adapter_id="support-json",
        response_format=ResponseFormat(type="json_object", schema=schema),
        max_new_tokens=60,
    )
    return {"answer": json.loads(response.generated_text), "finish_reason": response.details.finish_reason.value}


@check("full_text")
def _():
    return client.generate("1, 2, 3, 4,", return_full_text=True, max_new_tokens=3).generated_text


@check("four_at_once")
def _():
    with ThreadPoolExecutor(len(cases)) as pool:
        return [response.generated_text for response in pool.map(generate, cases)]


def raised(expected, function):
    try:
        function()
    except expected as error:
        return {"raised": type(error).__name__, "text": str(error)}
    return "nothing was raised"


def merge(ids, weights, strategy="linear", density=1.0, sign="total"):
    return MergedAdapters(
        ids=ids, weights=weights, merge_strategy=strategy, density=density, majority_sign_method=sign
    )


def generate_merged(case, merged, **more):
    return client.generate(case["prompt"], merged_adapters=merged, max_new_tokens=len(case["token_ids"]), **more)


@check("merged")
def _():
    by_name = {case["adapter"]: case for case in cases}
    json_case, shout_case = by_name["support-json"], by_name["shout"]
    both = ["support-json", "shout"]
    drawn = [
        generate_merged(shout_case, merge(both, [0.3, 1.0], strategy, 0.8, sign)).generated_text
        for _ in range(2)
        for strategy, sign in [("dare_linear", "total"), ("dare_ties", "frequency"), ("ties", "frequency")]
    ]
    stream = client.generate_stream(
        json_case["prompt"], merged_adapters=merge(both, [1.0, 0.0]), max_new_tokens=len(json_case["token_ids"])
    )
    return {
        # Rank 16 and rank 8: a weight of 0 leaves the other adapter, padded, as it is.
        "first_alone": generate_merged(json_case, merge(both, [1.0, 0.0])).generated_text,
        "second_alone": generate_merged(shout_case, merge(both, [0.0, 1.0])).generated_text,
        "stream": "".join(event.token.text for event in stream if not event.token.special),
        # Equal adapters agree on every sign, and the mean of equal values is the value.
        "ties_with_itself": generate_merged(shout_case, merge(["shout", "shout"], [1.0, 1.0], "ties")).generated_text,
        "replays": drawn[:3] == drawn[3:],
    }


@check("merged_unknown")
def _():
    return raised(
        GenerationError, lambda: generate_merged(cases[0], merge(["shout", "nobody/nothing"], [1.0, 1.0]))
    )


@check("merged_without_density")
def _():
    return raised(ValidationError, lambda: generate_merged(cases[0], merge(["shout"], [1.0], "ties", 0.0)))


@check("unknown_adapter")
def _():
    return raised(GenerationError, lambda: client.generate("Hi", adapter_id="nobody/nothing"))


@check("unknown_adapter_stream")
def _():
    return raised(GenerationError, lambda: list(client.generate_stream("Hi", adapter_id="nobody/nothing")))


@check("bad_parameter")
def _():
    return raised(ValidationError, lambda: client.generate("Hi", max_new_tokens=0))


@check("bad_parameter_stream")
def _():
    return raised(ValidationError, lambda: list(client.generate_stream("Hi", max_new_tokens=0)))


@check("too_long")
def _():
    return raised(ValidationError, lambda: client.generate("Hi", max_new_tokens=100000))


json.dump(results, sys.stdout)
