#include "tools/http/file_handler.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "sched/goroutine.h"
#include "tools/http/conditions.h"
#include "tools/http/content_type.h"
#include "tools/http/date.h"
#include "tools/http/listing.h"
#include "tools/http/range.h"
#include "tools/http/target.h"

namespace weft::http {
namespace {

using Part = Reply::Part;

struct File {
  absl::string_view content_type;
  uint64_t size = 0;
  int64_t modified = 0;
  std::string etag;
  std::string date;
};

File Describe(const struct stat& info, absl::string_view path) {
  File file;
  file.content_type = ContentType(path);
  file.size = static_cast<uint64_t>(info.st_size);
  file.modified = info.st_mtim.tv_sec;
  const uint64_t ns = static_cast<uint64_t>(info.st_mtim.tv_sec) * 1000000000u +
                      static_cast<uint64_t>(info.st_mtim.tv_nsec);
  file.etag = absl::StrCat("\"", absl::Hex(ns), "-", absl::Hex(file.size), "\"");
  AppendHttpDate(file.modified, file.date);
  return file;
}

void AddValidators(const File& file, Reply& reply) {
  AddField("Last-Modified", file.date, reply);
  AddField("ETag", file.etag, reply);
}

std::string ContentRange(const ByteRange& range, uint64_t size) {
  return absl::StrCat("bytes ", range.begin, "-", range.end - 1, "/", size);
}

// As pread(2), announced to the scheduler where the bytes are not in memory (EAGAIN, or a part of
// them), or where the file system cannot say (EOPNOTSUPP).
ssize_t ReadAt(int fd, char* buffer, size_t size, uint64_t offset) {
  const iovec piece = {buffer, size};
  const ssize_t n = preadv2(fd, &piece, 1, static_cast<off_t>(offset), RWF_NOWAIT);
  if (n == static_cast<ssize_t>(size)) return n;
  BlockingSection section;
  return pread(fd, buffer, size, static_cast<off_t>(offset));
}

// Ends the head and adds bytes [begin, end) of the file: read now where they are few, else as a
// part to be sent. A file that has shrunk since it was described is not served: what was promised
// is no longer there.
void FinishWithFile(const ByteRange& range, Reply& reply) {
  const uint64_t size = range.end - range.begin;
  AddField("Content-Length", size, reply);
  EndHead(reply);
  if (reply.head_only || size == 0) {
    reply.file.Reset();
    return;
  }
  reply.body_size = size;
  if (size > FileHandler::kInlineBytes) {
    reply.parts.push_back({{}, range.begin, size});
    return;
  }
  const size_t head = reply.bytes.size();
  reply.bytes.resize(head + size);
  if (ReadAt(reply.file.get(), reply.bytes.data() + head, size, range.begin) !=
      static_cast<ssize_t>(size)) {
    return MakeError(500, "The file could not be read or changed meanwhile", reply);
  }
  reply.file.Reset();
}

void SendWhole(const File& file, Reply& reply) {
  BeginHead(200, reply);
  AddField("Content-Type", file.content_type, reply);
  AddValidators(file, reply);
  AddField("Accept-Ranges", "bytes", reply);
  FinishWithFile({0, file.size}, reply);
}

void SendRange(const File& file, const ByteRange& range, Reply& reply) {
  BeginHead(206, reply);
  AddField("Content-Type", file.content_type, reply);
  AddValidators(file, reply);
  AddField("Content-Range", ContentRange(range, file.size), reply);
  FinishWithFile(range, reply);
}

void SendRanges(const File& file, const ByteRanges& ranges, const std::string& boundary,
                Reply& reply) {
  for (const ByteRange& range : ranges) {
    std::string head =
        absl::StrCat("\r\n--", boundary, "\r\nContent-Type: ", file.content_type,
                     "\r\nContent-Range: ", ContentRange(range, file.size), "\r\n\r\n");
    reply.body_size += head.size() + (range.end - range.begin);
    reply.parts.push_back({std::move(head), range.begin, range.end - range.begin});
  }
  reply.parts.push_back({absl::StrCat("\r\n--", boundary, "--\r\n"), 0, 0});
  reply.body_size += reply.parts.back().text.size();
  BeginHead(206, reply);
  AddField("Content-Type", absl::StrCat("multipart/byteranges; boundary=", boundary), reply);
  AddField("Content-Length", reply.body_size, reply);
  AddValidators(file, reply);
  EndHead(reply);
  if (!reply.head_only) return;
  reply.parts.clear();
  reply.file.Reset();
  reply.body_size = 0;
}

void SendUnsatisfiable(const File& file, Reply& reply) {
  BeginHead(416, reply);
  AddField("Content-Range", absl::StrCat("bytes */", file.size), reply);
  FinishWithText("text/plain; charset=utf-8",
                 absl::StrCat("416 Range Not Satisfiable\n\nThe file has ", file.size, " bytes.\n"),
                 reply);
}

void SendFile(const Request& request, const File& file, const std::string& boundary, Reply& reply) {
  const Validators validators = {file.etag, file.modified};
  switch (CheckPreconditions(request, validators)) {
    case Precondition::kFailed:
      return MakeError(412, "The file is not in the state that the request wants", reply);
    case Precondition::kNotModified:
      BeginHead(304, reply);
      AddValidators(file, reply);
      reply.file.Reset();
      return EndHead(reply);
    case Precondition::kProceed:
      break;
  }
  // Range has a meaning for GET alone (RFC 9110, 14.2).
  if (request.range.empty() || request.method != Method::kGet ||
      !RangeIsFresh(request, validators)) {
    return SendWhole(file, reply);
  }
  ByteRanges ranges;
  switch (ParseRange(request.range, file.size, ranges)) {
    case RangeKind::kWhole:
      return SendWhole(file, reply);
    case RangeKind::kUnsatisfiable:
      return SendUnsatisfiable(file, reply);
    case RangeKind::kPartial:
      break;
  }
  if (ranges.size() == 1) return SendRange(file, ranges[0], reply);
  SendRanges(file, ranges, boundary, reply);
}

// `target` as it was sent, cut and without what a terminal would take for more than text.
std::string Quote(absl::string_view target) {
  constexpr size_t kMost = 200;
  return absl::StrCat(EncodePath(target.substr(0, kMost)), target.size() > kMost ? "..." : "");
}

void RefuseToOpen(int error, const Target& target, Reply& reply) {
  const std::string name = Quote(absl::StrCat("/", target.path));
  switch (error) {
    case EACCES:
    case EPERM:
      return MakeError(403, absl::StrCat(name, " may not be read"), reply);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return MakeError(503, "The server is out of descriptors or memory", reply);
    case EIO:
      return MakeError(500, absl::StrCat(name, " cannot be read"), reply);
    default:
      return MakeError(404, absl::StrCat("There is nothing at ", name), reply);
  }
}

void RedirectToDirectory(const Target& target, Reply& reply) {
  // One slash at the beginning, never two, which would name another host.
  const std::string location = absl::StrCat("/", EncodePath(target.path), "/", target.query);
  BeginHead(301, reply);
  AddField("Location", location, reply);
  FinishWithText("text/plain; charset=utf-8",
                 absl::StrCat("301 Moved Permanently\n\nThe directory is at ", location, "\n"),
                 reply);
}

void SendListing(const Target& target, Fd directory, Reply& reply) {
  absl::StatusOr<std::vector<Entry>> entries = [&directory] {
    BlockingSection section;
    return ReadDirectory(std::move(directory));
  }();
  if (!entries.ok()) return MakeError(500, "The directory cannot be read", reply);
  BeginHead(200, reply);
  // Names come from whoever may write files here: nothing in the page may run.
  AddField("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'", reply);
  FinishWithText("text/html; charset=utf-8", RenderListing(target.path, *entries), reply);
}

std::string MakeBoundary() {
  absl::BitGen random;
  return absl::StrCat(absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16),
                      absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
}

}  // namespace

FileHandler::FileHandler(Root root) : root_(std::move(root)), boundary_(MakeBoundary()) {}

void FileHandler::Handle(const Request& request, Reply& reply) const {
  if (request.method == Method::kUnknown) {
    return MakeError(501, "The method is not known here", reply);
  }
  if (request.method == Method::kOther) {
    return MakeError(405, "Files can only be read: GET and HEAD", reply);
  }
  Target target = ParseTarget(request.target);
  if (target.status != 0) {
    return MakeError(target.status, absl::StrCat("The target is refused: ", target.problem), reply);
  }
  Root::Opened opened = root_.OpenBeneath(target.path);
  struct stat info;
  if (!opened.fd || fstat(opened.fd.get(), &info) != 0) {
    return RefuseToOpen(opened.fd ? errno : opened.error, target, reply);
  }
  absl::string_view name = target.path;
  if (S_ISDIR(info.st_mode)) {
    if (!target.wants_directory) return RedirectToDirectory(target, reply);
    Root::Opened index =
        root_.OpenBeneath(absl::StrCat(target.path, target.path.empty() ? "" : "/", "index.html"));
    if (!index.fd || fstat(index.fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
      return SendListing(target, std::move(opened.fd), reply);
    }
    opened = std::move(index);
    name = "index.html";
  } else if (!S_ISREG(info.st_mode) || target.wants_directory) {
    return RefuseToOpen(ENOENT, target, reply);
  }
  reply.file = std::move(opened.fd);
  SendFile(request, Describe(info, name), boundary_, reply);
}

}  // namespace weft::http
