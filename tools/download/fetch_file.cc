#include "tools/download/fetch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "chan/select.h"
#include "netpoll/file.h"
#include "sched/sync/semaphore.h"
#include "tools/download/curl_loop.h"

namespace weft::download {
namespace {

// "bytes 5-9/10" and "bytes */10".
bool ParseContentRange(absl::string_view text, int64_t* first, int64_t* total) {
  if (!absl::StartsWith(text, "bytes ")) return false;
  const std::vector<absl::string_view> parts = absl::StrSplit(text.substr(6), '/');
  if (parts.size() != 2) return false;
  if (!absl::SimpleAtoi(parts[1], total)) *total = -1;
  *first = -1;
  if (parts[0] == "*") return true;
  const std::vector<absl::string_view> ends = absl::StrSplit(parts[0], '-');
  return ends.size() == 2 && absl::SimpleAtoi(ends[0], first);
}

bool MayPass(long status) {
  return status == 408 || status == 425 || status == 429 || status >= 500;
}

// Opening, renaming and the like block a thread each, unlike reads and writes: a few at a time, or
// a thousand downloads that begin would take a thousand threads.
class NameTurn {
 public:
  NameTurn() { Turns().Acquire(1); }
  ~NameTurn() { Turns().Release(1); }
  NameTurn(const NameTurn&) = delete;
  NameTurn& operator=(const NameTurn&) = delete;

 private:
  static Semaphore& Turns() {
    static auto* turns = new Semaphore(/*size=*/2);
    return *turns;
  }
};

class Attempts {
 public:
  Attempts(const Context& context, const Item& item, const FetchOptions& options,
           Progress& progress)
      : context_(context),
        item_(item),
        options_(options),
        progress_(progress),
        path_(absl::StrCat(options.directory, "/", item.name)),
        part_(absl::StrCat(path_, ".part")),
        etag_path_(absl::StrCat(part_, ".etag")) {}

  absl::Status Run() {
    if (absl::Status s = OpenPart(); !s.ok()) return s;
    std::minstd_rand random{std::random_device()()};
    absl::Duration backoff = options_.backoff;
    for (int fruitless = 0;;) {
      if (!context_.Err().ok()) return context_.Err();
      const int64_t before = progress_.received.load();
      progress_.attempts.fetch_add(1);
      const absl::Status status = Once();
      if (status.ok()) return Finish();
      if (!absl::IsUnavailable(status)) return status;
      if (progress_.received.load() != before) {
        fruitless = 0;
        backoff = options_.backoff;
        continue;
      }
      if (++fruitless > options_.retries) return status;
      const double share = std::uniform_real_distribution<double>(0.5, 1)(random);
      if (!Pause(backoff * share)) return context_.Err();
      backoff = std::min(2 * backoff, options_.max_backoff);
    }
  }

 private:
  absl::Status OpenPart() {
    const NameTurn turn;
    absl::StatusOr<File> file = OpenFile(part_, O_RDWR | O_CREAT);
    if (!file.ok()) return file.status();
    file_ = *std::move(file);
    const absl::StatusOr<std::string> etag = ReadFile(etag_path_);
    const absl::StatusOr<int64_t> size = file_.Seek(0, SEEK_END);
    if (!size.ok()) return size.status();
    if (options_.resume && etag.ok() && !etag->empty()) {
      etag_ = *etag;
      offset_ = *size;
    }
    return absl::OkStatus();
  }

  // True: the time is over. False: the context is done.
  bool Pause(absl::Duration time) {
    bool over = false;
    Select(context_.Done().OnRecv(), After(time, [&] { over = true; }));
    return over;
  }

  // Begins the part anew.
  absl::Status Clear() {
    const NameTurn turn;
    offset_ = 0;
    return file_.Truncate(0);
  }

  absl::Status Once() {
    Request request = {.url = item_.url};
    request.connect_timeout = options_.timeout;
    request.stall_timeout = std::max(options_.timeout, absl::Seconds(1));
    if (etag_.empty() && offset_ > 0) {
      if (absl::Status s = Clear(); !s.ok()) return s;
    }
    if (offset_ > 0) {
      request.fields = {absl::StrCat("Range: bytes=", offset_, "-"),
                        absl::StrCat("If-Range: ", etag_)};
    }
    const std::shared_ptr<Transfer> transfer = CurlLoop::Get().Start(request);
    // Ends what waits when the context is done.
    const StopFunc stop = AfterFunc(context_, [transfer] { transfer->Cancel(); });
    const absl::Status status = Receive(*transfer);
    if (!status.ok()) transfer->Cancel();
    stop();
    return context_.Err().ok() ? status : context_.Err();
  }

