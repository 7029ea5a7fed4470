#include "tools/http/content_type.h"

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "absl/strings/ascii.h"

namespace weft::http {
namespace {

constexpr absl::string_view kText = "text/plain; charset=utf-8";
constexpr absl::string_view kHtml = "text/html; charset=utf-8";
constexpr absl::string_view kUnknown = "application/octet-stream";

struct Entry {
  absl::string_view key;
  absl::string_view type;
};

constexpr bool ByKey(const Entry& a, const Entry& b) { return a.key < b.key; }

// By extension in lower case. The types are those that IANA has registered, where there is one.
constexpr Entry kExtensions[] = {
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"adoc", kText},
    {"apng", "image/apng"},
    {"asm", kText},
    {"atom", "application/atom+xml"},
    {"avi", "video/x-msvideo"},
    {"avif", "image/avif"},
    {"awk", kText},
    {"bash", kText},
    {"bat", kText},
    {"bazel", kText},
    {"bmp", "image/bmp"},
    {"bnf", kText},
    {"bz2", "application/x-bzip2"},
    {"bzl", kText},
    {"c", kText},
    {"cc", kText},
    {"cfg", kText},
    {"clj", kText},
    {"cmake", kText},
    {"conf", kText},
    {"cpp", kText},
    {"cs", kText},
    {"css", "text/css; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"cxx", kText},
    {"deb", "application/vnd.debian.binary-package"},
    {"diff", kText},
    {"doc", "application/msword"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"el", kText},
    {"epub", "application/epub+zip"},
    {"fish", kText},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"go", kText},
    {"gradle", kText},
    {"gz", "application/gzip"},
    {"h", kText},
    {"hh", kText},
    {"hpp", kText},
    {"hs", kText},
    {"htm", kHtml},
    {"html", kHtml},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar; charset=utf-8"},
    {"in", kText},
    {"inc", kText},
    {"ini", kText},
    {"jar", "application/java-archive"},
    {"java", kText},
    {"jl", kText},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"jsonl", kText},
    {"jxl", "image/jxl"},
    {"kt", kText},
    {"ld", kText},
    {"lisp", kText},
    {"log", kText},
    {"lua", kText},
    {"m", kText},
    {"m3u8", "application/vnd.apple.mpegurl"},
    {"m4a", "audio/mp4"},
    {"m4v", "video/mp4"},
    {"make", kText},
    {"map", "application/json"},
    {"md", kText},
    {"mid", "audio/midi"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"mk", kText},
    {"mkv", "video/matroska"},
    {"ml", kText},
    {"mm", kText},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"mpg", "video/mpeg"},
    {"ods", "application/vnd.oasis.opendocument.spreadsheet"},
    {"odt", "application/vnd.oasis.opendocument.text"},
    {"oga", "audio/ogg"},
    {"ogg", "audio/ogg"},
    {"ogv", "video/ogg"},
    {"opus", "audio/ogg"},
    {"otf", "font/otf"},
    {"patch", kText},
    {"pdf", "application/pdf"},
    {"php", kText},
    {"pl", kText},
    {"pm", kText},
    {"pml", kText},
    {"png", "image/png"},
    {"ppt", "application/vnd.ms-powerpoint"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"proto", kText},
    {"ps", "application/postscript"},
    {"py", kText},
    {"r", kText},
    {"rake", kText},
    {"rar", "application/vnd.rar"},
    {"rb", kText},
    {"rs", kText},
    {"rss", "application/rss+xml"},
    {"rst", kText},
    {"rtf", "application/rtf"},
    {"s", kText},
    {"scala", kText},
    {"sh", kText},
    {"sql", kText},
    {"srt", kText},
    {"star", kText},
    {"svg", "image/svg+xml"},
    {"swift", kText},
    {"tar", "application/x-tar"},
    {"tcl", kText},
    {"tex", kText},
    {"text", kText},
    {"tgz", "application/gzip"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"toml", kText},
    {"ts", kText},
    {"tsv", "text/tab-separated-values; charset=utf-8"},
    {"tsx", kText},
    {"ttc", "font/collection"},
    {"ttf", "font/ttf"},
    {"txt", kText},
    {"vim", kText},
    {"vtt", "text/vtt; charset=utf-8"},
    {"wasm", "application/wasm"},
    {"wav", "audio/wav"},
    {"weba", "audio/webm"},
    {"webm", "video/webm"},
    {"webmanifest", "application/manifest+json"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xhtml", "application/xhtml+xml"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"xml", "text/xml; charset=utf-8"},
    {"xsl", "text/xml; charset=utf-8"},
    {"xz", "application/x-xz"},
    {"yaml", kText},
    {"yml", kText},
    {"zig", kText},
    {"zip", "application/zip"},
    {"zsh", kText},
    {"zst", "application/zstd"},
};
static_assert(std::is_sorted(std::begin(kExtensions), std::end(kExtensions), ByKey));

// Names without an extension that are text by custom.
constexpr Entry kNames[] = {
    {"AUTHORS", kText},    {"BUILD", kText},        {"CHANGELOG", kText}, {"CHANGES", kText},
    {"CODEOWNERS", kText}, {"CONTRIBUTING", kText}, {"COPYING", kText},   {"Dockerfile", kText},
    {"INSTALL", kText},    {"LICENSE", kText},      {"Makefile", kText},  {"NEWS", kText},
    {"NOTICE", kText},     {"OWNERS", kText},       {"README", kText},    {"TODO", kText},
    {"VERSION", kText},    {"WORKSPACE", kText},
};
static_assert(std::is_sorted(std::begin(kNames), std::end(kNames), ByKey));

template <size_t N>
absl::string_view Find(const Entry (&table)[N], absl::string_view key) {
  const Entry* found = std::lower_bound(std::begin(table), std::end(table), Entry{key, {}}, ByKey);
  return found != std::end(table) && found->key == key ? found->type : kUnknown;
}

}  // namespace

absl::string_view ContentType(absl::string_view path) {
  const absl::string_view name = path.substr(path.rfind('/') + 1);
  const size_t dot = name.rfind('.');
  if (dot == absl::string_view::npos) return Find(kNames, name);
  char extension[12];  // longer than any in the table
  const absl::string_view suffix = name.substr(dot + 1);
  if (suffix.size() > sizeof(extension)) return kUnknown;
  std::transform(suffix.begin(), suffix.end(), extension,
                 [](char c) { return absl::ascii_tolower(c); });
  return Find(kExtensions, {extension, suffix.size()});
}

}  // namespace weft::http
