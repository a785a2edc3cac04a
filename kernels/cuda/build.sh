#!/usr/bin/env bash
# npm run build:cuda: compiles the CUDA sources into kernels/build/cuda/libquiver_lora_cuda.so.
#
# Machine code for sm_80, sm_89 and sm_90, PTX for what comes after; the CUDA runtime is inside, so that the library loads where
# there is no CUDA and no driver, and says so (quiver_cuda_describe). What the assembler tells of registers and spills is
# in ptxas.log beside it. Uses the toolkit in CUDA_HOME or the nvcc on PATH (13 or later); where there is none, one is
# installed by pip into .cuda (or QUIVER_CUDA_FOLDER), some 270 MB. Nothing is compiled again while sources and compiler are the same.
#
# `build.sh nvcc` only says which compiler it would take, and installs it if need be.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
target=$root/kernels/build/cuda
library=$target/libquiver_lora_cuda.so

fail() {
  echo "build:cuda: $1" >&2
  exit 1
}

# nvcc finds its toolkit by the path it is called by, so a link to it will not do.
usable_nvcc() {
  local nvcc
  nvcc=$(readlink -f "$1" 2>/dev/null) && [ -x "$nvcc" ] || return 1
  local major
  major=$("$nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\..*/\1/p') || return 1
  [ -n "$major" ] && [ "$major" -ge 13 ] && echo "$nvcc"
}

installed_nvcc() {
  local folder=${QUIVER_CUDA_FOLDER:-$root/.cuda}
  local requirements=$root/kernels/cuda/requirements.txt
  local mark
  mark=$folder/ready-$(sha256sum "$requirements" | cut -c1-16)
  mkdir -p "$folder"
  # Two builds at once: the second waits, and finds what the first installed.
  if command -v flock >/dev/null; then
    exec 9>"$folder/lock"
    flock 9
  fi
  if [ ! -e "$mark" ]; then
    local none="there is no CUDA toolkit 13 here (CUDA_HOME, nvcc on PATH)"
    [ "$(uname -s)" = Linux ] || fail "$none, and its compiler can be installed by pip on Linux only"
    command -v python3 >/dev/null || fail "$none, and no python3 to install its compiler with"
    rm -rf "$folder/venv"
    local log=$folder/install.log
    python3 -m venv "$folder/venv" >"$log" 2>&1 || fail "$none, and python3 cannot make an environment to install its compiler into ($log)"
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" >"$log" 2>&1 ||
      fail "$none, and pip cannot install its compiler: $(grep -m1 -i error "$log" || tail -n1 "$log")"
    local cuda
    cuda=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/nvidia/cu13
    # The packages lack two names that nvcc's own profile and linkers look for.
    ln -sfn lib "$cuda/lib64"
    ln -sfn libcudart.so.13 "$cuda/lib/libcudart.so"
    touch "$mark"
  fi
  if command -v flock >/dev/null; then exec 9>&-; fi
  "$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"] + "/nvidia/cu13/bin/nvcc")'
}

command -v g++ >/dev/null || command -v clang++ >/dev/null || fail "nvcc needs a C++ compiler beside it, and neither g++ nor clang++ is installed"
nvcc=$(usable_nvcc "${CUDA_HOME:-/nonexistent}/bin/nvcc" || usable_nvcc "$(command -v nvcc || true)" || true)
if [ -z "$nvcc" ]; then nvcc=$(installed_nvcc); fi
if [ "${1:-}" = nvcc ]; then
  echo "$nvcc"
  exit 0
fi

flags=(
  -std=c++17 -O3 "-I$root/kernels" -shared -cudart static
  -gencode arch=compute_80,code=sm_80
  -gencode arch=compute_89,code=sm_89
  -gencode arch=compute_90,code=sm_90
  -gencode arch=compute_90,code=compute_90
  -Xptxas -v -Xcompiler -fPIC,-fvisibility=hidden,-Wall -Xlinker -z,defs
)
sources=("$root"/kernels/cuda/*.cu "$root"/kernels/cuda/*.cc "$root"/kernels/operator/{library,lora_op,tensor_view}.cc)
digest=$(
  {
    "$nvcc" --version
    echo "${flags[@]}" | sed "s|$root||g"
    cd "$root" && sha256sum kernels/gpu.cuh kernels/cuda/*.{cu,cc,cuh,h} kernels/operator/*.{cc,h}
  } | sha256sum | cut -c1-16
)
if [ -e "$library" ] && [ "$(cat "$target/digest" 2>/dev/null)" = "$digest" ]; then
  echo "$library"
  exit 0
fi

mkdir -p "$target"
work=$(mktemp -d "$target/new-XXXXXX")
trap 'rm -rf "$work"' EXIT
if ! "$nvcc" "${flags[@]}" -o "$work/library" "${sources[@]}" >"$work/ptxas.log" 2>&1; then
  grep -v '^ptxas info' "$work/ptxas.log" >&2
  fail "nvcc cannot compile the CUDA sources"
fi
rm -f "$target/digest"
mv "$work/ptxas.log" "$target/ptxas.log"
mv "$work/library" "$library"
echo "$digest" >"$target/digest"
echo "$library"
