// What file_test.cc runs: says how files are read, writes one and reads it back.
//
//   file_program plain
//   file_program io_uring_setup      in a sandbox that refuses this system call
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "netpoll/file.h"
#include "sched/goroutine.h"

namespace {

// EPERM for one system call, from here on.
bool Refuse(uint32_t number) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

int Run() {
  std::printf("%s\n", weft::FilesDescription().c_str());
  const char* const directory = std::getenv("TEST_TMPDIR");
  const std::string path =
      absl::StrCat(directory != nullptr ? directory : "/tmp", "/file_program.", getpid());
  if (!weft::WriteFile(path, "some text").ok()) return 1;
  const absl::StatusOr<std::string> text = weft::ReadFile(path);
  unlink(path.c_str());
  if (!text.ok() || *text != "some text") return 1;
  std::printf("read back\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const absl::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "io_uring_setup" && !Refuse(SYS_io_uring_setup)) return 3;
  if (mode == "io_uring_register" && !Refuse(SYS_io_uring_register)) return 3;
  if (mode == "io_uring_enter" && !Refuse(SYS_io_uring_enter)) return 3;
  return weft::Main([] { return Run(); });
}
