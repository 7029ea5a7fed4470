// Children in namespaces of their own (EX-23). Most of it takes privileges: run as root, outside of
// sandboxes. Without them those tests are skipped.
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spawn/fork_exec.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

using ::testing::HasSubstr;

class NamespacesTest : public WaysTest {};

IN_BOTH_WAYS(NamespacesTest);

TEST_P(NamespacesTest, NetworkNamespaceHasLoopbackOnly) {
  NEEDS_PRIVILEGES();
  ForkExecOptions options = Options();
  options.attr.namespaces = CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP;
  const std::string devices = Out("/bin/cat", {"cat", "/proc/net/dev"}, options);
  EXPECT_THAT(devices, HasSubstr("lo:"));
  int lines = 0;
  for (absl::string_view line : absl::StrSplit(devices, '\n')) {
    lines += line.find(':') != absl::string_view::npos ? 1 : 0;
  }
  EXPECT_EQ(lines, 1) << devices;
}

TEST_P(NamespacesTest, AProcessNamespaceHasTheChildAsItsFirst) {
  NEEDS_PRIVILEGES();
  ForkExecOptions options = Options();
  options.attr.namespaces = CLONE_NEWPID;
  options.attr.parent_death_signal = SIGKILL;
  EXPECT_EQ(Out("/bin/sh", {"sh", "-c", "echo $$"}, options), "1\n");
}

TEST_P(NamespacesTest, WhatIsMountedInAMountNamespaceDoesNotShowHere) {
  NEEDS_PRIVILEGES();
  const std::string dir = absl::StrCat(::testing::TempDir(), "/mounts.", getpid());
  ASSERT_EQ(mkdir(dir.c_str(), 0755), 0);
  // As systemd has it.
  InForkedProcess([&] {
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_SHARED, nullptr), 0);
    ForkExecOptions options = Options();
    options.attr.namespaces = CLONE_NEWNS;
    const std::string script =
        absl::StrCat("mount -t tmpfs none ", dir, " && echo > ", dir, "/inside && ls ", dir);
    EXPECT_EQ(Out("/bin/sh", {"sh", "-c", script}, options), "inside\n");
    EXPECT_NE(access(absl::StrCat(dir, "/inside").c_str(), F_OK), 0);
  });
  rmdir(dir.c_str());
}

// EX-23, TestUnshareMountNameSpaceChroot.
TEST_P(NamespacesTest, AMountNamespaceWithARootOfItsOwn) {
  NEEDS_PRIVILEGES();
  ForkExecOptions options = Options();
  options.attr.namespaces = CLONE_NEWNS;
  options.attr.chroot = "/usr";
  EXPECT_EQ(Out("/bin/sh",
                {"sh", "-c", "mount -t tmpfs none /src && echo > /src/inside && ls /src"}, options),
            "inside\n");
  EXPECT_NE(access("/usr/src/inside", F_OK), 0);
}

TEST_P(NamespacesTest, UserNamespaceWithMaps) {
  NEEDS_PRIVILEGES();
  ForkExecOptions options = Options();
  options.attr.namespaces = CLONE_NEWUSER;
  EXPECT_EQ(StatusLine("Uid", options), "65534\t65534\t65534\t65534");
  options.attr.uid_map = {{0, 1000, 1}, {5, 2000, 10}};
  options.attr.gid_map = {{0, 1000, 10}};
  const std::string map = Out("/bin/cat", {"cat", "/proc/self/uid_map"}, options);
  EXPECT_THAT(
      std::vector<std::string>(absl::StrSplit(map, absl::ByAnyChar(" \n"), absl::SkipEmpty())),
      ::testing::ElementsAre("0", "1000", "1", "5", "2000", "10"));
  EXPECT_EQ(Out("/bin/cat", {"cat", "/proc/self/setgroups"}, options), "deny\n");
  options.attr.uid = 5;
  options.attr.gid = 3;
  // Seen from in there.
  EXPECT_EQ(Out("/usr/bin/id", {"id", "-u"}, options), "5\n");
  EXPECT_EQ(Out("/usr/bin/id", {"id", "-g"}, options), "3\n");
  options.attr.allow_setgroups = true;
  options.attr.groups = {4};
  EXPECT_EQ(Out("/usr/bin/id", {"id", "-G"}, options), "3 4\n");

  options.attr.uid_map = {{0, 1, 1}, {0, 2, 1}};
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: uid_map: invalid argument");
  options.attr.uid_map = {};
  options.attr.gid_map = {{0, 1, 1}, {0, 2, 1}};
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: gid_map: invalid argument");
  options.attr.namespaces = 0;
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: id maps without a user namespace");
  options = Options();
  options.attr.namespaces = 1;
  EXPECT_EQ(Failure(options), "fork/exec /bin/true: unknown namespace");
}

