#include "tools/http/workspace.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>

namespace weft::http {
namespace {

void Fill(Workspace& w, const std::string& text) {
  const absl::Span<char> room = w.Room();
  ASSERT_GE(room.size(), text.size());
  std::memcpy(room.data(), text.data(), text.size());
  w.Filled(text.size());
}

TEST(WorkspaceTest, KeepsWhatIsNotConsumed) {
  Workspace w(8);
  Fill(w, "abcdef");
  w.Consume(2);
  EXPECT_EQ(w.unread(), "cdef");
  EXPECT_EQ(w.Room().size(), 4u);
  Fill(w, "ghij");
  EXPECT_EQ(w.unread(), "cdefghij");
  EXPECT_TRUE(w.Room().empty());
  w.Consume(8);
  EXPECT_TRUE(w.unread().empty());
  EXPECT_EQ(w.Room().size(), 8u);
}

TEST(WorkspaceTest, ConsumesBehindWhatIsKept) {
  Workspace w(12);
  Fill(w, "xxheadbody+");
  w.Consume(2);
  const char* head = w.unread().data();
  w.ConsumeBehind(4, 4);
  EXPECT_EQ(w.unread(), "head+");
  EXPECT_EQ(w.unread().data(), head);
  EXPECT_EQ(w.RoomBehindUnread().data(), head + 5);
  EXPECT_EQ(w.RoomBehindUnread().size(), 5u);
}

TEST(WorkspacePoolTest, GivesEmptyOnesBack) {
  WorkspacePool pool(16);
  std::unique_ptr<Workspace> w = pool.Take();
  Workspace* const first = w.get();
  Fill(*w, "left over");
  w->reply.bytes.assign(1 << 20, 'x');
  pool.Give(std::move(w));
  w = pool.Take();
  EXPECT_EQ(w.get(), first);
  EXPECT_TRUE(w->unread().empty());
  EXPECT_LT(w->reply.bytes.capacity(), size_t{1} << 20);
  EXPECT_NE(pool.Take().get(), first);
}

}  // namespace
}  // namespace weft::http
