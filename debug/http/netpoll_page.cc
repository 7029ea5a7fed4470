// Who waits for what, how files are read, and which descriptors are open.
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "debug/http/page.h"
#include "netpoll/file.h"
#include "sched/goroutine.h"
#include "sched/snapshot.h"
#include "sched/sysmon.h"

namespace weft::debug::internal {
namespace {

// More than that are not looked at, one by one.
constexpr int kMostDescriptors = 20'000;

// "socket" of "socket:[123]", "[eventfd]" of "anon_inode:[eventfd]", "file" of "/a/b".
std::string KindOf(absl::string_view link) {
  if (absl::StartsWith(link, "/dev/")) return "device";
  if (absl::StartsWith(link, "/")) return "file";
  const size_t colon = link.find(':');
  if (colon == absl::string_view::npos) return "other";
  if (absl::StartsWith(link, "anon_inode:")) return std::string(link.substr(colon + 1));
  return std::string(link.substr(0, colon));
}

std::map<std::string, int> Descriptors() {
  const BlockingSection section;
  std::map<std::string, int> kinds;
  DIR* const directory = opendir("/proc/self/fd");
  if (directory == nullptr) return kinds;
  int seen = 0;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.' || ++seen > kMostDescriptors) continue;
    char link[256];
    const ssize_t size = readlinkat(dirfd(directory), entry->d_name, link, sizeof(link));
    if (size > 0) ++kinds[KindOf(absl::string_view(link, static_cast<size_t>(size)))];
  }
  closedir(directory);
  if (seen > kMostDescriptors) kinds["not looked at"] = seen - kMostDescriptors;
  return kinds;
}

void AddWaits(Html& html) {
  std::map<std::string, int> waits;
  for (const GoroutineSnapshot& g : GetGoroutineSnapshots()) {
    if (g.status == 4) ++waits[g.wait_reason];
  }
  html.Markup("<h2>What goroutines wait for</h2>\n<div class=\"wide\"><table><tbody>\n");
  for (const auto& [reason, count] : waits) {
    html.Markup("<tr><th>").Text(reason).Markup("<td class=\"number\">").Text(count);
    html.Markup("</tr>\n");
  }
  html.Markup("</tbody></table></div>\n");
}

void AddDescriptors(Html& html) {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  html.Markup("<h2>Open descriptors</h2>\n<p>There may be ").Text(uint64_t{limit.rlim_cur});
  html.Markup(".</p>\n<div class=\"wide\"><table><tbody>\n");
  for (const auto& [kind, count] : Descriptors()) {
    html.Markup("<tr><th>").Text(kind).Markup("<td class=\"number\">").Text(count);
    html.Markup("</tr>\n");
  }
  html.Markup("</tbody></table></div>\n");
}

void AddDuties(Html& html) {
  MonitorDutyStats duties[32];
  const int count = std::min(GetMonitorStats(duties, 32), 32);
  html.Markup(
      "<h2>The monitor's duties</h2>\n<div class=\"wide\"><table><thead><tr><th>duty"
      "<th class=\"number\">runs<th class=\"number\">found work</tr></thead><tbody>\n");
  for (int i = 0; i < count; ++i) {
    html.Markup("<tr><th>").Text(duties[i].name).Markup("<td class=\"number\">");
    html.Text(duties[i].runs).Markup("<td class=\"number\">").Text(duties[i].finds);
    html.Markup("</tr>\n");
  }
  html.Markup("</tbody></table></div>\n");
}

}  // namespace

HttpReply NetpollPage() {
  Html html;
  html.Markup("<h1>Netpoll</h1>\n<p>Regular files are read and written by ");
  html.Text(FilesDescription()).Markup(".</p>\n");
  AddWaits(html);
  AddDescriptors(html);
  AddDuties(html);
  return Page("netpoll", html);
}

}  // namespace weft::debug::internal
