// What sharing out work costs, by which the plans of a call choose between ways.
#pragma once

namespace quiver::host {

// Until sleeping threads have been woken and waited for.
constexpr double kWakeNs = 10'000;
// Below this a task is not worth handing over.
constexpr double kSmallestTaskNs = 4'000;
constexpr int kTasksPerThread = 4;

}  // namespace quiver::host
