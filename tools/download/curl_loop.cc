#include "tools/download/curl_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "netpoll/pollfd.h"
#include "sched/goroutine.h"

namespace weft::download {
namespace {

constexpr uint64_t kWake = ~uint64_t{0};

// The value of a field if `line` is that one.
bool Field(absl::string_view line, absl::string_view name, std::string* value) {
  if (!absl::StartsWithIgnoreCase(line, name)) return false;
  line.remove_prefix(name.size());
  if (line.empty() || line[0] != ':') return false;
  *value = std::string(absl::StripAsciiWhitespace(line.substr(1)));
  return true;
}

bool IsPassing(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

}  // namespace

Transfer::Transfer(const Request& request) : easy_(curl_easy_init()) {
  for (const std::string& field : request.fields) {
    fields_ = curl_slist_append(fields_, field.c_str());
  }
  curl_easy_setopt(easy_, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy_, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy_, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy_, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(easy_, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(easy_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy_, CURLOPT_BUFFERSIZE, 64L << 10);
  curl_easy_setopt(easy_, CURLOPT_USERAGENT, "weft-fetch");
  curl_easy_setopt(easy_, CURLOPT_HTTPHEADER, fields_);
  curl_easy_setopt(easy_, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(absl::ToInt64Milliseconds(request.connect_timeout)));
  curl_easy_setopt(easy_, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(easy_, CURLOPT_LOW_SPEED_TIME,
                   static_cast<long>(absl::ToInt64Seconds(request.stall_timeout)));
  curl_easy_setopt(easy_, CURLOPT_ERRORBUFFER, error_);
  curl_easy_setopt(easy_, CURLOPT_HEADERFUNCTION, OnHeader);
  curl_easy_setopt(easy_, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(easy_, CURLOPT_WRITEFUNCTION, OnBody);
  curl_easy_setopt(easy_, CURLOPT_WRITEDATA, this);
}

Transfer::~Transfer() {
  curl_easy_cleanup(easy_);
  curl_slist_free_all(fields_);
}

size_t Transfer::OnHeader(char* data, size_t size, size_t count, void* self) {
  auto* const transfer = static_cast<Transfer*>(self);
  const absl::string_view line(data, size * count);
  std::string length;
  if (absl::StartsWith(line, "HTTP/")) {
    // Another answer, after a redirection.
    transfer->etag_.clear();
    transfer->content_range_.clear();
    transfer->content_length_ = -1;
    transfer->head_ended_ = false;
  } else if (line == "\r\n" || line == "\n") {
    transfer->head_ended_ = true;
  } else if (Field(line, "Content-Length", &length)) {
    if (!absl::SimpleAtoi(length, &transfer->content_length_)) transfer->content_length_ = -1;
  } else if (!Field(line, "ETag", &transfer->etag_)) {
    Field(line, "Content-Range", &transfer->content_range_);
  }
  return line.size();
}

size_t Transfer::OnBody(char* data, size_t size, size_t count, void* self) {
  auto* const transfer = static_cast<Transfer*>(self);
  if (transfer->status_ == 0) {
    curl_easy_getinfo(transfer->easy_, CURLINFO_RESPONSE_CODE, &transfer->status_);
  }
  // Before the try: a reader who takes a piece after it has failed sees the flag.
  transfer->paused_.store(true, std::memory_order_seq_cst);
  if (transfer->body_.TrySend(std::string(data, size * count)) == TryResult::kWouldBlock) {
    return CURL_WRITEFUNC_PAUSE;
  }
  transfer->paused_.store(false, std::memory_order_seq_cst);
  return size * count;
}

std::optional<std::string> Transfer::Next() {
  std::optional<std::string> piece = body_.Recv();
  if (piece.has_value() && paused_.exchange(false, std::memory_order_seq_cst)) {
    CurlLoop::Get().Post({.order = CurlLoop::Order::kResume, .transfer = nullptr, .target = this});
  }
  return piece;
}

void Transfer::Cancel() {
  CurlLoop::Get().Post({.order = CurlLoop::Order::kCancel, .transfer = nullptr, .target = this});
}

CurlLoop& CurlLoop::Get() {
  static CurlLoop* const loop = [] {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return new CurlLoop;
  }();
  return *loop;
}

CurlLoop::CurlLoop()
    : multi_(curl_multi_init()),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, OnSocket);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, OnTimer);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kWake;
  epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event);
  Go({.name = "curl"}, [this] { Run(); });
}

std::shared_ptr<Transfer> CurlLoop::Start(const Request& request) {
  std::shared_ptr<Transfer> transfer(new Transfer(request));
  Post({.order = Order::kStart, .transfer = transfer, .target = transfer.get()});
  return transfer;
}

void CurlLoop::Post(Command command) {
  {
    const MutexLock lock(mutex_);
    commands_.push_back(std::move(command));
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_fd_, &one, sizeof(one));
}

int CurlLoop::OnSocket(CURL*, curl_socket_t socket, int what, void* self, void*) {
  const int epoll_fd = static_cast<CurlLoop*>(self)->epoll_fd_;
  epoll_event event = {};
  event.data.u64 = static_cast<uint64_t>(socket);
  if ((what & CURL_POLL_IN) != 0) event.events |= EPOLLIN;
  if ((what & CURL_POLL_OUT) != 0) event.events |= EPOLLOUT;
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, socket, &event);
  } else if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, socket, &event) != 0) {
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, socket, &event);
  }
  return 0;
}

