// Connections and the child of a fork().
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/test_util.h"
#include "sched/goroutine.h"

namespace weft {
namespace {

using testing::ConnPair;
using testing::MakePair;
using testing::TaskGroup;
using testing::TaskKind;

// Writes one byte while somebody waits for it, and returns when both are done.
void WriteAndRead(const ConnPair& pair, absl::string_view byte) {
  TaskGroup writer(TaskKind::kGoroutine);
  writer.Go([&] {
    Sleep(absl::Milliseconds(10));
    ASSERT_TRUE(pair.client.Write(byte).ok());
  });
  char read;
  ASSERT_TRUE(pair.server.SetReadDeadline(absl::Now() + absl::Seconds(30)).ok());
  const absl::StatusOr<size_t> n = pair.server.Read(absl::MakeSpan(&read, 1));
  ASSERT_TRUE(n.ok()) << n.status();
  EXPECT_EQ(*n, 1u);
}

TEST(ForkTest, AChildThatClosesItsConnectionsLeavesTheParents) {
  testing::RunOnGoroutine([] {
    ConnPair pair = MakePair();
    // The first wait is what registers the descriptor. The writer has to be done before the fork:
    // in the child it would never be, and a connection is closed when nobody is in a call of it.
    WriteAndRead(pair, "a");

    const pid_t child = fork();
    if (child == 0) _exit(pair.server.Close().ok() && pair.client.Close().ok() ? 0 : 1);
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);

    WriteAndRead(pair, "b");
  });
}

}  // namespace
}  // namespace weft
