// A log of requests in the Common Log Format:
//
//   127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a.png HTTP/1.0" 200 2326
//
//   absl::StatusOr<std::unique_ptr<AccessLog>> log = AccessLog::Open("-");
//   (*log)->Add({.client = "127.0.0.1", .method = "GET", ...});
//
// Lines are collected in memory and written by a thread of the log's own, so that a slow disk or a
// reader that has stopped reading never holds up who serves. They appear within 50 ms. Where the
// reader falls behind by more than kMaxBacklog bytes, lines are dropped, and a line says how many.
#ifndef WEFT_TOOLS_HTTP_ACCESS_LOG_H_
#define WEFT_TOOLS_HTTP_ACCESS_LOG_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tools/http/fd.h"

namespace weft::http {

class AccessLog {
 public:
  static constexpr size_t kMaxBacklog = 4 << 20;

  // What is not known is empty, and logged as "-".
  struct Line {
    absl::string_view client = {};
    absl::string_view method = {};
    absl::string_view target = {};
    absl::string_view version = {};
    int status = 0;
    uint64_t body_size = 0;
    absl::Time time = absl::Now();
  };

  // Opens `path` for appending, creating it if need be; "-" is standard output. Errors: the
  // system's, with the path.
  static absl::StatusOr<std::unique_ptr<AccessLog>> Open(const std::string& path);

  // Logs to a descriptor, which it takes over.
  explicit AccessLog(Fd file);

  // As Close().
  ~AccessLog();

  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  // Adds a line. From goroutines and threads; takes a lock for a moment, never parks. What came
  // from the client is escaped, so that a line stays one line.
  void Add(const Line& line);

  // Writes what there is, for up to a second, and stops: a reader that does not read is not waited
  // for any longer. Lines added later are lost.
  void Close();

 private:
  // What the writing thread uses. It may outlive the log, stuck in a write.
  struct Shared;

  static void WriteLoop(std::shared_ptr<Shared> shared);

  std::shared_ptr<Shared> shared_;
  std::thread writer_;
};

// One line, its end included. Pure but for the time zone, which is the process's.
std::string FormatLine(const AccessLog::Line& line);

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_ACCESS_LOG_H_
