// A command's State outlives the Command while somebody looks after it: Supervise() carries the
// streams, keeps the deadlines and waits for the child, all in one loop. It runs where Wait() was
// called if there is nothing to do before that, else on a goroutine that Start() makes.
#include "spawn/command.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "spawn/internal/process.h"
#include "spawn/internal/ready_set.h"
#include "spawn/internal/streams.h"
#include "spawn/look_path.h"

namespace weft {
namespace {

using spawn::internal::Process;
using spawn::internal::ReadySet;
using spawn::internal::Streams;

constexpr absl::string_view kWaitDelayUrl = "weft/wait_delay";
constexpr size_t kPidfdPlace = 0;
constexpr size_t kAlarmPlace = ReadySet::kPlaces - 1;
// How often a child is looked after that has no pidfd.
constexpr absl::Duration kBlindInterval = absl::Milliseconds(2);

absl::Status WaitDelayError() {
  absl::Status status = absl::DeadlineExceededError("exec: WaitDelay expired before I/O complete");
  status.SetPayload(kWaitDelayUrl, absl::Cord());
  return status;
}

absl::Status DeadlineError() { return absl::DeadlineExceededError("context deadline exceeded"); }

}  // namespace

bool IsWaitDelay(const absl::Status& status) {
  return status.GetPayload(kWaitDelayUrl).has_value();
}

struct Command::State {
  State(std::string name, std::vector<std::string> args, CommandOptions given)
      : path(std::move(name)), argv(std::move(args)), options(std::move(given)) {
    argv.insert(argv.begin(), path);
    cancel_at = options.deadline;
    if (path.find('/') != std::string::npos) return;
    absl::StatusOr<std::string> found = LookPath(path);
    if (found.ok()) {
      path = *std::move(found);
    } else {
      look_path = found.status();
    }
  }

