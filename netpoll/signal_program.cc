// What signal_test.cc runs where a signal may end the process.
//
//   signal_program nohup      sends itself SIGHUP when nobody asks for it, while somebody does, and
//                             after that; prints "before", "got 1", "after" as it survives
//   signal_program stop N     N times: sends itself SIGINT while the one who asks for it stops;
//                             prints "lost" and fails if neither gets it
//   signal_program subscribed the same without the first one
//   signal_program nil        asks for a signal with a nil channel
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "netpoll/signal.h"
#include "sched/goroutine.h"

namespace {

// A standard signal sent to oneself is handled before kill() returns only if no other thread can
// take it: wait until it has been taken.
void SendMyself(int signal) {
  kill(getpid(), signal);
  sigset_t pending;
  do {
    weft::Sleep(absl::Milliseconds(1));
    sigpending(&pending);
  } while (sigismember(&pending, signal) != 0);
}

void Say(const char* text) {
  std::printf("%s\n", text);
  std::fflush(stdout);
}

int Nohup() {
  Say(weft::Ignored(SIGHUP) ? "ignored" : "not ignored");
  SendMyself(SIGHUP);
  Say("before");
  weft::Chan<int> channel(1);
  weft::Notify(channel, {SIGHUP});
  Say(weft::Ignored(SIGHUP) ? "ignored" : "not ignored");
  SendMyself(SIGHUP);
  if (channel.Recv() == SIGHUP) Say("got 1");
  weft::Stop(channel);
  SendMyself(SIGHUP);
  Say("after");
  return 0;
}

// With SIGHUP at its default where the test does not want to die of the first one.
int NohupSubscribed() {
  weft::Chan<int> channel(1);
  weft::Notify(channel, {SIGHUP});
  SendMyself(SIGHUP);
  if (channel.Recv() == SIGHUP) Say("got 1");
  weft::Stop(channel);
  SendMyself(SIGHUP);
  Say("after");
  return 0;
}

int StopRaces(int tries) {
  for (int i = 0; i < tries; ++i) {
    weft::Chan<int> channel(1);
    weft::Chan<int> stopped(1);
    weft::Notify(channel, {SIGINT});
    weft::Go([=] {
      weft::Stop(channel);
      stopped.Send(1);
    });
    kill(getpid(), SIGINT);
    stopped.Recv();
    // Sent, and the channel is out of it: it is in the channel, or ends the process at any moment.
    const absl::Time limit = absl::Now() + absl::Seconds(30);
    while (channel.len() == 0) {
      if (absl::Now() > limit) {
        Say("lost");
        return 1;
      }
      weft::Sleep(absl::Milliseconds(1));
    }
  }
  Say("all delivered");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const absl::string_view mode = argc > 1 ? argv[1] : "";
  int tries = 0;
  if (argc > 2 && !absl::SimpleAtoi(argv[2], &tries)) return 3;
  return weft::Main([=] {
    if (mode == "nohup") return Nohup();
    if (mode == "subscribed") return NohupSubscribed();
    if (mode == "stop") return StopRaces(tries);
    if (mode == "nil") weft::Notify(weft::Chan<int>(), {SIGINT});
    return 3;
  });
}
