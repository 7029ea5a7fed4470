#include "spawn/internal/prepared.h"

#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "absl/strings/str_cat.h"
#include "spawn/internal/environment.h"

namespace weft::spawn::internal {
namespace {

constexpr uint64_t kNamespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                                 CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
constexpr int kMaxCpu = 1 << 16;
constexpr int kWordBits = static_cast<int>(sizeof(unsigned long)) * CHAR_BIT;

bool HasNul(const std::string& text) { return text.find('\0') != std::string::npos; }

bool AnyHasNul(const std::vector<std::string>& texts) {
  return std::any_of(texts.begin(), texts.end(), HasNul);
}

bool IsSignal(int signal) { return signal >= 1 && signal <= kSignals; }

// The reason why the attributes contradict each other, or "".
absl::string_view Contradiction(const Attributes& attr, const std::vector<int>& files) {
  if (attr.controlling_tty.has_value()) {
    const int tty = *attr.controlling_tty;
    if (attr.foreground_tty.has_value()) {
      return "both a controlling tty and a foreground tty";
    }
    if (!attr.new_session) return "a controlling tty without a session of its own";
    if (tty < 0 || tty >= static_cast<int>(files.size()) || files[tty] < 0) {
      return "the controlling tty is no descriptor of the child";
    }
  }
  if (attr.foreground_tty.has_value() && *attr.foreground_tty < 0) {
    return "the foreground tty is no descriptor";
  }
  if (attr.process_group.has_value() && *attr.process_group < 0) {
    return "negative process group";
  }
  if ((attr.namespaces & ~kNamespaces) != 0) return "unknown namespace";
  if ((attr.namespaces & CLONE_NEWUSER) == 0 &&
      !(attr.uid_map.empty() && attr.gid_map.empty() && !attr.allow_setgroups)) {
    return "id maps without a user namespace";
  }
  if (attr.cgroup.has_value() && *attr.cgroup < 0) return "the cgroup is no descriptor";
  return "";
}

absl::string_view BadNumber(const Attributes& attr, const std::vector<int>& files) {
  if (std::any_of(files.begin(), files.end(), [](int fd) { return fd < -1; })) {
    return "negative descriptor";
  }
  if (attr.parent_death_signal != 0 && !IsSignal(attr.parent_death_signal)) {
    return "bad parent death signal";
  }
  if (!std::all_of(attr.default_signals.begin(), attr.default_signals.end(), IsSignal)) {
    return "bad signal to reset";
  }
  if (std::any_of(attr.cpus.begin(), attr.cpus.end(),
                  [](int cpu) { return cpu < 0 || cpu >= kMaxCpu; })) {
    return "bad processor number";
  }
  if (std::any_of(attr.ambient_capabilities.begin(), attr.ambient_capabilities.end(),
                  [](int capability) { return capability < 0 || capability > 63; })) {
    return "bad capability";
  }
  return "";
}

std::vector<char*> PointersTo(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  return pointers;
}

// libc's set begins with the kernel's.
KernelSignals ToKernel(const sigset_t& set) {
  KernelSignals signals;
  memcpy(&signals, &set, sizeof(signals));
  return signals;
}

}  // namespace

Prepared::Prepared(const std::string& path, const std::vector<std::string>& argv,
                   const ForkExecOptions& options)
    : path_(path), args_(argv), options_(options) {}

absl::Status Prepared::Check() const {
  if (args_.empty()) return RefuseStart(path_, "no argument vector");
  if (HasNul(path_) || AnyHasNul(args_)) return RefuseStart(path_, "NUL in an argument");
  if (options_.env.has_value() && AnyHasNul(*options_.env)) {
    return RefuseStart(path_, "environment variable contains NUL");
  }
  if (HasNul(options_.dir) || HasNul(options_.attr.chroot)) {
    return RefuseStart(path_, "NUL in a directory");
  }
  absl::string_view reason = Contradiction(options_.attr, options_.files);
  if (reason.empty()) reason = BadNumber(options_.attr, options_.files);
  return reason.empty() ? absl::OkStatus() : RefuseStart(path_, reason);
}

void Prepared::Fill(ChildPlan& plan, KernelSignals mask) {
  const Attributes& attr = options_.attr;
  plan.path = path_.c_str();
  argv_ = PointersTo(args_);
  argv_.push_back(nullptr);
  plan.argv = argv_.data();
  if (options_.env.has_value()) {
    given_env_ = LastOfEachName(*options_.env);
    env_ = PointersTo(given_env_);
  } else {
    pwd_ = PwdOf(options_.dir);
    env_ = InheritedEnvironment(pwd_);
  }
  env_.push_back(nullptr);
  plan.env = env_.data();
  if (!options_.dir.empty()) plan.dir = options_.dir.c_str();
  if (!attr.chroot.empty()) plan.chroot = attr.chroot.c_str();
  files_ = options_.files;
  plan.files = files_.data();
  plan.file_count = static_cast<int>(files_.size());

  plan.new_session = attr.new_session;
  plan.set_group = attr.process_group.has_value() || attr.foreground_tty.has_value();
  plan.group = attr.process_group.value_or(0);
  plan.foreground_tty = attr.foreground_tty.value_or(-1);
  plan.controlling_tty = attr.controlling_tty.value_or(-1);
  plan.private_mounts = (attr.namespaces & CLONE_NEWNS) != 0;

  for (const ResourceLimit& limit : attr.limits) limits_.push_back({limit.resource, limit.value});
  plan.limits = limits_.data();
  plan.limit_count = static_cast<int>(limits_.size());
  plan.set_nice = attr.nice.has_value();
  plan.nice = attr.nice.value_or(0);
  for (const int cpu : attr.cpus) {
    const size_t word = static_cast<size_t>(cpu / kWordBits);
    if (word >= cpus_.size()) cpus_.resize(word + 1);
    cpus_[word] |= 1UL << (cpu % kWordBits);
  }
  if (!cpus_.empty()) plan.cpus = cpus_.data();
  plan.cpus_bytes = cpus_.size() * sizeof(unsigned long);
  plan.set_umask = attr.umask.has_value();
  plan.umask = attr.umask.value_or(0);

  if (attr.groups.has_value()) {
    plan.groups = attr.groups->data();
    plan.group_count = static_cast<int>(attr.groups->size());
  } else if ((attr.uid.has_value() || attr.gid.has_value()) &&
             (attr.gid_map.empty() || attr.allow_setgroups)) {
    plan.group_count = 0;
  }
  plan.set_gid = attr.gid.has_value();
  plan.gid = attr.gid.value_or(0);
  plan.set_uid = attr.uid.has_value();
  plan.uid = attr.uid.value_or(0);
  plan.capabilities = attr.ambient_capabilities.data();
  plan.capability_count = static_cast<int>(attr.ambient_capabilities.size());
  plan.no_new_privileges = attr.no_new_privileges;
  plan.parent_death_signal = attr.parent_death_signal;
  if (plan.parent_death_signal != 0) plan.parent = getpid();

  for (const int signal : attr.default_signals) plan.default_signals |= SignalBit(signal);
  plan.mask = attr.signal_mask.has_value() ? ToKernel(*attr.signal_mask) : mask;
}

}  // namespace weft::spawn::internal