  ~State() {
    if (alarm >= 0) close(alarm);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  absl::Status Start();
  absl::StatusOr<spawn::Child> ForkExec();
  // Whether something has to be done between Start() and Wait().
  bool NeedsSupervisor() const {
    return streams.busy() || !options.context.is_nil() ||
           options.deadline != absl::InfiniteFuture();
  }
  // What the context or the deadline has to say.
  absl::Status TooLate() const;
  // `self` is this.
  void Supervise(const std::shared_ptr<State>& self);
  void Loop(ReadySet& set);
  // What is due now is done; when the next thing is.
  absl::Time KeepTimes(absl::Time now);
  absl::Status Result() const;

  std::string path;
  std::vector<std::string> argv;
  CommandOptions options;
  absl::Status look_path;

  bool started = false;
  bool waited = false;
  bool supervised = false;
  WaitGroup supervisor;
  Process process;
  Streams streams;

  // An eventfd, where there is a context: readable when that is done.
  int alarm = -1;

  // Of Supervise().
  bool ended = false;
  absl::Time ended_at;
  absl::Time cancel_at;
  bool cancelled = false;
  bool killed = false;
  bool abandoned = false;
};

absl::Status Command::State::Start() {
  if (started) return absl::FailedPreconditionError("exec: already started");
  if (!look_path.ok()) return look_path;
  absl::Status status = TooLate();
  if (!status.ok()) return status;
  if (!options.context.is_nil() && alarm < 0) {
    alarm = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (alarm < 0) return absl::ResourceExhaustedError("eventfd: too many open files");
  }
  if (options.terminal.has_value()) {
    status = streams.OpenTerminal(options.terminal->rows, options.terminal->columns);
    options.attr.new_session = true;
    options.attr.controlling_tty = 0;
  } else {
    status = streams.Open(std::move(options.in), std::move(options.out), std::move(options.err));
  }
  if (!status.ok()) return status;
  started = true;
  const absl::StatusOr<spawn::Child> child = ForkExec();
  streams.CloseChildEnds();
  if (!child.ok()) {
    streams.CloseAll();
    waited = true;
    return child.status();
  }
  process.Adopt(*child);
  return absl::OkStatus();
}

absl::Status Command::State::TooLate() const {
  const absl::Status done = options.context.is_nil() ? absl::OkStatus() : options.context.Err();
  if (!done.ok()) return done;
  return options.deadline <= absl::Now() ? DeadlineError() : absl::OkStatus();
}

absl::StatusOr<spawn::Child> Command::State::ForkExec() {
  spawn::ForkExecOptions start;
  start.env = std::move(options.env);
  start.dir = std::move(options.dir);
  start.files = streams.child_files();
  start.files.insert(start.files.end(), options.extra_files.begin(), options.extra_files.end());
  start.attr = std::move(options.attr);
  // This thread stands still until the child has begun, some 50 us. Whoever waits for its P gets it
  // meanwhile; where nobody does, to look for a taker would only be in the child's way.
  const BlockingSection section(BlockingSection::Expect::kShort);
  return spawn::ForkExec(path, argv, start);
}

void Command::State::Supervise(const std::shared_ptr<State>& self) {
  ReadySet set;
  if (const int pidfd = process.pidfd(); pidfd >= 0) set.Watch(kPidfdPlace, pidfd, POLLIN);
  streams.Watch(set);
  if (alarm < 0) return Loop(set);
  set.Watch(kAlarmPlace, alarm, POLLIN);
  const StopFunc stop = AfterFunc(options.context, [self] { eventfd_write(self->alarm, 1); });
  Loop(set);
  stop();
}

void Command::State::Loop(ReadySet& set) {
  bool blind = process.pidfd() < 0;
  while (!ended || streams.busy()) {
    absl::Time until = KeepTimes(absl::Now());
    if (ended && !streams.busy()) break;
    if (!ended && blind) until = std::min(until, absl::Now() + kBlindInterval);
    set.Wait(until);
    if (set.ready(kAlarmPlace)) {
      cancel_at = std::min(cancel_at, absl::Now());
      // Read, or it would be ready for good.
      eventfd_t count;
      eventfd_read(alarm, &count);
    }
    streams.Carry(set);
    if (!ended && (blind || set.ready(kPidfdPlace))) {
      set.Clear(kPidfdPlace);
      ended = process.Reap();
      ended_at = absl::Now();
      // If it has not, its pidfd says nothing more: a tracer has to let go of it first, or this
      // system's cannot be waited for (Linux 5.2).
      if (!ended) blind = true;
    }
  }
}

absl::Time Command::State::KeepTimes(absl::Time now) {
  if (ended) {
    const absl::Time close_at = ended_at + options.wait_delay;
    if (now < close_at) return close_at;
    abandoned = streams.Abandon();
    return absl::InfinitePast();
  }
  if (now < cancel_at) return cancel_at;
  if (!cancelled) {
    cancelled = true;
    // It may have ended this moment.
    if (options.cancel_signal != 0) process.Signal(options.cancel_signal).IgnoreError();
  }
  const absl::Time kill_at = cancel_at + options.grace;
  if (now < kill_at) return kill_at;
  if (!killed) {
    killed = true;
    process.Signal(SIGKILL).IgnoreError();
  }
  return absl::InfiniteFuture();
}

absl::Status Command::State::Result() const {
  if (process.stolen()) {
    return absl::UnknownError("wait: another part of the program has waited for the child");
  }
  if (absl::Status exit = ExitError(process.exit_status()); !exit.ok()) return exit;
  if (cancelled) return TooLate();
  if (!streams.error().ok()) return streams.error();
  return abandoned ? WaitDelayError() : absl::OkStatus();
}

Command::Command(std::string name, std::vector<std::string> args, CommandOptions options)
    : state_(std::make_shared<State>(std::move(name), std::move(args), std::move(options))) {}

Command::Command(Command&&) noexcept = default;
Command& Command::operator=(Command&&) noexcept = default;

Command::~Command() {
  if (state_ == nullptr || !state_->started || state_->waited || state_->supervised) return;
  // Nobody would wait for the child. What nobody else has of its pipes is closed.
  Streams& streams = state_->streams;
  for (PipeEnd* end : {&streams.in, &streams.out, &streams.err, &streams.terminal}) {
    *end = PipeEnd();
  }
  Go({.name = "command"}, [state = std::move(state_)] { state->Supervise(state); });
}

CommandOptions& Command::options() { return state_->options; }

absl::Status Command::Start() {
  if (absl::Status status = state_->Start(); !status.ok()) return status;
  if (state_->NeedsSupervisor()) {
    state_->supervised = true;
    state_->supervisor.Add(1);
    Go({.name = "command"}, [state = state_] {
      state->Supervise(state);
      state->supervisor.Done();
    });
  }
  return absl::OkStatus();
}

absl::Status Command::Wait() {
  if (!state_->started) return absl::FailedPreconditionError("exec: not started");
  if (state_->waited) return absl::FailedPreconditionError("exec: Wait was already called");
  state_->waited = true;
  if (state_->supervised) {
    state_->supervisor.Wait();
  } else {
    state_->Supervise(state_);
  }
  if (state_->streams.in.valid()) state_->streams.in.Close().IgnoreError();
  return state_->Result();
}

absl::Status Command::Run() {
  if (absl::Status status = state_->Start(); !status.ok()) return status;
  return Wait();
}

CommandResult Command::Output() {
  CommandResult result;
  options().out = weft::Output::To(&result.out);
  if (StdioAccess::kind(options().err) == StdioAccess::OutputKind::kNothing) {
    options().err = weft::Output::To(&result.err);
  }
  result.status = Run();
  return result;
}

CommandResult Command::CombinedOutput() {
  CommandResult result;
  options().out = weft::Output::To(&result.out);
  options().err = weft::Output::SameAsOut();
  result.status = Run();
  return result;
}

absl::Status Command::Signal(int signal) { return state_->process.Signal(signal); }
pid_t Command::pid() const { return state_->process.pid(); }
ExitStatus Command::exit_status() const { return state_->process.exit_status(); }
rusage Command::usage() const { return state_->process.usage(); }
const std::string& Command::path() const { return state_->path; }
const PipeEnd& Command::in() const { return state_->streams.in; }
const PipeEnd& Command::out() const { return state_->streams.out; }
const PipeEnd& Command::err() const { return state_->streams.err; }
const PipeEnd& Command::terminal() const { return state_->streams.terminal; }

}  // namespace weft
