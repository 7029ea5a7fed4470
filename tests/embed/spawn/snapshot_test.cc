#include "spawn/snapshot.h"

#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

namespace {

// What is written is what was there at the call.
TEST(EmbeddedSnapshot, SavesTheDataAsItWas) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::string data = "before";
  absl::StatusOr<weft::spawn::Snapshot> snapshot =
      weft::spawn::Snapshot::ToFd(ends[1], [&](weft::spawn::SnapshotWriter& out) {
        out.Write(data);
        return absl::OkStatus();
      });
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  data = "after";
  EXPECT_TRUE(snapshot->Wait().ok());
  char text[16] = {};
  EXPECT_EQ(read(ends[0], text, sizeof(text)), 6);
  EXPECT_STREQ(text, "before");
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
