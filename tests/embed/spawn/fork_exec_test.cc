#include "spawn/fork_exec.h"

#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace {

// A child with attributes of its own, waited for by what the system has for that.
TEST(EmbeddedForkExec, StartsAProgramAndSaysWhyNot) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  weft::spawn::ForkExecOptions options;
  options.files = {0, ends[1], 2};
  options.dir = "/usr";
  options.attr.process_group = 0;
  const absl::StatusOr<weft::spawn::Child> child =
      weft::spawn::ForkExec("/bin/sh", {"sh", "-c", "pwd; exit 3"}, options);
  ASSERT_TRUE(child.ok()) << child.status();
  close(ends[1]);
  char text[16] = {};
  EXPECT_EQ(read(ends[0], text, sizeof(text) - 1), 5);
  EXPECT_STREQ(text, "/usr\n");
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child->pid, &status, 0), child->pid);
  EXPECT_EQ(WEXITSTATUS(status), 3);
  close(child->pidfd);

  EXPECT_EQ(weft::spawn::ForkExec("/nowhere", {"x"}).status().message(),
            "fork/exec /nowhere: no such file or directory");
}

}  // namespace
