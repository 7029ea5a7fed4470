#include "tools/http/root.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace weft::http {
namespace {

namespace fs = std::filesystem;

void Write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

std::string ReadAll(int fd) {
  char text[256];
  const ssize_t n = pread(fd, text, sizeof(text), 0);
  return n < 0 ? absl::StrCat("errno ", errno) : std::string(text, n);
}

// outside/secret is what must never be read; below root/ lie honest files and links of all kinds.
class RootTest : public testing::TestWithParam<Root::Resolver> {
 protected:
  RootTest() {
    const char* base = getenv("TEST_TMPDIR");
    std::string name = absl::StrCat(base != nullptr ? base : "/tmp", "/root_XXXXXX");
    dir_ = mkdtemp(name.data());
    fs::create_directories(dir_ / "outside");
    fs::create_directories(dir_ / "root/sub/deep");
    fs::create_directories(dir_ / "root2");
    Write(dir_ / "outside/secret", "SECRET");
    Write(dir_ / "root2/secret", "SECRET");
    Write(dir_ / "root/file", "file");
    Write(dir_ / "root/sub/inner", "inner");
    fs::create_symlink("file", dir_ / "root/to_file");
    fs::create_symlink("sub", dir_ / "root/to_sub");
    fs::create_symlink("sub/", dir_ / "root/to_sub_slash");
    fs::create_symlink("../file", dir_ / "root/sub/up_to_file");
    fs::create_symlink("deep/../../sub/./inner", dir_ / "root/sub/winding");
    fs::create_symlink("..", dir_ / "root/sub/up");
    fs::create_symlink("../outside/secret", dir_ / "root/escape");
    fs::create_symlink("../root2", dir_ / "root/neighbour");
    fs::create_symlink("../../outside", dir_ / "root/sub/escape_dir");
    fs::create_symlink("..", dir_ / "root/parent");
    fs::create_symlink("sub/../../root/file", dir_ / "root/out_and_in");
    fs::create_symlink((dir_ / "outside/secret").string(), dir_ / "root/absolute_out");
    fs::create_symlink((dir_ / "root/file").string(), dir_ / "root/absolute_in");
    fs::create_symlink("/", dir_ / "root/slash");
    fs::create_symlink("loop", dir_ / "root/loop");
    fs::create_symlink("missing", dir_ / "root/dangling");
    fs::create_symlink("parent", dir_ / "root/to_parent");
    mkfifo((dir_ / "root/fifo").c_str(), 0600);
    root_ = Root::Open((dir_ / "root").string(), GetParam());
  }
  ~RootTest() override { fs::remove_all(dir_); }

  // The content, "dir", or the errno's name.
  std::string Read(const std::string& path) {
    Root::Opened opened = root_->OpenBeneath(path);
    if (!opened.fd) return strerrorname_np(opened.error);
    struct stat info;
    fstat(opened.fd.get(), &info);
    return S_ISDIR(info.st_mode) ? "dir" : ReadAll(opened.fd.get());
  }

