#!/usr/bin/env bash
# Compiles CUDA sources with a C++ compiler for the execution shim.
#
#   kernels/emulator/compile.sh BUILD KIND OUTPUT SOURCE...
#
# BUILD  plain    the program as it is
#        address  AddressSanitizer with alignment and array bounds: overruns, misaligned vector loads
#        race     ThreadSanitizer: races between the threads of a block
#        ucontext plain, with the portable switch between fibers instead of the one in assembler
# KIND   program, library, or core: the shim's own part of them, once for all, which EMULATOR_CORE=FILE then saves compiling
#
# `compile.sh version` says which compiler it is: $CXX, or g++.
set -euo pipefail

if [ "${1:-}" = version ]; then exec "${CXX:-g++}" --version; fi
build=$1 kind=$2 output=$3
shift 3
kernels=$(cd "$(dirname "$0")/.." && pwd)
compiler=${CXX:-g++}

# Without -fno-strict-aliasing, reading halves as uint4 (which nvcc allows) gives rubbish at -O2.
# With -fstack-clash-protection a frame larger than a page cannot step over the page that guards a stack.
common=(-std=c++17 -O2 -g -fPIC -fno-strict-aliasing -fstack-clash-protection -Wall -Wextra -Wno-unknown-pragmas "-I$kernels")
# 16-bit floats are converted by an instruction.
if [ "$(uname -m)" = x86_64 ]; then common+=(-mf16c); fi
case $build in
  plain) core=() checks=() ;;
  ucontext) core=(-DEMULATOR_UCONTEXT) checks=() ;;
  address) core=(-DEMULATOR_ASAN) checks=(-fsanitize=address,alignment,bounds -fno-sanitize-recover=all) ;;
  race) core=(-DEMULATOR_TSAN) checks=(-fsanitize=thread) ;;
  *) echo "compile.sh: no build $build; there are plain, address, race and ucontext" >&2 && exit 2 ;;
esac
case $kind in
  program) shape=() ;;
  library) shape=(-shared -Wl,-z,defs) ;;
  core) shape=(-r -nostdlib) checks=() ;;
  *) echo "compile.sh: no kind $kind; there are program, library and core" >&2 && exit 2 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The core keeps what the sanitizers must not see. A loop of its own that became a call of memset would be seen.
objects=()
if [ -n "${EMULATOR_CORE:-}" ]; then
  objects=("$EMULATOR_CORE")
else
  for source in "$kernels"/emulator/*.cc; do
    object=$work/$(basename "$source" .cc).o
    "$compiler" "${common[@]}" -fno-tree-loop-distribute-patterns "${core[@]}" -c "$source" -o "$object"
    objects+=("$object")
  done
fi
for source in "$@"; do
  object=$work/kernel-$(basename "$source").o
  # A file of one instruction set, which is asked for before it is used.
  set=()
  if [[ $(uname -m) = x86_64 && $source = *avx2.cc ]]; then set=(-mavx2 -mfma); fi
  if [[ $(uname -m) = x86_64 && $source = */avx512.cc ]]; then set=(-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma); fi
  "$compiler" "${common[@]}" "${set[@]}" "${checks[@]}" -x c++ -c "$source" -o "$object"
  objects+=("$object")
done
"$compiler" "${checks[@]}" "${shape[@]}" "${objects[@]}" -o "$output"
