#include "netpoll/signal.h"

#include <signal.h>
#include <string.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "chan/select.h"
#include "netpoll/fd.h"
#include "netpoll/signal_catcher.h"
#include "sched/fatal.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"

namespace weft {
namespace {

using internal::Afterwards;
using internal::SignalBit;
using internal::SignalSet;

// Who gets which signals. Signals are handed on under its lock, by whoever comes first: the
// goroutine that the eventfd wakes, or who takes a channel away.
class Subscribers {
 public:
  static Subscribers& Get() {
    static auto* const subscribers = new Subscribers;
    return *subscribers;
  }

  void Add(const SendChan<int>& channel, SignalSet signals) {
    const MutexLock lock(mutex_);
    if (wake_ == nullptr) {
      wake_ = new internal::Fd(internal::StartCatchingSignals(), internal::Fd::Kind::kFile);
      Go({.name = "signals"}, [this] { Run(); });
    }
    Entry* entry = nullptr;
    for (Entry& e : entries_) {
      if (e.channel == channel) entry = &e;
    }
    if (entry == nullptr) entry = &entries_.emplace_back(Entry{channel, 0});
    entry->signals |= signals;
    internal::CatchSignals(signals);
  }

  void Remove(const SendChan<int>& channel) {
    const MutexLock lock(mutex_);
    SignalSet others = 0;
    SignalSet its = 0;
    for (const Entry& e : entries_) (e.channel == channel ? its : others) |= e.signals;
    internal::ReleaseSignals(its & ~others, Afterwards::kRestore);
    HandOn();
    std::erase_if(entries_, [&](const Entry& e) { return e.channel == channel; });
  }

  void Remove(SignalSet signals, Afterwards afterwards) {
    const MutexLock lock(mutex_);
    internal::ReleaseSignals(signals, afterwards);
    HandOn();
    for (Entry& e : entries_) e.signals &= ~signals;
    std::erase_if(entries_, [](const Entry& e) { return e.signals == 0; });
  }

 private:
  struct Entry {
    SendChan<int> channel;
    SignalSet signals;
  };

  [[noreturn]] void Run() {
    // Not on the stack, where it would keep a page.
    static uint64_t count;
    for (;;) {
      wake_->Read(reinterpret_cast<char*>(&count), sizeof(count));
      const MutexLock lock(mutex_);
      HandOn();
    }
  }

  void HandOn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (SignalSet caught = internal::TakeCaughtSignals(); caught != 0; caught &= caught - 1) {
      const int signal = __builtin_ctzll(caught) + 1;
      for (const Entry& e : entries_) {
        if ((e.signals & SignalBit(signal)) != 0) e.channel.TrySend(signal);
      }
    }
  }

  Mutex mutex_;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  internal::Fd* wake_ = nullptr;  // set once, before Run()
};

SignalSet SetOf(absl::Span<const int> signals, SignalSet all) {
  if (signals.empty()) return all;
  SignalSet set = 0;
  for (const int signal : signals) {
    if (signal >= 1 && signal <= internal::kSignals) set |= SignalBit(signal);
  }
  return set & internal::CatchableSignals();
}

// "hangup", "user defined signal 1", "signal 40".
std::string NameOf(int signal) {
  const char* const text = sigdescr_np(signal);
  if (text == nullptr) return absl::StrCat("signal ", signal);
  std::string name = text;
  name[0] = absl::ascii_tolower(name[0]);
  return name;
}

class SignalContext final : public CustomContext {
 public:
  SignalContext(Context cancelled, absl::Span<const int> signals)
      : CustomContext(std::move(cancelled)), signals_(signals.begin(), signals.end()) {}

  std::string DebugString() const override {
    const std::string held_text = held().DebugString();
    const absl::string_view parent = absl::StripSuffix(held_text, ".WithCancel");
    if (signals_.empty()) return absl::StrCat("signal.NotifyContext(", parent, ")");
    const std::string names =
        absl::StrJoin(signals_, " ", [](std::string* out, int s) { out->append(NameOf(s)); });
    return absl::StrCat("signal.NotifyContext(", parent, ", [", names, "])");
  }

 private:
  const std::vector<int> signals_;
};

}  // namespace

void Notify(const SendChan<int>& channel, absl::Span<const int> signals) {
  if (channel.is_nil()) Panic("signal: Notify using nil channel");
  const SignalSet all = internal::CatchableSignals() & ~SignalBit(SIGTRAP) & ~SignalBit(SIGSYS);
  Subscribers::Get().Add(channel, SetOf(signals, all));
}

void Stop(const SendChan<int>& channel) { Subscribers::Get().Remove(channel); }

void Reset(absl::Span<const int> signals) {
  Subscribers::Get().Remove(SetOf(signals, internal::CatchableSignals()), Afterwards::kRestore);
}

void Ignore(absl::Span<const int> signals) {
  Subscribers::Get().Remove(SetOf(signals, internal::CatchableSignals()), Afterwards::kIgnore);
}

bool Ignored(int signal) { return internal::IsIgnored(signal); }

void NotifyStop::operator()() const {
  if (channel_.is_nil()) return;
  cancel_();
  Stop(channel_);
}

struct NotifyAccess {
  static NotifyStop Make(CancelFunc cancel, Chan<int> channel) {
    return NotifyStop(std::move(cancel), std::move(channel));
  }
};

ContextWithStop NotifyContext(const Context& parent, absl::Span<const int> signals) {
  auto [cancelled, cancel] = WithCancel(parent);
  Context context = MakeContext<SignalContext>(cancelled, signals);
  Chan<int> channel(1);
  Notify(channel, signals);
  if (context.Err().ok()) {
    Go({.name = "signal context"}, [done = context.Done(), cancel = cancel, channel] {
      Select(channel.OnRecv([&] { cancel(); }), done.OnRecv());
    });
  }
  return {std::move(context), NotifyAccess::Make(std::move(cancel), std::move(channel))};
}

}  // namespace weft
