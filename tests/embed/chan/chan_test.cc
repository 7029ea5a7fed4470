#include "chan/chan.h"

#include <optional>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace {

// Four threads send, two receive, and there is no scheduler anywhere.
TEST(EmbeddedChan, CarriesEachValueOnceBetweenThreads) {
  constexpr int kSenders = 4;
  constexpr int kReceivers = 2;
  constexpr int kValues = 10000;
  weft::Chan<int> values(16);
  std::vector<std::thread> senders;
  for (int s = 0; s < kSenders; ++s) {
    senders.emplace_back([values, s] {
      for (int i = 0; i < kValues; ++i) values.Send(s * kValues + i);
    });
  }
  std::vector<std::vector<int>> received(kReceivers);
  std::vector<std::thread> receivers;
  for (int r = 0; r < kReceivers; ++r) {
    receivers.emplace_back([values, &mine = received[r]] {
      while (std::optional<int> value = values.Recv()) mine.push_back(*value);
    });
  }
  for (std::thread& sender : senders) sender.join();
  values.Close();
  for (std::thread& receiver : receivers) receiver.join();

  std::vector<int> times(kSenders * kValues);
  for (const std::vector<int>& some : received) {
    for (int value : some) ++times.at(value);
  }
  EXPECT_EQ(times, std::vector<int>(kSenders * kValues, 1));
}

TEST(EmbeddedChan, RendezvousWithoutABuffer) {
  weft::Chan<int> question(0);
  weft::Chan<int> answer(0);
  std::thread other([question, answer] {
    while (std::optional<int> value = question.Recv()) answer.Send(*value + 1);
  });
  for (int i = 0; i < 1000; ++i) {
    question.Send(i);
    ASSERT_EQ(answer.Recv(), i + 1);
  }
  question.Close();
  other.join();
}

}  // namespace
