#include "sched/procs.h"

#include <sched.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace weft::internal {
namespace {

// A cgroup file system made of plain files.
class ProcsTest : public ::testing::Test {
 protected:
  ProcsTest() {
    std::string pattern = ::testing::TempDir() + "/cgroupXXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  ~ProcsTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  int Procs(const std::string& self) const { return CgroupProcs(root_, self); }

  std::string root_;
};

TEST_F(ProcsTest, NoGroupMeansNoLimit) {
  EXPECT_EQ(Procs(""), 0);
  EXPECT_EQ(Procs("0::/\n"), 0);
  EXPECT_EQ(Procs("0::/there/is/none\n"), 0);
}

TEST_F(ProcsTest, ReadsVersion2) {
  Write("/app/cpu.max", "300000 100000\n");
  EXPECT_EQ(Procs("0::/app\n"), 3);
  Write("/app/cpu.max", "100000 100000\n");
  EXPECT_EQ(Procs("0::/app\n"), 1);
  Write("/app/cpu.max", "max 100000\n");
  EXPECT_EQ(Procs("0::/app\n"), 0);
}

TEST_F(ProcsTest, RoundsUp) {
  Write("/app/cpu.max", "250000 100000\n");
  EXPECT_EQ(Procs("0::/app\n"), 3);
  Write("/app/cpu.max", "1000 100000\n");
  EXPECT_EQ(Procs("0::/app\n"), 1);
  Write("/app/cpu.max", "300001 100000\n");
  EXPECT_EQ(Procs("0::/app\n"), 4);
}

TEST_F(ProcsTest, TheTightestAncestorHolds) {
  Write("/cpu.max", "800000 100000\n");
  Write("/a/cpu.max", "200000 100000\n");
  Write("/a/b/cpu.max", "max 100000\n");
  Write("/a/b/c/cpu.max", "400000 100000\n");
  EXPECT_EQ(Procs("0::/a/b/c\n"), 2);
  EXPECT_EQ(Procs("0::/a/b\n"), 2);
  EXPECT_EQ(Procs("0::/other\n"), 8);
  EXPECT_EQ(Procs("0::/\n"), 8);
}

TEST_F(ProcsTest, ReadsVersion1) {
  Write("/cpu/app/cpu.cfs_quota_us", "150000\n");
  Write("/cpu/app/cpu.cfs_period_us", "50000\n");
  EXPECT_EQ(Procs("5:memory:/app\n4:cpu:/app\n"), 3);
  EXPECT_EQ(Procs("4:cpu,cpuacct:/app\n"), 3);
  EXPECT_EQ(Procs("4:cpuset:/app\n"), 0) << "cpuset is another controller";
  Write("/cpu/app/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(Procs("4:cpu,cpuacct:/app\n"), 0);
}

TEST_F(ProcsTest, ReadsVersion1WhereBothControllersShareAMount) {
  Write("/cpu,cpuacct/app/cpu.cfs_quota_us", "200000\n");
  Write("/cpu,cpuacct/app/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Procs("4:cpu,cpuacct:/app\n"), 2);
  EXPECT_EQ(Procs("4:cpu,cpuacct:/app/child\n"), 2);
}

TEST_F(ProcsTest, GarbageIsNoLimit) {
  for (const char* text : {"", "\n", "max", "100000", "x y\n", "-5 100000\n", "100000 0\n"}) {
    Write("/app/cpu.max", text);
    EXPECT_EQ(Procs("0::/app\n"), 0) << text;
  }
  EXPECT_EQ(Procs("no colons at all\n:\n"), 0);
}

TEST_F(ProcsTest, GroupNamesMayHoldColons) {
  Write("/a:b/cpu.max", "200000 100000\n");
  EXPECT_EQ(Procs("0::/a:b\n"), 2);
}

TEST(DefaultMaxProcsTest, FollowsTheAffinityMask) {
  unsetenv("WEFTMAXPROCS");
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  EXPECT_GE(DefaultMaxProcs(), 1);
  EXPECT_LE(DefaultMaxProcs(), CPU_COUNT(&allowed));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    CPU_SET(cpu, &one);
    break;
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(DefaultMaxProcs(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
}

TEST(DefaultMaxProcsTest, TheVariableDecides) {
  for (const int procs : {1, 3, 1024}) {
    setenv("WEFTMAXPROCS", std::to_string(procs).c_str(), 1);
    EXPECT_EQ(DefaultMaxProcs(), procs);
  }
  unsetenv("WEFTMAXPROCS");
}

TEST(DefaultMaxProcsDeathTest, BadValuesEndTheProgramWithOneLine) {
  for (const char* value : {"", "0", "-1", "1025", "two", "2x", "99999999999"}) {
    setenv("WEFTMAXPROCS", value, 1);
    EXPECT_EXIT(DefaultMaxProcs(), ::testing::ExitedWithCode(2),
                "^WEFTMAXPROCS=" + std::string(value) + ": must be a number from 1 to 1024\n$");
  }
  unsetenv("WEFTMAXPROCS");
}

}  // namespace
}  // namespace weft::internal
