#include "tools/http/listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "tools/http/target.h"

namespace weft::http {
namespace {

constexpr absl::string_view kStyle =
    "body{font:15px system-ui,sans-serif;margin:2em}"
    "td{padding:.1em 2em .1em 0}td+td{color:#666;text-align:right;white-space:nowrap}"
    "a{text-decoration:none}a:hover{text-decoration:underline}";

Entry::Kind KindOf(mode_t mode) {
  if (S_ISREG(mode)) return Entry::Kind::kFile;
  if (S_ISDIR(mode)) return Entry::Kind::kDirectory;
  if (S_ISLNK(mode)) return Entry::Kind::kLink;
  return Entry::Kind::kOther;
}

void AppendRow(const Entry& entry, std::string& page) {
  const absl::string_view slash = entry.kind == Entry::Kind::kDirectory ? "/" : "";
  absl::StrAppend(&page, "<tr><td><a href=\"", EncodePath(entry.name), slash, "\">",
                  EscapeHtml(entry.name), slash, "</a></td><td>");
  if (entry.kind == Entry::Kind::kFile) absl::StrAppend(&page, entry.size);
  const absl::CivilMinute modified(absl::CivilSecond(1970, 1, 1) + entry.modified);
  absl::StrAppend(&page, "</td><td>", absl::FormatCivilTime(modified), "Z</td></tr>\n");
}

}  // namespace

absl::StatusOr<std::vector<Entry>> ReadDirectory(Fd directory) {
  const int fd = directory.get();
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd), &closedir);
  if (stream == nullptr) return absl::ErrnoToStatus(errno, "fdopendir");
  directory.Release();  // the stream's now
  std::vector<Entry> entries;
  while (entries.size() <= kMaxListed) {
    errno = 0;
    const dirent* item = readdir(stream.get());
    if (item == nullptr) {
      if (errno != 0) return absl::ErrnoToStatus(errno, "readdir");
      break;
    }
    const absl::string_view name = item->d_name;
    if (name == "." || name == "..") continue;
    struct stat info;
    // Gone since, or not ours to know about.
    if (fstatat(fd, item->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    entries.push_back({std::string(name), KindOf(info.st_mode), static_cast<uint64_t>(info.st_size),
                       info.st_mtim.tv_sec});
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return entries;
}

std::string RenderListing(absl::string_view path, const std::vector<Entry>& entries) {
  const std::string title = EscapeHtml(absl::StrCat("/", path, path.empty() ? "" : "/"));
  std::string page = absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
      title, "</title>\n<style>", kStyle, "</style></head>\n<body><h1>", title, "</h1>\n<table>\n");
  if (!path.empty()) page.append("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
  const size_t shown = std::min(entries.size(), kMaxListed);
  for (size_t i = 0; i < shown; ++i) AppendRow(entries[i], page);
  page.append("</table>\n");
  if (shown < entries.size()) {
    absl::StrAppend(&page, "<p>There are more; ", shown, " are shown.</p>\n");
  }
  page.append("</body></html>\n");
  return page;
}

}  // namespace weft::http