  fs::path dir_;
  absl::StatusOr<Root> root_ = absl::UnknownError("not opened");
};

TEST_P(RootTest, OpensWhatIsBeneath) {
  ASSERT_TRUE(root_.ok()) << root_.status();
  EXPECT_EQ(Read(""), "dir");
  EXPECT_EQ(Read("file"), "file");
  EXPECT_EQ(Read("sub"), "dir");
  EXPECT_EQ(Read("sub/inner"), "inner");
  EXPECT_EQ(Read("sub/deep"), "dir");
}

TEST_P(RootTest, FollowsLinksThatStayBeneath) {
  EXPECT_EQ(Read("to_file"), "file");
  EXPECT_EQ(Read("to_sub"), "dir");
  EXPECT_EQ(Read("to_sub_slash"), "dir");
  EXPECT_EQ(Read("to_sub/inner"), "inner");
  EXPECT_EQ(Read("to_sub_slash/inner"), "inner");
  EXPECT_EQ(Read("sub/up_to_file"), "file");
  EXPECT_EQ(Read("sub/winding"), "inner");
  EXPECT_EQ(Read("sub/up"), "dir");
  EXPECT_EQ(Read("sub/up/sub/up/file"), "file");
}

TEST_P(RootTest, RefusesWhatLeadsOut) {
  for (const char* path :
       {"..", "../outside/secret", "sub/../../outside/secret", "escape", "neighbour/secret",
        "sub/escape_dir/secret", "parent", "to_parent", "parent/root/file", "out_and_in",
        "absolute_out", "absolute_in", "slash", "slash/etc/passwd", "/etc/passwd", "/"}) {
    EXPECT_EQ(Read(path), "EXDEV") << path;
  }
}

TEST_P(RootTest, ReportsTheSystemsErrors) {
  EXPECT_EQ(Read("missing"), "ENOENT");
  EXPECT_EQ(Read("missing/x"), "ENOENT");
  EXPECT_EQ(Read("dangling"), "ENOENT");
  EXPECT_EQ(Read("file/x"), "ENOTDIR");
  EXPECT_EQ(Read("to_file/x"), "ENOTDIR");
  EXPECT_EQ(Read("loop"), "ELOOP");
  EXPECT_EQ(Read("loop/x"), "ELOOP");
  EXPECT_EQ(Read(std::string(300, 'n')), "ENAMETOOLONG");
  EXPECT_EQ(Read(std::string("fi\0le", 5)), "EINVAL");
}

TEST_P(RootTest, DoesNotWaitForTheWriterOfAFifo) {
  Root::Opened opened = root_->OpenBeneath("fifo");
  EXPECT_TRUE(opened.fd);
}

TEST_P(RootTest, LeavesNoDescriptorsBehind) {
  const auto open_now = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  const auto before = open_now();
  for (const char* path : {"sub/winding", "sub/up/sub/up/file", "missing/x", "escape", "loop"}) {
    Read(path);
  }
  EXPECT_EQ(open_now(), before);
}

// While a directory on the path turns into a link that leads out and back, over and over, nobody
// reads what is outside.
TEST_P(RootTest, HoldsAgainstRenames) {
  fs::create_directories(dir_ / "root/flip");
  Write(dir_ / "root/flip/secret", "inside");
  fs::create_symlink("../outside", dir_ / "root/flop");
  std::atomic<bool> done{false};
  std::thread renamer([&] {
    const std::string a = dir_ / "root/flip", b = dir_ / "root/flop";
    while (!done.load(std::memory_order_relaxed)) {
      renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
    }
  });
  int inside = 0;
  int escaped = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string read = Read("flip/secret");
    if (read == "inside") ++inside;
    if (read == "SECRET") ++escaped;
  }
  done.store(true, std::memory_order_relaxed);
  renamer.join();
  EXPECT_GT(inside, 0);
  EXPECT_EQ(escaped, 0);
}

// Random paths over the names of the tree never give the secret, and both resolvers agree.
TEST_P(RootTest, AgreesWithTheOtherResolverOnRandomPaths) {
  absl::StatusOr<Root> other = Root::Open((dir_ / "root").string(), Root::Resolver::kKernel);
  ASSERT_TRUE(other.ok());
  const std::vector<std::string> names = {
      "..",     ".",          "",     "sub",  "file", "to_sub",  "to_sub_slash", "up",
      "parent", "escape_dir", "root", "loop", "deep", "winding", "outside",      "secret"};
  std::mt19937 random(5);
  for (int round = 0; round < 20000; ++round) {
    std::string path = names[random() % names.size()];
    for (int n = random() % 6; n > 0; --n) path += "/" + names[random() % names.size()];
    const std::string read = Read(path);
    ASSERT_NE(read, "SECRET") << path;
    Root::Opened want = other->OpenBeneath(path);
    ASSERT_EQ(read == "EXDEV", want.error == EXDEV) << path << ": " << read;
    ASSERT_EQ(read[0] == 'E', !want.fd) << path << ": " << read << ", " << want.error;
  }
}

INSTANTIATE_TEST_SUITE_P(Resolvers, RootTest,
                         testing::Values(Root::Resolver::kKernel, Root::Resolver::kWalk),
                         [](const auto& info) {
                           return info.param == Root::Resolver::kKernel ? "Kernel" : "Walk";
                         });

TEST(RootOpenTest, NamesTheDirectoryThatIsMissing) {
  absl::StatusOr<Root> root = Root::Open("/does/not/exist");
  ASSERT_FALSE(root.ok());
  EXPECT_EQ(root.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(root.status().message().find("/does/not/exist: No such file"), absl::string_view::npos)
      << root.status();
  EXPECT_FALSE(Root::Open("/proc/self/exe").ok());
}

}  // namespace
}  // namespace weft::http
