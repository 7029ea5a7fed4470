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

// Reads one byte, for which it has to wait.
void ReadOne(const Conn& conn) {
  char byte;
  ASSERT_TRUE(conn.SetReadDeadline(absl::Now() + absl::Seconds(60)).ok());
  const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(&byte, 1));
  ASSERT_TRUE(n.ok()) << n.status();
  EXPECT_EQ(*n, 1u);
}

TEST(ForkTest, AChildThatClosesItsConnectionsLeavesTheParents) {
  testing::RunOnGoroutine([] {
    ConnPair pair = MakePair();
    // The first wait is what registers the descriptor.
    Go([&] {
      Sleep(absl::Milliseconds(10));
      ASSERT_TRUE(pair.client.Write("a").ok());
    });
    ReadOne(pair.server);

    const pid_t child = fork();
    if (child == 0) _exit(pair.server.Close().ok() && pair.client.Close().ok() ? 0 : 1);
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);

    Go([&] {
      Sleep(absl::Milliseconds(10));
      ASSERT_TRUE(pair.client.Write("b").ok());
    });
    ReadOne(pair.server);
  });
}

}  // namespace
}  // namespace weft
