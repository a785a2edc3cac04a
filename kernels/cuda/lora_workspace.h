// The memory that calls of the LoRA operator share on one stream: the plan of a run, made by its first call, and scratch, which is
// free again when the next call's kernels begin. Calls on a stream run one after another, so one of each is enough.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace quiver {

struct LoraWorkspace {
  const void *stream = nullptr;
  void *plan = nullptr;
  size_t plan_bytes = 0;
  void *scratch = nullptr;
  size_t scratch_bytes = 0;
  // What the plan was made for.
  const void *planned_slot = nullptr;
  int64_t planned_rows = -1, planned_slots = -1;
};

/**
 * The workspace of a stream; of the only stream there is where `stream` is null, which is what a runtime without streams gives.
 * Streams come and go with devices while others compute, so that the list is locked; what is in a workspace is its stream's.
 */
LoraWorkspace *FindWorkspace(const void *stream);
void AddWorkspace(const LoraWorkspace &workspace);
/** Forgets a stream's workspace and answers its memory through the arguments, null where there was none. */
void RemoveWorkspace(const void *stream, void **plan, void **scratch);

}  // namespace quiver
