// libcurl's transfers, each read by a goroutine as it comes.
//
//   std::shared_ptr<Transfer> transfer = CurlLoop::Get().Start({.url = "http://host/file"});
//   while (std::optional<std::string> piece = transfer->Next()) ...
//   absl::Status status = transfer->Result();
//
// One goroutine drives curl's multi interface: curl says which sockets it waits for, these are in
// an epoll set of the loop's own, and PollFd() waits for that set, until the time that curl names.
// So any number of transfers takes no thread. A transfer whose reader does not keep up is paused.
#ifndef WEFT_TOOLS_DOWNLOAD_CURL_LOOP_H_
#define WEFT_TOOLS_DOWNLOAD_CURL_LOOP_H_

#include <curl/curl.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "sched/sync/mutex.h"

namespace weft::download {

struct Request {
  std::string url;  // http or https; redirections are followed
  std::vector<std::string> fields = {};
  absl::Duration connect_timeout = absl::Seconds(30);
  // It fails when nothing has come for so long; whole seconds.
  absl::Duration stall_timeout = absl::Seconds(30);
};

class Transfer {
 public:
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // The next piece of the body, or nothing when it has ended. Parks. One caller at a time.
  std::optional<std::string> Next();

  // Ends it, if it has not: Next() returns what has come, and then nothing. From anybody.
  void Cancel();

  // How it has ended; after Next() has returned nothing. Unavailable for what may go better another
  // time: connections that fail, break or stall. An answer of any status is Ok.
  const absl::Status& Result() const { return result_; }

  // Known when Next() has returned for the first time. Status 0: there was no answer.
  long status() const { return status_; }
  const std::string& etag() const { return etag_; }
  const std::string& content_range() const { return content_range_; }
  // -1: not told.
  int64_t content_length() const { return content_length_; }

 private:
  friend class CurlLoop;

  explicit Transfer(const Request& request);
  static size_t OnHeader(char* data, size_t size, size_t count, void* self);
  static size_t OnBody(char* data, size_t size, size_t count, void* self);

  CURL* const easy_;
  curl_slist* fields_ = nullptr;
  char error_[CURL_ERROR_SIZE] = {};
  const Chan<std::string> body_{16};
  // The reader has to have curl go on.
  std::atomic<bool> paused_{false};

  // Written by the loop before it sends the first piece, or ends the body.
  long status_ = 0;
  std::string etag_;
  std::string content_range_;
  int64_t content_length_ = -1;
  bool head_ended_ = false;
  absl::Status result_;
};

class CurlLoop {
 public:
  // The program's, which lasts until its end.
  static CurlLoop& Get();

  std::shared_ptr<Transfer> Start(const Request& request);

 private:
  friend class Transfer;
  enum class Order { kStart, kResume, kCancel };
  struct Command {
    Order order;
    std::shared_ptr<Transfer> transfer;  // of kStart
    Transfer* target = nullptr;
  };

  CurlLoop();
  void Post(Command command);
  [[noreturn]] void Run();
  void Carry(const Command& command);
  void End(CURL* easy, CURLcode code);
  static int OnSocket(CURL* easy, curl_socket_t socket, int what, void* self, void* known);
  static int OnTimer(CURLM* multi, long milliseconds, void* self);

  CURLM* const multi_;
  const int epoll_fd_;
  const int wake_fd_;
  absl::Time deadline_ = absl::InfiniteFuture();
  // Under way: of the loop's goroutine.
  std::unordered_map<CURL*, std::shared_ptr<Transfer>> transfers_;

  Mutex mutex_;
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weft::download

#endif  // WEFT_TOOLS_DOWNLOAD_CURL_LOOP_H_
