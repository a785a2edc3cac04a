"""A text of about 100 kB that meets most of what tokenizers stumble over. The same bytes at every call.

Random characters are drawn only from those of Unicode 3.2: newer ones belong to different classes in different versions of
Unicode, and the implementations that are compared carry different versions.
"""

import random
import unicodedata

CODE = [
    "def gather(rows, by=lambda row: row[0]):\n\tgroups = {}\n\tfor row in rows:\n\t\tgroups.setdefault(by(row), []).append(row)\n\treturn groups\n",
    "export function rank<T>(xs: readonly T[], of: (x: T) => number): T[] {\n  return [...xs].sort((a, b) => of(b) - of(a)) // best first\n}\n",
    "SELECT t.name, COUNT(*) AS n\nFROM   tenants t\n  LEFT JOIN adapters a ON a.tenant_id = t.id AND a.rank <= 64\nWHERE  t.created_at >= '2024-01-31'\nGROUP BY 1 HAVING COUNT(*) > 3;\r\n",
    "#include <stdint.h>\nstatic inline uint32_t mix(uint32_t h){h^=h>>16;h*=0x7feb352dU;h^=h>>15;return h;}\n",
    '{"id":"a-01","ok":true,"score":-1.25e-3,"tags":["x","y\\n"],"nested":{"empty":{},"list":[]}}\n',
    "for i in $(seq 1 9); do printf '%03d\\t%s\\n' \"$i\" \"${names[$i]:-none}\"; done | sort -rn >> out.txt\n",
    "<p class=\"lead\">It&#39;s 5&nbsp;&lt;&nbsp;7 &amp; more&hellip;</p>\n<!-- nothing -->\n",
    "x = (a + b)**2 // 3 % 7 != ~c & d | e ^ f << 2 >> 1; y := !z && w || v ?? u?.t\n",
]
PROSE = [
    "The harbour was quiet, and it's said that they'd've waited longer; WE'LL SEE, I'M SURE, THEY'RE LATE, he'S, she'D, you'Ve.",
    "Quotes \u201clike these\u201d, \u2018these\u2019 and 'those' \u2013 dashes \u2014 ellipsis\u2026 don\u2019t don't DON'T don'\u017f o'\u017f.",
    "Am Fluss stand ein Gasthaus; \u00c4pfel, \u00d6l, \u00dcbermut, Stra\u00dfe, STRASSE. La cl\u00e9 est rest\u00e9e l\u00e0, \u0153uvre, na\u00efve, \u00e7a alors\u00a0!",
    "\u041a\u043e\u0440\u0430\u0431\u043b\u044c \u0441\u0442\u043e\u044f\u043b \u0443 \u043f\u0440\u0438\u0447\u0430\u043b\u0430, \u0438 \u0432\u0435\u0442\u0435\u0440 \u0441\u0442\u0438\u0445. \u0388\u03bd\u03b1\u03c2 \u03ac\u03bd\u03b5\u03bc\u03bf\u03c2, \u03c3\u03af\u03b3\u03bf\u03c5\u03c1\u03b1.",
    "\u6e2f\u53e3\u5f88\u5b89\u9759\uff0c\u8239\u8fd8\u6ca1\u6709\u6765\u3002\u300c\u660e\u5929\u89c1\u300d\uff0c\u4ed6\u8bf4\u3002\u6e2f\u306f\u9759\u304b\u3067\u3001\u8239\u306f\u307e\u3060\u6765\u306a\u3044\u3002\u30ab\u30bf\u30ab\u30ca\u3068\uff76\uff85\u3002\ud56d\uad6c\ub294 \uc870\uc6a9\ud588\ub2e4.",
    "\u0643\u0627\u0646 \u0627\u0644\u0645\u064a\u0646\u0627\u0621 \u0647\u0627\u062f\u0626\u064b\u0627 \u0641\u064a \u0665 \u0645\u0646 \u0627\u0644\u0634\u0647\u0631\u060c \u0663\u0664\u066b\u0665\u066a. \u05d4\u05e0\u05de\u05dc \u05d4\u05d9\u05d4 \u05e9\u05e7\u05d8, \u200f\u05d5\u05d4\u05e8\u05d5\u05d7\u200e \u05e0\u05d7\u05d4.",
    "\u092c\u0902\u0926\u0930\u0917\u093e\u0939 \u0936\u093e\u0902\u0924 \u0925\u093e\u0964 \u0e17\u0e48\u0e32\u0e40\u0e23\u0e37\u0e2d\u0e40\u0e07\u0e35\u0e22\u0e1a\u0e2a\u0e07\u0e1a \u0ba4\u0bc1\u0bb1\u0bc8\u0bae\u0bc1\u0b95\u0bae\u0bcd. \u1112\u1161\u11ab\u1100\u1173\u11af",
]
NUMBERS = "0 7 42 1234567890 3.14159 1,000,000 0x1F 1e-9 12:34:56 2024-02-29 +1 (555) 010-9999 \u00b2\u00b3\u00bd\u2167\u2460\u0663\u0664\u096b\uff11\uff12\u4e00\u4e8c 10\u2075 v1.2.3-rc.4"
EMOJI = [
    "\U0001f600\U0001f602\U0001f389", "\U0001f44d\U0001f3fd \U0001f44b\U0001f3ff", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f1e9\U0001f1ea\U0001f1ef\U0001f1f5", "\u2764\ufe0f\u200d\U0001f525", "1\ufe0f\u20e3#\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "\u231a\u2b50\u2611\ufe0e",
]
MARKS = ["e\u0301a\u0300o\u0308n\u0303", "Z\u0335\u0321\u0352a\u034f\u0307\u0323l\u0489g\u0340o\u0315\u0358", "\u1e69 s\u0323\u0307 s\u0307\u0323", "\u212b \u00c5 A\u030a", "\ufb01 \uff21 \u00bc", "\u0301 alone", "\uac00 \u1100\u1161"]
SPACES = [" ", "  ", "   ", " " * 7, " " * 33, "\t", "\t\t", "\n", "\n\n", "\n\n\n\n", "\r\n", "\r\n\r\n", "\r", " \n", "\n ", " \t ", "\u00a0", "\u00a0\u00a0 ", "\u3000", "\u2003\u2009", "\u2028", "\u2029", "\u0085", "\u200b", "\ufeff", "\u180e", "\x0b\x0c", " \u00a0\n\u3000\t x"]
CONTROLS = ["\x00", "\x01\x02\x03", "\x07\x08", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x9f", "\x1c\x1d\x1e\x1f", "\ufffd\ufffe\uffff", "\U0001d400\U0001d7d8", "\ue000\U000f0000"]
SPECIALS = ["<|im_start|>user\nHi<|im_end|>\n", "<|im_start|", "|im_end|>", "<|endoftext|>", "<s>", "</s>", "<<s>>", "[INST] x [/INST]", "<|begin_of_text|>", "<0x41>", "<unk>", "\u2581", "\u0120", " <mask> ", "tag tags atag tag.", "<mid>"]


def mixed_text(size=100_000, seed=20_241_122):
    draw = random.Random(seed)
    stable = [c for c in map(chr, range(0x110000)) if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs", "Co")]
    parts = []
    length = 0
    while length < size:
        kind = draw.randrange(12)
        if kind < 2:
            part = draw.choice(CODE)
        elif kind < 5:
            part = draw.choice(PROSE)
        elif kind == 5:
            part = NUMBERS[draw.randrange(30):][: draw.randrange(1, 90)]
        elif kind == 6:
            part = "".join(draw.choice(EMOJI) for _ in range(draw.randrange(1, 5)))
        elif kind == 7:
            part = "".join(draw.choice(MARKS) + draw.choice(["", " "]) for _ in range(3))
        elif kind == 8:
            part = "".join(draw.choice(SPACES) for _ in range(draw.randrange(1, 6)))
        elif kind == 9:
            part = draw.choice(CONTROLS)
        elif kind == 10:
            part = draw.choice(SPECIALS)
        else:
            part = "".join(draw.choice(stable) for _ in range(draw.randrange(1, 25)))
        part += draw.choice(["", "", " ", "\n", draw.choice(SPACES)])
        parts.append(part)
        length += len(part.encode())
    return "".join(parts)
