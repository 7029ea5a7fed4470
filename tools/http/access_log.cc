#include "tools/http/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weft::http {
namespace {

constexpr std::chrono::milliseconds kPause(50);

// Appends `text`, with what could end the line, the quotes, or disturb a terminal as \xHH.
void AppendEscaped(absl::string_view text, std::string& out) {
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7F || c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\x", absl::Hex(byte, absl::kZeroPad2));
    } else {
      out.push_back(c);
    }
  }
}

// False: nobody will ever read it.
bool WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EAGAIN) {  // somebody made the terminal non-blocking
      std::this_thread::sleep_for(kPause);
      continue;
    }
    if (n < 0 && errno != EINTR) return false;
    if (n > 0) text.remove_prefix(n);
  }
  return true;
}

}  // namespace

struct AccessLog::Shared {
  Fd file;
  std::mutex mutex;
  std::condition_variable wake;  // the writer waits for lines, or for the end
  std::condition_variable done;
  std::string lines;
  uint64_t dropped = 0;
  bool waiting = false;  // the writer is in wake.wait()
  bool closing = false;
  bool finished = false;
};

std::string FormatLine(const AccessLog::Line& line) {
  std::string text = absl::StrCat(line.client.empty() ? "-" : line.client, " - - [");
  text.append(absl::FormatTime("%d/%b/%Y:%H:%M:%S %z", line.time, absl::LocalTimeZone()));
  text.append("] \"");
  if (line.method.empty()) {
    text.push_back('-');
  } else {
    AppendEscaped(line.method, text);
    text.push_back(' ');
    AppendEscaped(line.target, text);
    text.push_back(' ');
    AppendEscaped(line.version, text);
  }
  absl::StrAppend(&text, "\" ", line.status, " ", line.body_size, "\n");
  return text;
}

absl::StatusOr<std::unique_ptr<AccessLog>> AccessLog::Open(const std::string& path) {
  Fd file(path == "-" ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0)
                      : open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  if (!file) {
    const int error = errno;
    return absl::ErrnoToStatus(error, absl::StrCat("cannot open access log ", path));
  }
  return std::make_unique<AccessLog>(std::move(file));
}

AccessLog::AccessLog(Fd file) : shared_(std::make_shared<Shared>()) {
  shared_->file = std::move(file);
  writer_ = std::thread(&AccessLog::WriteLoop, shared_);
}

AccessLog::~AccessLog() { Close(); }

void AccessLog::Add(const Line& line) {
  const std::string text = FormatLine(line);
  std::unique_lock<std::mutex> lock(shared_->mutex);
  if (shared_->lines.size() + text.size() > kMaxBacklog) {
    ++shared_->dropped;
    return;
  }
  shared_->lines.append(text);
  if (!shared_->waiting) return;
  shared_->waiting = false;
  lock.unlock();
  shared_->wake.notify_one();
}

void AccessLog::Close() {
  if (!writer_.joinable()) return;
  std::unique_lock<std::mutex> lock(shared_->mutex);
  shared_->closing = true;
  shared_->wake.notify_one();
  const bool finished =
      shared_->done.wait_for(lock, std::chrono::seconds(1), [this] { return shared_->finished; });
  lock.unlock();
  if (finished) {
    writer_.join();
  } else {
    writer_.detach();
  }
}

void AccessLog::WriteLoop(std::shared_ptr<Shared> shared) {
  // SIGPIPE above all, where the program does not ignore it; the rest is others' business.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock<std::mutex> lock(shared->mutex);
  bool readable = true;
  while (readable) {
    if (shared->lines.empty()) {
      if (shared->closing) break;
      shared->waiting = true;
      shared->wake.wait(lock);
      shared->waiting = false;
      continue;
    }
    std::string lines = std::exchange(shared->lines, {});
    const uint64_t dropped = std::exchange(shared->dropped, 0);
    lock.unlock();
    if (dropped > 0) absl::StrAppend(&lines, "# ", dropped, " lines dropped\n");
    readable = WriteAll(shared->file.get(), lines);
    lock.lock();
    // Let lines gather instead of waking up for each of them.
    shared->wake.wait_for(lock, kPause, [&shared] { return shared->closing; });
  }
  shared->finished = true;
  shared->done.notify_all();
}

}  // namespace weft::http