int CurlLoop::OnTimer(CURLM*, long milliseconds, void* self) {
  static_cast<CurlLoop*>(self)->deadline_ =
      milliseconds < 0 ? absl::InfiniteFuture() : absl::Now() + absl::Milliseconds(milliseconds);
  return 0;
}

void CurlLoop::Run() {
  for (;;) {
    // A timeout, or not: both are looked at.
    PollFd(epoll_fd_, kReadable, deadline_).status().IgnoreError();
    epoll_event events[64];
    const int n = epoll_wait(epoll_fd_, events, 64, 0);
    int running;
    for (int i = 0; i < n; ++i) {
      if (events[i].data.u64 == kWake) {
        uint64_t count;
        [[maybe_unused]] const ssize_t bytes = read(wake_fd_, &count, sizeof(count));
        continue;
      }
      int what = 0;
      if ((events[i].events & EPOLLIN) != 0) what |= CURL_CSELECT_IN;
      if ((events[i].events & EPOLLOUT) != 0) what |= CURL_CSELECT_OUT;
      if ((events[i].events & (EPOLLERR | EPOLLHUP)) != 0) what |= CURL_CSELECT_ERR;
      curl_multi_socket_action(multi_, static_cast<curl_socket_t>(events[i].data.u64), what,
                               &running);
    }
    if (deadline_ <= absl::Now()) {
      deadline_ = absl::InfiniteFuture();
      curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    std::vector<Command> commands;
    {
      const MutexLock lock(mutex_);
      commands.swap(commands_);
    }
    for (const Command& command : commands) Carry(command);
    int left;
    while (const CURLMsg* const message = curl_multi_info_read(multi_, &left)) {
      if (message->msg == CURLMSG_DONE) End(message->easy_handle, message->data.result);
    }
  }
}

// Targets whose transfer has ended are not looked into, as they may be gone.
void CurlLoop::Carry(const Command& command) {
  if (command.order == Order::kStart) {
    CURL* const easy = command.transfer->easy_;
    transfers_.emplace(easy, command.transfer);
    curl_multi_add_handle(multi_, easy);
    return;
  }
  for (const auto& [easy, transfer] : transfers_) {
    if (transfer.get() != command.target) continue;
    if (command.order == Order::kResume) {
      curl_easy_pause(easy, CURLPAUSE_CONT);
    } else {
      End(easy, CURLE_ABORTED_BY_CALLBACK);
    }
    return;
  }
}

void CurlLoop::End(CURL* easy, CURLcode code) {
  const auto found = transfers_.find(easy);
  if (found == transfers_.end()) return;
  Transfer& transfer = *found->second;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &transfer.status_);
  curl_multi_remove_handle(multi_, easy);
  if (code != CURLE_OK) {
    const absl::string_view text =
        transfer.error_[0] != '\0' ? transfer.error_ : curl_easy_strerror(code);
    transfer.result_ = absl::Status(
        IsPassing(code) ? absl::StatusCode::kUnavailable : absl::StatusCode::kUnknown, text);
  } else if (!transfer.head_ended_) {
    // What curl takes for a whole answer without a body.
    transfer.result_ = absl::UnavailableError("the connection ended within the answer's head");
  }
  transfer.body_.Close();
  transfers_.erase(found);
}

}  // namespace weft::download
