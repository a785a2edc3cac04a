#include "library.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace quiver {
namespace {

// "1.30.0" → 30; −1 when it is no 1.x.
int MinorVersion(const char *version) {
  if (std::strncmp(version, "1.", 2) != 0) return -1;
  char *end = nullptr;
  const long minor = std::strtol(version + 2, &end, 10);
  return end == version + 2 ? -1 : static_cast<int>(minor);
}

// The table of functions and the domain below are the runtime's, and are kept for as long as this library is mapped. So the
// runtime must not be unmapped by whoever loaded it, to come back at another address.
void KeepRuntime(const ort::ApiBase &base) {
  Dl_info runtime;
  if (dladdr(reinterpret_cast<const void *>(base.GetApi), &runtime) == 0) return;
  dlopen(runtime.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

// One domain for the life of the library: sessions refer to it, and the runtime has no hook that says when the last has gone.
ort::Status *TheDomain(const ort::Api &api, const ort::CustomOp *const *operators, size_t count, ort::CustomOpDomain **out) {
  static ort::CustomOpDomain *domain = nullptr;
  static ort::Status *failure = [&] {
    ort::Status *status = api.CreateCustomOpDomain("quiver", &domain);
    for (size_t i = 0; i < count && status == nullptr; i += 1) status = api.CustomOpDomainAdd(domain, operators[i]);
    return status;
  }();
  *out = domain;
  if (failure == nullptr) return nullptr;
  return api.CreateStatus(ort::kFail, "the domain of Quiver's operators could not be made");
}

}  // namespace

ort::Status *RegisterOperators(ort::SessionOptions *options, const ort::ApiBase *base, const ort::CustomOp *const *operators,
                               size_t count) {
  const char *version = base->GetVersionString();
  const int minor = MinorVersion(version);
  const ort::Api api(base->GetApi(ort::kApiVersion));
  if (minor < ort::kMinMinor || minor > ort::kMaxMinor) {
    // Entry 0 makes statuses in every version there ever was.
    const void *oldest = base->GetApi(1);
    char message[160];
    std::snprintf(message, sizeof message, "Quiver's operators were built for ONNX Runtime 1.%d to 1.%d, this is %s", ort::kMinMinor,
                  ort::kMaxMinor, version);
    return ort::Api(oldest).CreateStatus(ort::kFail, message);
  }
  // The domain is the first runtime's own: another one in the same process must not be given it.
  static const ort::ApiBase *const owner = base;
  if (owner != base) {
    return api.CreateStatus(ort::kFail, "Quiver's operators are in use by another ONNX Runtime of this process");
  }
  KeepRuntime(*base);
  ort::CustomOpDomain *domain = nullptr;
  if (ort::Status *status = TheDomain(api, operators, count, &domain)) return status;
  return api.AddCustomOpDomain(options, domain);
}

}  // namespace quiver

QUIVER_EXPORT int QuiverOpsInterface() { return quiver::kOpsInterface; }
