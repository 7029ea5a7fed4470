#include "netpoll/address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <string>

#include "gtest/gtest.h"

namespace weft {
namespace {

TEST(SocketAddressTest, ParsesWhatItPrints) {
  for (const char* text : {"127.0.0.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:80",
                           "[2001:db8::7]:443", "[::]:6060", "[fe80::1%lo]:9"}) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), text);
    EXPECT_FALSE(address->empty());
    EXPECT_GT(address->size(), 0u);
  }
}

TEST(SocketAddressTest, RefusesEverythingElse) {
  for (const char* text : {"", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
                           "127.1:80", "localhost:80", "::1:80", "[::1]", "[::1]80", "[::1:80",
                           "::1]:80", "[fe80::1%nowhere]:9", "[127.0.0.1:80", "127.0.0.1:80 "}) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
    EXPECT_TRUE(absl::IsInvalidArgument(address.status())) << text;
  }
}

TEST(SocketAddressTest, TellsItsParts) {
  const SocketAddress v4 = *SocketAddress::Parse("127.3.0.1:80");
  EXPECT_EQ(v4.family(), AF_INET);
  EXPECT_EQ(v4.host(), "127.3.0.1");
  EXPECT_EQ(v4.port(), 80);
  EXPECT_TRUE(v4.IsLoopback());
  EXPECT_FALSE(v4.IsUnspecified());
  const SocketAddress any = *SocketAddress::Parse(":8080");
  EXPECT_EQ(any.family(), AF_INET6);
  EXPECT_EQ(any.port(), 8080);
  EXPECT_TRUE(any.IsUnspecified());
  EXPECT_FALSE(any.IsLoopback());
  EXPECT_TRUE(SocketAddress::Parse("[::1]:1")->IsLoopback());
  EXPECT_TRUE(SocketAddress::Parse("0.0.0.0:1")->IsUnspecified());
}

TEST(SocketAddressTest, TheEmptyAddressIsNothing) {
  const SocketAddress empty;
  EXPECT_TRUE(empty.empty());
  EXPECT_EQ(empty.ToString(), "");
  EXPECT_EQ(empty.port(), 0);
  EXPECT_EQ(empty.size(), 0u);
  EXPECT_EQ(empty, SocketAddress());
  sockaddr other = {};
  other.sa_family = AF_NETLINK;
  EXPECT_TRUE(SocketAddress::FromSockaddr(&other, sizeof(other)).empty());
}

TEST(SocketAddressTest, UnixNamesKeepTheirBytes) {
  const std::string longest(107, 'x');
  const std::string binary("@a\0b\xff", 5);
  for (const std::string& name : {std::string("/run/x.sock"), std::string("@x"), binary, longest}) {
    const absl::StatusOr<SocketAddress> address = SocketAddress::Unix(name);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), name);
    EXPECT_EQ(address->host(), name);
    EXPECT_EQ(address->port(), 0);
    EXPECT_EQ(address->family(), AF_UNIX);
    EXPECT_FALSE(address->empty() || address->IsLoopback() || address->IsUnspecified());
    // As the kernel would give it back.
    EXPECT_EQ(SocketAddress::FromSockaddr(address->data(), address->size()), *address);
    const SocketAddress copy = *address;
    EXPECT_EQ(copy, *address);
    EXPECT_FALSE(copy == *SocketAddress::Unix("/other"));
    EXPECT_FALSE(copy == SocketAddress());
  }
  // No name at all: the kernel has been asked to choose, or the socket has none.
  EXPECT_EQ(SocketAddress::Unix("@")->size(), sizeof(sa_family_t));
  EXPECT_EQ(SocketAddress::Unix("@")->ToString(), "@");
  sockaddr_un unnamed = {};
  unnamed.sun_family = AF_UNIX;
  EXPECT_TRUE(
      SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&unnamed), sizeof(sa_family_t))
          .empty());
  for (const std::string& name : {std::string(), std::string(108, 'x'), std::string("a\0b", 3)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(SocketAddress::Unix(name).status())) << name;
  }
}

TEST(SocketAddressTest, ForChangesOnlyTheClothesOfIpv4) {
  const SocketAddress v4 = *SocketAddress::Parse("1.2.3.4:5");
  const SocketAddress mapped = v4.For(AF_INET6);
  EXPECT_EQ(mapped.family(), AF_INET6);
  EXPECT_EQ(mapped.ToString(), "1.2.3.4:5");
  EXPECT_EQ(mapped.For(AF_INET), v4);
  EXPECT_EQ(v4.For(AF_INET), v4);
  const SocketAddress v6 = *SocketAddress::Parse("[::1]:5");
  EXPECT_EQ(v6.For(AF_INET), v6);
  EXPECT_EQ(SocketAddress::Unix("@x")->For(AF_INET), *SocketAddress::Unix("@x"));
}

TEST(SocketAddressTest, MappedAddressesPrintAsIpv4) {
  sockaddr_in6 mapped = {};
  mapped.sin6_family = AF_INET6;
  mapped.sin6_port = htons(80);
  ASSERT_EQ(inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr), 1);
  const SocketAddress address =
      SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&mapped), sizeof(mapped));
  EXPECT_EQ(address.ToString(), "127.0.0.1:80");
  EXPECT_TRUE(address.IsLoopback());
}

TEST(SocketAddressTest, ComparesAddressAndPort) {
  const SocketAddress a = *SocketAddress::Parse("127.0.0.1:80");
  EXPECT_EQ(a, *SocketAddress::Parse("127.0.0.1:80"));
  EXPECT_FALSE(a == *SocketAddress::Parse("127.0.0.1:81"));
  EXPECT_FALSE(a == *SocketAddress::Parse("127.0.0.2:80"));
  EXPECT_FALSE(a == *SocketAddress::Parse("[::1]:80"));
  EXPECT_FALSE(*SocketAddress::Parse("[::1]:80") == *SocketAddress::Parse("[::2]:80"));
}

}  // namespace
}  // namespace weft
