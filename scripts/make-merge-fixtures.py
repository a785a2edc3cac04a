"""Writes merged-adapters.json: small random adapters, and what PEFT's `add_weighted_adapter` makes of them.

Run with a Python that has peft 0.21: `python scripts/make-merge-fixtures.py > test/fixtures/merged-adapters.json`.
DARE draws its masks from torch; they are recorded, so that another implementation can be given the same ones.
"""
import json

import numpy
import peft
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.model import LoraModel
from torch import nn

LAYERS, HIDDEN, INNER = 2, 8, 12
SHAPES = {"q_proj": (HIDDEN, HIDDEN), "v_proj": (HIDDEN, 4), "down_proj": (INNER, HIDDEN)}
PARENTS = {"q_proj": "self_attn", "v_proj": "self_attn", "down_proj": "mlp"}

# `pad`: the same adapter with its pairs padded with zeros to this rank, for PEFT, which wants equal ranks.
MEMBERS = {
    "first": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "second": {"r": 4, "lora_alpha": 2, "target_modules": ["q_proj", "down_proj"]},
    "third": {"r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    "wide": {"r": 6, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]},
    "patterned": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"v_proj": 3}},
}

CASES = [
    ("linear", ["first", "second"], [0.7, 0.3], {}),
    ("linear", ["first", "third", "patterned"], [1.5, -0.5, 0.25], {}),
    ("linear", ["first"], [0.4], {}),
    ("ties", ["first"], [0.4], {"density": 0.3}),
    ("linear", ["first", "first"], [0.5, 0.5], {}),
    ("linear", ["first", "wide"], [0.6, 0.8], {}),
    ("ties", ["first", "wide"], [0.6, 0.8], {"density": 1.0}),
    ("dare_linear", ["wide", "second"], [0.6, -0.8], {"density": 0.6}),
    *[("ties", names, weights, {"density": density, "majority_sign_method": sign})
      for sign in ("total", "frequency")
      for names, weights, density in [
          (["first", "third"], [1.0, 0.5], 0.5),
          (["first", "second", "third"], [1.0, -0.7, 0.2], 0.3),
          (["patterned", "third", "second"], [0.3, 0.3, 0.3], 0.85),
      ]],
    ("dare_linear", ["first", "third"], [0.7, 0.3], {"density": 0.5}),
    ("dare_linear", ["first", "second", "third"], [1.0, -0.7, 0.2], {"density": 0.8}),
    ("dare_ties", ["first", "third"], [0.7, 0.3], {"density": 0.5, "majority_sign_method": "total"}),
    ("dare_ties", ["first", "second", "third"], [1.0, -0.7, 0.2], {"density": 0.6, "majority_sign_method": "frequency"}),
    ("dare_ties", ["first", "third"], [0.7, 0.3], {"density": 1.0, "majority_sign_method": "total"}),
]


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        for parent in ("self_attn", "mlp"):
            setattr(self, parent, nn.Module())
        for name, (inputs, outputs) in SHAPES.items():
            setattr(getattr(self, PARENTS[name]), name, nn.Linear(inputs, outputs, bias=False))


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, x):
        return x


def random_tensors(fields):
    tensors = {}
    for layer in range(LAYERS):
        for name in fields["target_modules"]:
            inputs, outputs = SHAPES[name]
            path = f"model.layers.{layer}.{PARENTS[name]}.{name}"
            tensors[path] = (torch.randn(fields["r"], inputs) * 0.3, torch.randn(outputs, fields["r"]) * 0.3)
    return tensors


def padded_config(fields, rank):
    """The same scale at another rank."""
    assert not fields.get("use_rslora") and not fields.get("alpha_pattern")
    return {**fields, "r": rank, "lora_alpha": fields["lora_alpha"] * rank / fields["r"]}


def numbers(tensor):
    # Nine digits say every float32 exactly.
    return [float(numpy.format_float_scientific(x, precision=8, unique=True)) for x in tensor.flatten().numpy()]


def merge(strategy, names, weights, options, members):
    ranks = {MEMBERS[name]["r"] for name in names}
    rank = max(ranks)
    model, distinct = None, list(dict.fromkeys(names))
    for name in distinct:
        fields = MEMBERS[name] if len(ranks) == 1 else padded_config(MEMBERS[name], rank)
        config = LoraConfig(**fields)
        if model is None:
            model = get_peft_model(Base(), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    for path, module in model.named_modules():
        for name in distinct:
            if isinstance(module, peft.tuners.lora.LoraLayer) and name in module.lora_A:
                a, b = members[name][path.removeprefix("base_model.model.")]
                module.lora_A[name].weight.data.zero_()[: a.shape[0]] = a
                module.lora_B[name].weight.data.zero_()[:, : b.shape[1]] = b
    masks, paths, here = {}, {id(module): path for path, module in model.named_modules()}, []
    original, bernoulli = LoraModel._generalized_task_arithmetic_weighted_adapter, torch.bernoulli

    def recording(self, combination_type, adapters, weights, target, *rest):
        here[:] = [paths[id(target)].removeprefix("base_model.model.")]
        return original(self, combination_type, adapters, weights, target, *rest)

    def recorded_bernoulli(*arguments):
        mask = bernoulli(*arguments)
        masks.setdefault(here[0], []).append("".join("1" if kept else "0" for kept in mask.flatten().tolist()))
        return mask

    LoraModel._generalized_task_arithmetic_weighted_adapter, torch.bernoulli = recording, recorded_bernoulli
    try:
        model.add_weighted_adapter(names, weights, "merged", combination_type=strategy, **options)
    finally:
        LoraModel._generalized_task_arithmetic_weighted_adapter, torch.bernoulli = original, bernoulli
    expected = {}
    for path, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer) and "merged" in module.lora_A:
            expected[path.removeprefix("base_model.model.")] = {
                "a": numbers(module.lora_A["merged"].weight.data),
                "b": numbers(module.lora_B["merged"].weight.data),
            }
    return {
        "strategy": strategy, "names": names, "weights": weights, "density": options.get("density", 1.0),
        "sign": options.get("majority_sign_method", "total"), "rank": rank, "expected": expected, "masks": masks,
    }


torch.manual_seed(20)
tensors = {name: random_tensors(fields) for name, fields in MEMBERS.items()}
described = {
    name: {
        "config": {"peft_type": "LORA", **fields},
        "tensors": {path: {"a": numbers(a), "b": numbers(b)} for path, (a, b) in tensors[name].items()},
    }
    for name, fields in MEMBERS.items()
}
cases = ",\n".join(json.dumps(merge(*case, tensors)) for case in CASES)
print('{"peft": "%s",\n"members": %s,\n"cases": [\n%s\n]}' % (peft.__version__, json.dumps(described), cases))
