"""Writes peft-matching.json: which modules PEFT targets for a config, with their ranks and alphas.

Run with a Python that has peft 0.21: `python scripts/make-peft-matching.py > test/fixtures/peft-matching.json`.
"""
import json

import peft
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

PARENTS = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn",
           "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}
PATHS = [f"model.layers.{n}.{parent}.{name}" for n in range(12) for name, parent in PARENTS.items()]

CONFIGS = [
    {"target_modules": ["q_proj", "v_proj"]},
    {"target_modules": ["self_attn.q_proj", "mlp.up_proj"]},
    {"target_modules": ["model.layers.3.self_attn.q_proj", "layers.1.mlp.down_proj"]},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 2},
    {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 3, 11], "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["h", "layers"]},
    {"target_modules": ["q_proj"], "layers_to_transform": []},
    {"target_modules": ["q_proj", "o_proj"], "exclude_modules": ["layers.1.self_attn.q_proj", "o_proj"]},
    {"target_modules": ["q_proj", "o_proj"], "exclude_modules": r".*\.[0-3]\..*"},
    {"target_modules": r".*\.(q|v)_proj"},
    {"target_modules": r".*\.(q|v)_proj$"},
    {"target_modules": r"(q|v)_proj"},
    {"target_modules": r"model\.layers\.\d+\.self_attn\.[qk]_proj"},
    {"target_modules": r"^(?!.*layers\.1\.).*(?:q_proj|down_proj)$"},
    {"target_modules": r"(?:.*?(?:self_attn|mlp).*?(?:k_proj|up_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.mlp\.(?:gate_proj))"},
    {"target_modules": r"model.layers.(?:1|2|1\d).mlp.(?P<name>gate|up)_proj"},
    {"target_modules": r".*layers\.[^0-7]{1,2}\.\w+\.o_pro\w?j?"},
    {"target_modules": r"(a*)*(m|mo|mod).*(?=proj)proj"},
    {"target_modules": r".*\d{2}.*"},
    {"target_modules": r".*[.]5[.].*|.*\.7\..*"},
    {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 4, "layers.1.self_attn.q_proj": 6}},
    {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 6, "q_proj": 4}, "alpha_pattern": {"v_proj": 32}},
    {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"^model.layers.3.self_attn.q_proj": 6, "proj": 3, "_proj": 2}},
    {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {r"layers\.(1|2)\..*\.q_proj": 5, "self.attn.v_proj": 7}},
    {"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"model.layers.1": 1, r"layers\.\d\.self_attn\..*": 9, r".*v_proj": 11}},
]


def describe(fields):
    config = LoraConfig(r=8, lora_alpha=16, **fields)
    targeted = {}
    for path in PATHS:
        if not check_target_module_exists(config, path):
            continue
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), path), config.r)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), path), config.lora_alpha)
        targeted[path] = [rank, alpha]
    return {"config": fields, "targeted": targeted}


cases = ",\n".join(json.dumps(describe(fields)) for fields in CONFIGS)
print('{"peft": "%s", "cases": [\n%s\n]}' % (peft.__version__, cases))
