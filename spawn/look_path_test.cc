#include "spawn/look_path.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace weft {
namespace {

// A directory that is the working one, with PATH as it should be.
class LookPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    old_path_ = getenv("PATH");
    char old_dir[4096];
    ASSERT_NE(getcwd(old_dir, sizeof(old_dir)), nullptr);
    old_dir_ = old_dir;
    dir_ = absl::StrCat(::testing::TempDir(), "/look_path.", getpid());
    for (const char* sub : {"", "/first", "/second", "/first/prog"}) {
      ASSERT_EQ(mkdir(absl::StrCat(dir_, sub).c_str(), 0755), 0);
    }
    ASSERT_EQ(chdir(dir_.c_str()), 0);
  }
  void TearDown() override {
    setenv("PATH", old_path_.c_str(), 1);
    for (const char* file : {"prog", "second/prog", "second/forbidden"}) unlink(file);
    for (const char* sub : {"first/prog", "first", "second"}) rmdir(sub);
    ASSERT_EQ(chdir(old_dir_.c_str()), 0);
    EXPECT_EQ(rmdir(dir_.c_str()), 0);
  }

  void Make(const std::string& file, mode_t mode) {
    std::ofstream(file) << "#!/bin/sh\n";
    ASSERT_EQ(chmod(file.c_str(), mode), 0);
  }
  // PATH, with every @ the directory.
  void SetPath(std::string path) {
    for (size_t at; (at = path.find('@')) != std::string::npos;) path.replace(at, 1, dir_);
    setenv("PATH", path.c_str(), 1);
  }
  std::string Look(const std::string& name) {
    const absl::StatusOr<std::string> found = LookPath(name);
    return found.ok() ? *found : std::string(found.status().message());
  }

  std::string dir_;

 private:
  std::string old_path_;
  std::string old_dir_;
};

TEST_F(LookPathTest, FindsTheFirstThatMayBeRun) {
  Make("second/prog", 0755);
  Make("second/forbidden", 0644);
  // In the first it is a directory.
  SetPath("/nowhere:@/first:@/second");
  EXPECT_EQ(Look("prog"), dir_ + "/second/prog");
  EXPECT_EQ(Look("forbidden"), "exec: \"forbidden\": permission denied");
  EXPECT_EQ(LookPath("forbidden").status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Look("nothing"), "exec: \"nothing\": executable file not found in $PATH");
  EXPECT_EQ(LookPath("nothing").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Look(""), "exec: \"\": executable file not found in $PATH");
  unsetenv("PATH");
  EXPECT_EQ(Look("prog"), "exec: \"prog\": executable file not found in $PATH");
}

// Whoever can write to the directory that one happens to be in must not decide what is run.
TEST_F(LookPathTest, DoesNotRunWhatHappensToBeHere) {
  Make("prog", 0755);
  Make("second/prog", 0755);
  for (const char* path : {":@/second", ".:@/second", "@/first:second", "@/first:"}) {
    SetPath(path);
    EXPECT_EQ(Look("prog"),
              "exec: \"prog\": cannot run executable found relative to current directory")
        << path;
    EXPECT_EQ(LookPath("prog").status().code(), absl::StatusCode::kFailedPrecondition);
  }
  SetPath("@/second:");
  EXPECT_EQ(Look("prog"), dir_ + "/second/prog");
}

TEST_F(LookPathTest, ANameWithASlashIsAPath) {
  Make("second/prog", 0755);
  Make("second/forbidden", 0644);
  SetPath("");
  EXPECT_EQ(Look("./second/prog"), "./second/prog");
  EXPECT_EQ(Look("second/prog"), "second/prog");
  EXPECT_EQ(Look("./nothing"), "exec: \"./nothing\": no such file or directory");
  EXPECT_EQ(Look("./second"), "exec: \"./second\": is a directory");
  EXPECT_EQ(Look("second/forbidden"), "exec: \"second/forbidden\": permission denied");
}

}  // namespace
}  // namespace weft
