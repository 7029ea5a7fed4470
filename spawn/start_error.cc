#include "spawn/start_error.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"

namespace weft::spawn {
namespace {

constexpr absl::string_view kStartErrorUrl = "weft/start_error";

std::string LimitName(int resource) {
  switch (resource) {
#define WEFT_LIMIT(name) \
  case name:             \
    return #name
    WEFT_LIMIT(RLIMIT_AS);
    WEFT_LIMIT(RLIMIT_CORE);
    WEFT_LIMIT(RLIMIT_CPU);
    WEFT_LIMIT(RLIMIT_DATA);
    WEFT_LIMIT(RLIMIT_FSIZE);
    WEFT_LIMIT(RLIMIT_MEMLOCK);
    WEFT_LIMIT(RLIMIT_MSGQUEUE);
    WEFT_LIMIT(RLIMIT_NICE);
    WEFT_LIMIT(RLIMIT_NOFILE);
    WEFT_LIMIT(RLIMIT_NPROC);
    WEFT_LIMIT(RLIMIT_RTPRIO);
    WEFT_LIMIT(RLIMIT_SIGPENDING);
    WEFT_LIMIT(RLIMIT_STACK);
#undef WEFT_LIMIT
    default:
      return absl::StrCat("resource ", resource);
  }
}

// "clone with namespaces net,uts".
std::string CloneName(absl::string_view clone, int namespaces) {
  constexpr std::pair<int, absl::string_view> kNames[] = {
      {CLONE_NEWNS, "mount"},     {CLONE_NEWUTS, "uts"}, {CLONE_NEWIPC, "ipc"},
      {CLONE_NEWUSER, "user"},    {CLONE_NEWPID, "pid"}, {CLONE_NEWNET, "net"},
      {CLONE_NEWCGROUP, "cgroup"}};
  std::vector<absl::string_view> asked;
  for (const auto& [bit, name] : kNames) {
    if (namespaces > 0 && (namespaces & bit) != 0) asked.push_back(name);
  }
  if (asked.empty()) return std::string(clone);
  return absl::StrCat(clone, " with namespaces ", absl::StrJoin(asked, ","));
}

// The step, and which of several: "setrlimit RLIMIT_NOFILE".
std::string What(const StartError& error) {
  const absl::string_view name = StepName(error.step);
  switch (error.step) {
    case Step::kClone:
      return CloneName(name, error.index);
    case Step::kFiles:
      return absl::StrCat(name, " ", error.index);
    case Step::kLimits:
      return absl::StrCat(name, " ", LimitName(error.index));
    case Step::kCapabilities:
      return absl::StrCat(name, " ", error.index);
    case Step::kDefaultSignals:
      return absl::StrCat(name, " ", error.index);
    default:
      return std::string(name);
  }
}

absl::Status WithPayload(absl::Status status, const StartError& error) {
  const std::string value =
      absl::StrCat(static_cast<int>(error.step), " ", error.error, " ", error.index);
  // Through a string_view: Clang and GCC name the constructor from std::string differently, and the
  // system's Abseil has only one of the names.
  status.SetPayload(kStartErrorUrl, absl::Cord(absl::string_view(value)));
  return status;
}

}  // namespace

absl::string_view StepName(Step step) {
  switch (step) {
    case Step::kNone:
    case Step::kArguments:
    case Step::kExec:
      return "";
    case Step::kChildStack:
      return "stack of the child";
    case Step::kStatusPipe:
      return "pipe";
    case Step::kCgroupOpen:
      return "open cgroup.procs";
    case Step::kClone:
      return "clone";
    case Step::kUidMap:
      return "uid_map";
    case Step::kGidMap:
      return "gid_map";
    case Step::kSession:
      return "setsid";
    case Step::kProcessGroup:
      return "setpgid";
    case Step::kForeground:
      return "tcsetpgrp";
    case Step::kCgroup:
      return "cgroup";
    case Step::kPrivateMounts:
      return "private mounts";
    case Step::kFiles:
      return "descriptor";
    case Step::kCloseOthers:
      return "close_range";
    case Step::kControllingTty:
      return "controlling tty";
    case Step::kLimits:
      return "setrlimit";
    case Step::kNice:
      return "nice";
    case Step::kAffinity:
      return "cpu affinity";
    case Step::kChroot:
      return "chroot";
    case Step::kGroups:
      return "setgroups";
    case Step::kGid:
      return "setgid";
    case Step::kUid:
      return "setuid";
    case Step::kCapabilities:
      return "ambient capability";
    case Step::kDir:
      return "chdir";
    case Step::kNoNewPrivileges:
      return "no_new_privs";
    case Step::kParentDeathSignal:
      return "parent death signal";
    case Step::kDefaultSignals:
      return "default action of signal";
    case Step::kKilled:
      return "killed";
  }
  return "";
}

std::optional<StartError> StartErrorOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kStartErrorUrl);
  if (!payload.has_value()) return std::nullopt;
  const std::string text(*payload);
  const std::vector<absl::string_view> words = absl::StrSplit(text, ' ');
  int step = 0;
  StartError error;
  if (words.size() != 3 || !absl::SimpleAtoi(words[0], &step) ||
      !absl::SimpleAtoi(words[1], &error.error) || !absl::SimpleAtoi(words[2], &error.index)) {
    return std::nullopt;
  }
  error.step = static_cast<Step>(step);
  return error;
}

namespace internal {

std::string ErrnoText(int error) {
  char buffer[128];
  std::string text = strerror_r(error, buffer, sizeof(buffer));
  const bool acronym = text.size() > 1 && absl::ascii_isupper(text[1]);
  if (!text.empty() && !acronym) text[0] = absl::ascii_tolower(text[0]);
  return text;
}

absl::Status MakeStartError(absl::string_view path, const StartError& error) {
  if (error.step == Step::kKilled) {
    return WithPayload(absl::AbortedError(absl::StrCat("fork/exec ", path, ": killed by signal ",
                                                       error.index, " before it began")),
                       error);
  }
  const std::string what = What(error);
  return WithPayload(absl::Status(absl::ErrnoToStatusCode(error.error),
                                  absl::StrCat("fork/exec ", path, ": ", what,
                                               what.empty() ? "" : ": ", ErrnoText(error.error))),
                     error);
}

absl::Status RefuseStart(absl::string_view path, absl::string_view reason) {
  return WithPayload(absl::InvalidArgumentError(absl::StrCat("fork/exec ", path, ": ", reason)),
                     {Step::kArguments, EINVAL, -1});
}

}  // namespace internal
}  // namespace weft::spawn
