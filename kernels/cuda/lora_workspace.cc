#include "lora_workspace.h"

#include <list>
#include <mutex>

namespace quiver {
namespace {

// A list, so that a workspace stays where it is while others come and go.
struct Workspaces {
  std::mutex lock;
  std::list<LoraWorkspace> all;
};

Workspaces &workspaces() {
  static Workspaces *one = new Workspaces;  // never destroyed: a device may be closed by the process's last breath
  return *one;
}

}  // namespace

LoraWorkspace *FindWorkspace(const void *stream) {
  Workspaces &known = workspaces();
  const std::lock_guard<std::mutex> guard(known.lock);
  for (LoraWorkspace &workspace : known.all) {
    if (workspace.stream == stream) return &workspace;
  }
  return stream == nullptr && known.all.size() == 1 ? &known.all.front() : nullptr;
}

void AddWorkspace(const LoraWorkspace &workspace) {
  Workspaces &known = workspaces();
  const std::lock_guard<std::mutex> guard(known.lock);
  known.all.push_back(workspace);
}

void RemoveWorkspace(const void *stream, void **plan, void **scratch) {
  *plan = *scratch = nullptr;
  Workspaces &known = workspaces();
  const std::lock_guard<std::mutex> guard(known.lock);
  for (auto at = known.all.begin(); at != known.all.end(); ++at) {
    if (at->stream != stream) continue;
    *plan = at->plan;
    *scratch = at->scratch;
    known.all.erase(at);
    return;
  }
}

}  // namespace quiver
