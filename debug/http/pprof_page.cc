// Go's paths for profiles.
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "debug/cpu_profile.h"
#include "debug/http/page.h"
#include "debug/profile.h"
#include "debug/profile_data.h"
#include "debug/symbolizer.h"
#include "debug/trace.h"
#include "sched/goroutine.h"

namespace weft::debug::internal {
namespace {

// Half a million events, which make some fifty megabytes of text.
constexpr size_t kTraceBytes = 16 << 20;

HttpReply Index() {
  Html html;
  html.Markup(
      "<h1>Profiles</h1>\n<div class=\"wide\"><table><thead><tr><th class=\"number\">count"
      "<th>profile<th>as text<th></tr></thead><tbody>\n");
  for (const ProfileInfo& profile : Profiles()) {
    html.Markup("<tr><td class=\"number\">")
        .Text(profile.count)
        .Markup("<td><a href=\"/debug/pprof/");
    html.Text(profile.name)
        .Markup("\">")
        .Text(profile.name)
        .Markup("</a><td><a href=\"/debug/pprof/");
    html.Text(profile.name).Markup("?debug=1\">stacks</a>");
    if (profile.name == "goroutine") {
      html.Markup(" <a href=\"/debug/pprof/goroutine?debug=2\">all</a>");
    }
    html.Markup("<td>").Text(profile.description).Markup("</tr>\n");
  }
  html.Markup(
      "<tr><td><td><a href=\"/debug/pprof/profile?seconds=10\">profile</a><td><td>where processor "
      "time goes within ten seconds (?seconds=N)</tr>\n"
      "<tr><td><td><a href=\"/debug/pprof/trace?seconds=1\">trace</a><td><td>what every goroutine "
      "does within a second (?seconds=N), for ui.perfetto.dev and traceview</tr>\n"
      "</tbody></table></div>\n<p><code>?seconds=N</code> asks each for what comes within N "
      "seconds."
      "</p>\n<p>For <code>go tool pprof "
      "http://ADDRESS/debug/pprof/goroutine</code>, and whatever else reads its files. "
      "<a href=\"/debug/pprof/cmdline\">cmdline</a> is how the program was started.</p>\n");
  return Page("pprof", html);
}

HttpReply Refusal(int status, absl::string_view problem) {
  HttpReply reply = PlainText(absl::StrCat(problem, "\n"));
  reply.status = status;
  return reply;
}

// What "seconds" says, `otherwise` where there is none; nothing if it is no time from 0 to 300.
std::optional<absl::Duration> Seconds(const Target& target, absl::Duration otherwise) {
  if (target.query.count("seconds") == 0) return otherwise;
  double seconds = 0;
  if (!absl::SimpleAtod(target.Get("seconds"), &seconds) || !(seconds >= 0 && seconds <= 300)) {
    return std::nullopt;
  }
  return absl::Seconds(seconds);
}

// Of so many seconds from now on; where the program records a trace already, what that has.
HttpReply TraceOf(const Target& target) {
  const std::optional<absl::Duration> length = Seconds(target, absl::Seconds(1));
  if (!length.has_value()) return Refusal(400, "seconds: from 0 to 300");
  HttpReply reply;
  reply.content_type = "application/json";
  reply.fields.emplace_back("Content-Disposition", "attachment; filename=\"trace.json\"");
  const auto append = [&](absl::string_view text) { absl::StrAppend(&reply.body, text); };
  absl::Status status = StartTrace({.bytes = kTraceBytes});
  if (status.ok()) {
    Sleep(*length);
    status = StopTrace(append);
  } else if (absl::IsFailedPrecondition(status)) {
    status = WriteTrace(append);
  }
  return status.ok() ? reply : Refusal(409, status.message());
}

// Of processor time, for so many seconds from now on.
HttpReply CpuProfileOf(const Target& target) {
  const std::optional<absl::Duration> length = Seconds(target, absl::Seconds(30));
  if (!length.has_value()) return Refusal(400, "seconds: from 0 to 300");
  HttpReply reply;
  reply.content_type = "application/octet-stream";
  reply.fields.emplace_back("Content-Disposition", "attachment; filename=\"profile.pb.gz\"");
  absl::Status status = StartCpuProfile();
  if (status.ok()) {
    Sleep(*length);
    status = StopCpuProfile([&](absl::string_view bytes) { absl::StrAppend(&reply.body, bytes); });
  }
  return status.ok() ? reply : Refusal(409, status.message());
}

HttpReply CommandLine() {
  const BlockingSection section;
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string all{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  while (!all.empty() && all.back() == '\0') all.pop_back();
  return PlainText(all);
}

// Names of addresses, "0x1234+0x5678", which come in the body of a POST, else in the query. Without
// any it says that names are to be had.
HttpReply Symbols(const Target& target, absl::string_view body) {
  std::string wanted(body);
  // An address is a parameter's name as far as queries go, in which + is a space.
  for (const auto& [name, value] : target.query) absl::StrAppend(&wanted, name, "+");
  std::string text = "num_symbols: 1\n";
  for (const absl::string_view word :
       absl::StrSplit(wanted, absl::ByAnyChar("+ \r\n"), absl::SkipEmpty())) {
    uint64_t pc = 0;
    if (!absl::SimpleHexAtoi(word, &pc)) continue;
    const std::vector<SourceLocation> at = Symbolize(pc);
    if (at.empty() || at.back().function.empty()) continue;
    absl::StrAppend(&text, "0x", absl::Hex(pc), " ", at.back().function, "\n");
  }
  return PlainText(text);
}

// Of what comes within so many seconds from now on; of all there has been where none are given.
absl::StatusOr<ProfileData> ProfileOf(absl::string_view name,
                                      std::optional<absl::Duration> seconds) {
  absl::StatusOr<ProfileData> data = GetProfile(name);
  if (!data.ok() || !seconds.has_value()) return data;
  Sleep(*seconds);
  absl::StatusOr<ProfileData> later = GetProfile(name);
  if (!later.ok()) return later;
  return Difference(*data, *std::move(later));
}

// A profile as a file for pprof.
HttpReply ProfileFile(absl::string_view name, std::optional<absl::Duration> seconds) {
  const absl::StatusOr<ProfileData> data = ProfileOf(name, seconds);
  if (absl::IsNotFound(data.status())) return NotFound(absl::StrCat("profile ", name));
  if (!data.ok()) return Refusal(500, data.status().message());
  HttpReply reply;
  reply.body = EncodeProfile(*data);
  reply.content_type = "application/octet-stream";
  // As a name of a file: profiles' are made of letters and the like.
  reply.fields.emplace_back("Content-Disposition",
                            absl::StrCat("attachment; filename=\"", name, ".pb.gz\""));
  return reply;
}

// ?debug=1 and 2 are for people, else it is pprof's file; ?seconds=N is for that alone.
HttpReply Profile(absl::string_view name, const Target& target) {
  int level = 0;
  if (target.query.count("debug") != 0 && !absl::SimpleAtoi(target.Get("debug"), &level)) {
    return Refusal(400, "debug: 0, 1 or 2");
  }
  std::optional<absl::Duration> seconds;
  if (target.query.count("seconds") != 0) {
    if (level > 0) return Refusal(400, "seconds and debug do not go together");
    seconds = Seconds(target, absl::ZeroDuration());
    if (!seconds.has_value()) return Refusal(400, "seconds: from 0 to 300");
  }
  if (level <= 0) return ProfileFile(name, seconds);
  HttpReply reply;
  const absl::Status status = WriteProfile(
      name, [&](absl::string_view bytes) { absl::StrAppend(&reply.body, bytes); },
      level == 1 ? ProfileFormat::kText : ProfileFormat::kFullText);
  if (absl::IsNotFound(status)) return NotFound(absl::StrCat("profile ", name));
  if (!status.ok()) return Refusal(500, status.message());
  return reply;
}

}  // namespace

HttpReply PprofPage(absl::string_view name, const Target& target, absl::string_view body) {
  if (name.empty()) return Index();
  if (name == "cmdline") return CommandLine();
  if (name == "symbol") return Symbols(target, body);
  if (name == "profile") return CpuProfileOf(target);
  if (name == "trace") return TraceOf(target);
  return Profile(name, target);
}

}  // namespace weft::debug::internal
