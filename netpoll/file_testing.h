// What the tests of files share.
#ifndef WEFT_NETPOLL_FILE_TESTING_H_
#define WEFT_NETPOLL_FILE_TESTING_H_

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/file.h"
#include "netpoll/io_ring.h"
#include "netpoll/test_util.h"

namespace weft::testing {

// Which way regular files, and descriptors in blocking mode, go.
enum class Backend { kIoUring, kBlocking };

class FileTestBase : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (GetParam() == Backend::kIoUring && internal::IoRing::Get() == nullptr) {
      GTEST_SKIP() << "NOT TESTED: this system has no io_uring for us: " << FilesDescription();
    }
    signal(SIGPIPE, SIG_IGN);  // as weft::Main does
    internal::IoRing::SetRefusedForTest(GetParam() == Backend::kBlocking);
    const char* const base = std::getenv("TEST_TMPDIR");
    directory_ = absl::StrCat(base != nullptr ? base : "/tmp", "/files.XXXXXX");
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
  }
  void TearDown() override { internal::IoRing::SetRefusedForTest(false); }

  bool by_ring() const { return GetParam() == Backend::kIoUring; }
  std::string Path(absl::string_view name) const { return absl::StrCat(directory_, "/", name); }

 private:
  std::string directory_;
};

inline std::string BackendName(const ::testing::TestParamInfo<Backend>& info) {
  return info.param == Backend::kIoUring ? "IoUring" : "Blocking";
}

#define WEFT_FILE_TESTS(suite)                                                       \
  INSTANTIATE_TEST_SUITE_P(Backends, suite,                                          \
                           ::testing::Values(Backend::kIoUring, Backend::kBlocking), \
                           ::weft::testing::BackendName)

template <typename T>
T Must(absl::StatusOr<T> result) {
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : T();
}

#define EXPECT_OK(expression)                       \
  do {                                              \
    const absl::Status status_of_it = (expression); \
    EXPECT_TRUE(status_of_it.ok()) << status_of_it; \
  } while (false)

inline void ExpectTimeout(const absl::Status& status) {
  EXPECT_TRUE(IsTimeout(status)) << status;
  EXPECT_TRUE(absl::EndsWith(status.message(), ": i/o timeout")) << status;
}

inline void ExpectClosed(const absl::Status& status) {
  EXPECT_TRUE(IsClosed(status)) << status;
  EXPECT_TRUE(absl::EndsWith(status.message(), ": file already closed")) << status;
}

// Text of which no two blocks are the same.
inline std::string Numbers(size_t size) {
  std::string text;
  for (size_t i = 0; text.size() < size; ++i) absl::StrAppend(&text, i, " ");
  text.resize(size);
  return text;
}

// The next reads have to go to the disk, where it is one (a file system in memory does not).
inline void DropCache(const File& file) {
  EXPECT_OK(file.Sync());
  EXPECT_EQ(posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED), 0);
}

// The two ends of a pipe in blocking mode, as a program is given its standard streams.
struct BlockingPipe {
  BlockingPipe() { EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0); }
  int ends[2];
};

}  // namespace weft::testing

#endif  // WEFT_NETPOLL_FILE_TESTING_H_