  absl::Status Receive(Transfer& transfer) {
    std::optional<std::string> piece = transfer.Next();
    const long code = transfer.status();
    if (code == 0) return transfer.Result();
    if (code == 416 && offset_ > 0) {
      int64_t first = -1;
      int64_t total = -1;
      ParseContentRange(transfer.content_range(), &first, &total);
      if (total == offset_) return absl::OkStatus();  // there is no more
      if (absl::Status s = Clear(); !s.ok()) return s;
      return absl::UnavailableError("the part does not fit the file, which begins anew");
    }
    if (code != 200 && code != 206) {
      const std::string text = absl::StrCat("the server answers ", code);
      return MayPass(code) ? absl::UnavailableError(text) : absl::UnknownError(text);
    }
    if (absl::Status s = Begin(transfer, code); !s.ok()) return s;
    for (; piece.has_value(); piece = transfer.Next()) {
      if (absl::Status s = file_.Pwrite(*piece, offset_); !s.ok()) return s;
      offset_ += static_cast<int64_t>(piece->size());
      progress_.done.store(offset_);
      progress_.received.fetch_add(static_cast<int64_t>(piece->size()));
    }
    return transfer.Result();
  }

  // Before the first piece is written.
  absl::Status Begin(const Transfer& transfer, long code) {
    int64_t total = transfer.content_length();
    if (code == 206) {
      int64_t first = -1;
      if (!ParseContentRange(transfer.content_range(), &first, &total) || first != offset_) {
        return absl::UnknownError(absl::StrCat("the server sends '", transfer.content_range(),
                                               "' where bytes from ", offset_, " were asked for"));
      }
    } else if (absl::Status s = Clear(); !s.ok()) {
      return s;
    }
    progress_.total.store(total);
    progress_.done.store(offset_);
    // A weak one does not say that the bytes are the same.
    const std::string etag = absl::StartsWith(transfer.etag(), "W/") ? "" : transfer.etag();
    if (etag == etag_) return absl::OkStatus();
    etag_ = etag;
    const NameTurn turn;
    return WriteFile(etag_path_, etag_);
  }

  absl::Status Finish() {
    if (absl::Status s = file_.Close(); !s.ok()) return s;
    if (!item_.sha256.empty()) {
      const absl::StatusOr<std::string> sum = Sha256(part_);
      if (!sum.ok()) return sum.status();
      if (*sum != item_.sha256) {
        unlink(part_.c_str());
        unlink(etag_path_.c_str());
        return absl::DataLossError(absl::StrCat("its SHA-256 is ", *sum, ", not ", item_.sha256));
      }
    }
    const NameTurn turn;
    if (rename(part_.c_str(), path_.c_str()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", part_));
    }
    unlink(etag_path_.c_str());
    return absl::OkStatus();
  }

  const Context& context_;
  const Item& item_;
  const FetchOptions& options_;
  Progress& progress_;
  const std::string path_;
  const std::string part_;
  const std::string etag_path_;
  File file_;
  std::string etag_;
  int64_t offset_ = 0;  // what the part has
};

}  // namespace

std::string NameOf(absl::string_view url) {
  url = url.substr(0, url.find_first_of("?#"));
  const size_t scheme = url.find("://");
  if (scheme == absl::string_view::npos) return "";
  url.remove_prefix(scheme + 3);
  const size_t slash = url.rfind('/');
  if (slash == absl::string_view::npos) return "";
  const std::string name(url.substr(slash + 1));
  return name == "." || name == ".." ? "" : name;
}

absl::Status FetchFile(const Context& context, const Item& item, const FetchOptions& options,
                       Progress& progress) {
  return Attempts(context, item, options, progress).Run();
}

absl::StatusOr<std::string> Sha256(const std::string& path) {
  absl::StatusOr<File> file = Open(path);
  if (!file.ok()) return file.status();
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> digest(EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free);
  EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr);
  std::vector<char> buffer(256 << 10);
  for (;;) {
    const absl::StatusOr<size_t> n = file->Read(absl::MakeSpan(buffer));
    if (!n.ok()) return n.status();
    if (*n == 0) break;
    EVP_DigestUpdate(digest.get(), buffer.data(), *n);
  }
  unsigned char sum[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(digest.get(), sum, &size);
  return absl::BytesToHexString({reinterpret_cast<const char*>(sum), size});
}

}  // namespace weft::download