// EX-23, TestGroupCleanupUserNamespace.
TEST_P(NamespacesTest, AUserNamespaceHasNoneOfOurGroups) {
  NEEDS_PRIVILEGES();
  InForkedProcess([this] {
    const gid_t groups[] = {11, 12};
    ASSERT_EQ(setgroups(2, groups), 0);
    ForkExecOptions options = Options();
    options.attr.namespaces = CLONE_NEWUSER;
    options.attr.uid_map = options.attr.gid_map = {{0, 0, 100}};
    options.attr.allow_setgroups = true;
    options.attr.uid = options.attr.gid = 0;
    EXPECT_EQ(Out("/usr/bin/id", {"id", "-G"}, options), "0\n");
  });
}

// EX-23, TestAmbientCapsUserns.
TEST_P(NamespacesTest, AmbientCapabilitiesInAUserNamespace) {
  NEEDS_PRIVILEGES();
  ForkExecOptions options = Options();
  options.attr.namespaces = CLONE_NEWUSER;
  options.attr.uid_map = options.attr.gid_map = {{0, 0, 1}, {7, 1000, 1}};
  options.attr.uid = options.attr.gid = 7;
  options.attr.ambient_capabilities = {CAP_NET_BIND_SERVICE, CAP_WAKE_ALARM};
  EXPECT_EQ(StatusLine("CapAmb", options), "0000000800000400");
  EXPECT_EQ(StatusLine("CapEff", options), "0000000800000400");
}

TEST_P(NamespacesTest, ARefusalSaysWhichWereAskedFor) {
  NEEDS_PRIVILEGES();
  InForkedProcess([this] {
    BecomeNobody();
    ForkExecOptions options = Options();
    options.attr.namespaces = CLONE_NEWNET | CLONE_NEWUTS;
    EXPECT_EQ(Failure(options),
              "fork/exec /bin/true: clone with namespaces uts,net: operation not permitted");
  });
  // As a kernel that lacks one of them.
  InForkedProcess([this] {
    RefuseSyscalls({SYS_clone3}, ENOSYS);
    RefuseSyscallWithBits(SYS_clone, CLONE_NEWCGROUP, EINVAL);
    ForkExecOptions options = Options();
    EXPECT_EQ(Failure(options), "it began");
    options.attr.namespaces = CLONE_NEWCGROUP;
    EXPECT_EQ(Failure(options),
              "fork/exec /bin/true: clone with namespaces cgroup: invalid argument");
  });
}

TEST_P(NamespacesTest, AnOrdinaryUserIsRootInItsNamespace) {
  NEEDS_PRIVILEGES();
  InForkedProcess([this] {
    BecomeNobody();
    ForkExecOptions options = Options();
    options.attr.namespaces = CLONE_NEWUSER | CLONE_NEWNET;
    options.attr.uid_map = {{0, kNobody, 1}};
    options.attr.gid_map = {{0, kNobody, 1}};
    EXPECT_EQ(Out("/usr/bin/id", {"id", "-u"}, options), "0\n");
    options.attr.uid_map = {{0, 1, 1}};
    EXPECT_EQ(Failure(options), "fork/exec /bin/true: uid_map: operation not permitted");
    // EX-23, TestEmptyCredGroupsDisableSetgroups.
    options.attr.uid_map = {{0, kNobody, 1}};
    options.attr.gid = 0;
    EXPECT_EQ(Out("/usr/bin/id", {"id", "-g"}, options), "0\n");
    options.attr.allow_setgroups = true;
    EXPECT_EQ(Failure(options), "fork/exec /bin/true: gid_map: operation not permitted");
  });
}

}  // namespace
}  // namespace weft::spawn::testing
