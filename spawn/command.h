// Running programs, as Go's os/exec does it.
//
//   weft::CommandResult listing = weft::Command("ls", {"-l"}).Output();
//   if (!listing.ok()) return listing.status;      // exit status 2
//
//   std::string sorted;
//   absl::Status status = weft::Command("sort", {"-u"}, {.in = weft::Input::Bytes("b\na\nb\n"),
//                                                        .out = weft::Output::To(&sorted)}).Run();
//
//   weft::Command bc("bc", {}, {.in = weft::Input::Pipe(), .out = weft::Output::Pipe()});
//   if (absl::Status s = bc.Start(); !s.ok()) return s;
//   bc.in().Write("6 * 7\n");
//   bc.in().Close();
//   std::string answer = *bc.out().ReadAll();
//   status = bc.Wait();
//
// From goroutines and plain threads. A goroutine that waits for a child is parked: the child's
// pidfd is watched like a connection, there is no SIGCHLD handler and no thread for it. A thread
// waits in poll(2). Starting counts as blocking: the P goes on to other goroutines meanwhile.
//
// What is between Start() and Wait() in the background, bytes to carry or a deadline to keep, is
// done by one goroutine; so in a program of threads alone it starts the scheduler beside them.
// Run(), Output() and CombinedOutput() do it themselves.
#ifndef WEFT_SPAWN_COMMAND_H_
#define WEFT_SPAWN_COMMAND_H_

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "chan/context.h"
#include "spawn/exit_status.h"
#include "spawn/fork_exec.h"
#include "spawn/pipe_end.h"
#include "spawn/stdio.h"

namespace weft {

struct TerminalSize {
  int rows = 24;
  int columns = 80;
};

struct CommandOptions {
  // "NAME=value"; of several with one name the last counts. nullopt: this process's, with PWD set
  // to `dir` if that is given.
  std::optional<std::vector<std::string>> env = {};
  std::string dir = {};

  Input in = {};
  Output out = {};
  Output err = {};
  // The child's descriptors from 3 on; it inherits nothing else. They stay the caller's.
  std::vector<int> extra_files = {};
  // A new terminal as 0, 1 and 2, and controlling terminal of a new session; in, out and err are
  // not used. Command::terminal() is its other side.
  std::optional<TerminalSize> terminal = {};

  // When the context is done, or the deadline has come, the child is sent `cancel_signal` (0:
  // nothing), and after `grace` SIGKILL. Wait() then fails even if the child exits with 0: as the
  // context's Err(), or DeadlineExceeded. A nil context is never done.
  Context context = {};
  absl::Time deadline = absl::InfiniteFuture();
  int cancel_signal = SIGTERM;
  absl::Duration grace = absl::Seconds(5);

  // How long, after the child has ended, its pipes may still be held open by processes that it has
  // left behind. Then they are closed, the caller's ends included, and Wait() says so
  // (IsWaitDelay).
  absl::Duration wait_delay = absl::InfiniteDuration();

  // Whatever else ForkExec offers.
  spawn::Attributes attr = {};
};

// What a command wrote, and whether it ended well.
struct CommandResult {
  absl::Status status;
  std::string out;
  // What it wrote to its standard error, where that had no other place.
  std::string err;

  bool ok() const { return status.ok(); }
};

// One run of a program. Start, Wait, Run, Output and CombinedOutput are called by one goroutine or
// thread at a time, the rest by any. Destroying one that runs leaves the child alone; what is to be
// done about it in the background is done, and it leaves no zombie.
class Command {
 public:
  // `name` is looked up in PATH if there is no slash in it; where that fails, so does the start.
  explicit Command(std::string name, std::vector<std::string> args = {},
                   CommandOptions options = {});
  ~Command();
  Command(Command&&) noexcept;
  Command& operator=(Command&&) noexcept;

  // Starts it. It has begun then, or there is nothing of it left.
  // Errors: LookPath's; ForkExec's (StartErrorOf); "exec: already started"; the context's, or
  // DeadlineExceeded, where it is too late already.
  absl::Status Start();

  // Waits until it has ended and all its output has been carried to its place. Once. May park.
  // Closes in(). OK if it has exited with 0. Errors: ExitStatusOf() takes "exit status 3" apart;
  // DeadlineExceeded for one that ended well after its deadline; IsWaitDelay(); what went wrong
  // with the streams.
  absl::Status Wait();

  // Start() and Wait().
  absl::Status Run();

  // Run() with the standard output as text, and the standard error too unless it goes elsewhere.
  CommandResult Output();
  // Run() with both in one text, `out`, in the order in which they were written.
  CommandResult CombinedOutput();

  // Sends a signal. FailedPrecondition ("os: process already finished") once it has been waited
  // for: never does it reach another process that has the same number by then.
  absl::Status Signal(int signal);
  absl::Status Kill() { return Signal(SIGKILL); }

  // -1 before it has begun.
  pid_t pid() const;
  // After Wait(): how it ended, and what it and those of its children that it has waited for took.
  ExitStatus exit_status() const;
  rusage usage() const;
  // What it was found as.
  const std::string& path() const;

  // Our ends of what was asked for as Pipe(), and of the terminal; after Start().
  const PipeEnd& in() const;
  const PipeEnd& out() const;
  const PipeEnd& err() const;
  const PipeEnd& terminal() const;

 private:
  friend class Pipeline;
  struct State;

  CommandOptions& options();

  std::shared_ptr<State> state_;
};

// Whether Wait() has ended because others held the command's pipes ("exec: WaitDelay expired before
// I/O complete").
bool IsWaitDelay(const absl::Status& status);

}  // namespace weft

#endif  // WEFT_SPAWN_COMMAND_H_
