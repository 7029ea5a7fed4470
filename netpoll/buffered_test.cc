#include "netpoll/buffered.h"

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "netpoll/pipe.h"
#include "netpoll/test_util.h"

namespace weft {
namespace {

using testing::ConnPair;
using testing::ForEachSetting;
using testing::In;
using testing::MakePair;
using testing::TaskGroup;
using testing::TaskKind;

// Gives its text in pieces of a given size, an error instead of each `stumble`th, then the end.
class Text {
 public:
  Text(std::string text, size_t piece, int stumble = 0)
      : text_(std::move(text)), piece_(piece), stumble_(stumble) {}

  absl::StatusOr<size_t> Read(absl::Span<char> room) {
    ++reads;
    if (stumble_ != 0 && reads % stumble_ == 0) return absl::DeadlineExceededError("i/o timeout");
    const size_t n = std::min({room.size(), piece_, text_.size() - at_});
    text_.copy(room.data(), n, at_);
    at_ += n;
    return n;
  }

  int reads = 0;

 private:
  const std::string text_;
  const size_t piece_;
  const int stumble_;
  size_t at_ = 0;
};

class Sink {
 public:
  absl::Status Write(absl::string_view data) {
    writes.push_back(std::string(data));
    return error;
  }

  std::vector<std::string> writes;
  absl::Status error;
};

TEST(BufferedReaderTest, LinesComeWholeHoweverTheyArrive) {
  const std::string longest(10'000, 'x');
  const std::string text = absl::StrCat("one\n\ntwo\r\n", longest, "\nfour\rfive\nlast");
  for (const size_t piece : {1, 2, 3, 7, 100, 20'000}) {
    for (const size_t size : {1, 16, 4096}) {
      Text source(text, piece);
      BufferedReader reader(std::ref(source), size);
      for (const std::string& line : {std::string("one"), std::string(), std::string("two"),
                                      longest, std::string("four\rfive"), std::string("last")}) {
        const absl::StatusOr<absl::string_view> got = reader.ReadLine();
        ASSERT_TRUE(got.ok()) << got.status();
        EXPECT_EQ(*got, line);
      }
      const absl::Status end = reader.ReadLine().status();
      EXPECT_TRUE(absl::IsOutOfRange(end));
      EXPECT_EQ(end.message(), "EOF");
    }
  }
}

TEST(BufferedReaderTest, AfterAnErrorNothingIsLost) {
  for (const size_t piece : {1, 3}) {
    Text source("GET /\nbody:12345678rest", piece, 3);
    BufferedReader reader(std::ref(source), 4);
    auto retry = [](auto call) {
      for (;;) {
        auto result = call();
        if (!absl::IsDeadlineExceeded(result.status())) return result;
      }
    };
    EXPECT_EQ(*retry([&] { return reader.ReadLine(); }), "GET /");
    EXPECT_EQ(*retry([&] { return reader.ReadUntil(':'); }), "body:");
    EXPECT_EQ(*retry([&] { return reader.Peek(3); }), "123");
    EXPECT_EQ(*retry([&] { return reader.ReadExact(8); }), "12345678");
    const absl::Status early = retry([&] { return reader.ReadExact(5); }).status();
    EXPECT_EQ(early.message(), "unexpected EOF");
    EXPECT_EQ(retry([&] { return reader.ReadUntil(':'); }).status().message(), "unexpected EOF");
    EXPECT_EQ(*retry([&] { return reader.Peek(100); }), "rest");
    EXPECT_EQ(*retry([&] { return reader.ReadExact(4); }), "rest");
    EXPECT_EQ(retry([&] { return reader.ReadExact(1); }).status().message(), "EOF");
  }
}

TEST(BufferedReaderTest, LinesHaveALimit) {
  Text source("12345678\n123\n", 100);
  BufferedReader reader(std::ref(source));
  const absl::Status status = reader.ReadLine(8).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(*reader.ReadLine(9), "12345678");
  EXPECT_EQ(*reader.ReadUntil('\n', 4), "123\n");
}

TEST(BufferedReaderTest, ReadTakesWhatIsThere) {
  Text source(std::string(100, 'a'), 10);
  BufferedReader reader(std::ref(source), 16);
  char buffer[32];
  EXPECT_EQ(reader.Read({}).value_or(7), 0u);
  EXPECT_EQ(source.reads, 0);
  EXPECT_EQ(reader.Read(absl::MakeSpan(buffer, 4)).value_or(0), 4u);
  EXPECT_EQ(reader.buffered(), 6u);
  EXPECT_EQ(reader.Read(absl::MakeSpan(buffer)).value_or(0), 6u);
  EXPECT_EQ(source.reads, 1);
  // Directly, past the buffer.
  EXPECT_EQ(reader.Read(absl::MakeSpan(buffer)).value_or(0), 10u);
  EXPECT_EQ(reader.buffered(), 0u);
  char exact[80];
  EXPECT_TRUE(reader.ReadExact(absl::MakeSpan(exact)).ok());
  EXPECT_EQ(std::string(exact, 80), std::string(80, 'a'));
  EXPECT_EQ(reader.Read(absl::MakeSpan(buffer)).value_or(7), 0u);
}

TEST(BufferedWriterTest, SmallWritesGoTogether) {
  Sink sink;
  BufferedWriter writer(std::ref(sink), 8);
  for (const absl::string_view text : {"abc", "def", "ghi", "0123456789", "", "x"}) {
    EXPECT_TRUE(writer.Write(text).ok());
  }
  EXPECT_EQ(writer.buffered(), 1u);
  EXPECT_TRUE(writer.Flush().ok());
  EXPECT_TRUE(writer.Flush().ok());
  EXPECT_EQ(sink.writes, (std::vector<std::string>{"abcdef", "ghi", "0123456789", "x"}));
}

TEST(BufferedWriterTest, AnErrorStays) {
  Sink sink;
  sink.error = absl::UnavailableError("broken");
  BufferedWriter writer(std::ref(sink), 8);
  EXPECT_TRUE(writer.Write("abc").ok());
  EXPECT_EQ(writer.Flush(), sink.error);
  EXPECT_EQ(writer.Write("d"), sink.error);
  EXPECT_EQ(writer.Flush(), sink.error);
  EXPECT_EQ(sink.writes.size(), 1u);
}

template <typename C>
void Converse(TaskKind kind, const C& client, const C& server) {
  TaskGroup group(kind);
  group.Go([&] {
    BufferedReader reader(server);
    BufferedWriter writer(server);
    for (auto line = reader.ReadLine(); line.ok(); line = reader.ReadLine()) {
      if (!writer.Write(absl::StrCat("you said ", *line, "\n")).ok()) break;
      if (reader.buffered() == 0 && !writer.Flush().ok()) break;
    }
    EXPECT_TRUE(server.Close().ok());
  });
  BufferedReader reader(client);
  EXPECT_TRUE(client.Write("this\nthat\n").ok());
  EXPECT_EQ(*reader.ReadLine(), "you said this");
  EXPECT_EQ(*reader.ReadLine(), "you said that");
  EXPECT_TRUE(client.SetReadDeadline(In(absl::Milliseconds(1))).ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(reader.ReadLine().status()));
  EXPECT_TRUE(client.SetReadDeadline(absl::InfiniteFuture()).ok());
  EXPECT_TRUE(client.Write("again\n").ok());
  EXPECT_EQ(*reader.ReadLine(), "you said again");
  EXPECT_TRUE(client.Close().ok());
}

TEST(BufferedTest, ConversationsOverConnections) {
  ForEachSetting([](TaskKind kind) {
    const ConnPair pair = MakePair();
    Converse(kind, pair.client, pair.server);
    const PipePair pipe = Pipe();
    Converse(kind, pipe.a, pipe.b);
  });
}

TEST(BufferedTest, CopyGoesToTheEnd) {
  ForEachSetting([](TaskKind kind) {
    const std::string text(300'000, 'x');
    const ConnPair from = MakePair();
    const PipePair to = Pipe();
    TaskGroup group(kind);
    group.Go([&] {
      EXPECT_TRUE(from.client.Write(text).ok());
      EXPECT_TRUE(from.client.Close().ok());
    });
    group.Go([&] {
      EXPECT_EQ(Copy(to.a, from.server).value_or(0), text.size());
      EXPECT_TRUE(to.a.Close().ok());
    });
    Sink sink;
    BufferedReader reader(to.b);
    EXPECT_EQ(Copy(std::ref(sink), std::ref(reader)).value_or(0), text.size());
    std::string got;
    for (const std::string& part : sink.writes) got += part;
    EXPECT_TRUE(got == text);
    sink.error = absl::UnavailableError("broken");
    Text more("more", 1);
    EXPECT_EQ(Copy(std::ref(sink), std::ref(more)).status(), sink.error);
  });
}

}  // namespace
}  // namespace weft
