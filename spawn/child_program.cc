// What tests run as a child.
//
//   child_program fds PATH      writes the open descriptors, "<fd> <what>" a line, to the file
//   child_program hang          until its standard input ends
//   child_program trace PID     traces that process, says "tracing", and lets it go when its
//   standard
//                               input ends
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>

namespace {

int ListFiles(const char* path) {
  std::map<int, std::string> files;
  DIR* const dir = opendir("/proc/self/fd");
  if (dir == nullptr) return 1;
  while (const dirent* const entry = readdir(dir)) {
    const int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(dir)) continue;
    char link[512];
    const ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link));
    files[fd] = std::string(link, n < 0 ? 0 : static_cast<size_t>(n));
  }
  closedir(dir);
  FILE* const out = fopen(path, "we");
  if (out == nullptr) return 1;
  for (const auto& [fd, what] : files) fprintf(out, "%d %s\n", fd, what.c_str());
  return fclose(out);
}

int Hang() {
  char buffer[64];
  while (read(0, buffer, sizeof(buffer)) > 0) {
  }
  return 0;
}

int Trace(pid_t pid) {
  if (ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) return 1;
  if (write(1, "tracing\n", 8) != 8) return 2;
  return Hang();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "fds") == 0) return ListFiles(argv[2]);
  if (argc == 2 && strcmp(argv[1], "hang") == 0) return Hang();
  if (argc == 3 && strcmp(argv[1], "trace") == 0) return Trace(atoi(argv[2]));
  return 99;
}
