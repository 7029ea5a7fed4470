// NE-30 TestTCPBig: one Write of more bytes than 32 bits can count.
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/owned_fd.h"
#include "netpoll/test_util.h"
#include "tests/rounds.h"

namespace weft {
namespace {

using testing::ConnPair;
using testing::MakePair;
using testing::TaskGroup;
using testing::TaskKind;

constexpr size_t kPeriod = 16 << 20;
constexpr size_t kSize = (size_t{5} << 30) + (1 << 20);

// kSize bytes of address space that show the same kPeriod bytes of memory again and again.
class BigText {
 public:
  BigText() : file_(memfd_create("big text", MFD_CLOEXEC)) {
    std::string period(kPeriod, '\0');
    uint64_t state = 1;
    for (size_t i = 0; i < kPeriod; i += 8) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      memcpy(&period[i], &state, 8);
    }
    EXPECT_EQ(write(file_.get(), period.data(), kPeriod), static_cast<ssize_t>(kPeriod));
    void* const place =
        mmap(nullptr, kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    EXPECT_NE(place, MAP_FAILED);
    text_ = static_cast<char*>(place);
    for (size_t at = 0; at < kSize; at += kPeriod) {
      EXPECT_NE(mmap(text_ + at, std::min(kPeriod, kSize - at), PROT_READ, MAP_SHARED | MAP_FIXED,
                     file_.get(), 0),
                MAP_FAILED);
    }
  }
  ~BigText() { munmap(text_, kSize); }
  BigText(const BigText&) = delete;
  BigText& operator=(const BigText&) = delete;

  absl::string_view text() const { return {text_, kSize}; }

 private:
  const OwnedFd file_;
  char* text_ = nullptr;
};

// Sends the text by `write`, and compares what comes.
template <typename WriteCall>
void SendAll(WriteCall write) {
  // Hours of nothing but copying, if it were done in each repetition.
  if (!testing::IsTurn("NE30", 1000)) GTEST_SKIP() << "in one of a thousand repetitions";
  const BigText big;
  testing::RunOnGoroutine([&] {
    const ConnPair pair = MakePair();
    TaskGroup group(TaskKind::kGoroutine);
    group.Go([&] {
      size_t written = 0;
      const absl::Status status = write(pair.client, big.text(), &written);
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_EQ(written, kSize);
      EXPECT_TRUE(pair.client.Close().ok());
    });
    constexpr size_t kBuffer = 1 << 20;
    const auto buffer = std::make_unique<char[]>(kBuffer);
    size_t received = 0;
    for (;;) {
      const absl::StatusOr<size_t> n = pair.server.Read(absl::MakeSpan(buffer.get(), kBuffer));
      ASSERT_TRUE(n.ok()) << n.status();
      if (*n == 0) break;
      ASSERT_LE(received + *n, kSize);
      ASSERT_EQ(memcmp(buffer.get(), big.text().data() + received, *n), 0) << "at " << received;
      received += *n;
    }
    EXPECT_EQ(received, kSize);
  });
}

TEST(NetConformance, NE30_BigWrite) {
  SendAll([](const Conn& conn, absl::string_view text, size_t* written) {
    return conn.Write(text, written);
  });
}

TEST(NetConformance, NE30_BigWritev) {
  SendAll([](const Conn& conn, absl::string_view text, size_t* written) {
    // One piece that is larger than a system call takes, and many of odd sizes.
    std::vector<absl::string_view> pieces = {text.substr(0, (size_t{3} << 30) + 1)};
    for (size_t at = pieces[0].size(); at < text.size(); at += pieces.back().size()) {
      pieces.push_back(text.substr(at, (1 << 20) - 1));
    }
    return conn.Writev(pieces, written);
  });
}

}  // namespace
}  // namespace weft
