#include "debug/http/page.h"

#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/str_format.h"

namespace weft::debug::internal {
namespace {

struct Link {
  Literal path;
  Literal name;
};

constexpr Link kLinks[] = {
    {"/debug/goroutines", "goroutines"}, {"/debug/sched", "sched"}, {"/debug/stacks", "stacks"},
    {"/debug/netpoll", "netpoll"},       {"/debug/vars", "vars"},   {"/debug/metrics", "metrics"},
    {"/debug/pprof/", "pprof"},
};

}  // namespace

HttpReply Page(absl::string_view title, const Html& body) {
  Html page;
  page.Markup(
          "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n"
          "<link rel=\"icon\" href=\"data:,\">\n"
          "<link rel=\"stylesheet\" href=\"/debug/page.css\">\n"
          "<script src=\"/debug/page.js\" defer></script>\n<title>")
      .Text(title)
      .Markup(" - ")
      .Text(program_invocation_short_name)
      .Markup("</title>\n</head>\n<body>\n<nav><a class=\"home\" href=\"/debug/\">")
      .Text(program_invocation_short_name)
      .Markup("</a>");
  for (const Link& link : kLinks) {
    page.Markup(" <a href=\"").Markup(link.path).Markup("\"");
    if (link.name.text() == title) page.Markup(" aria-current=\"page\"");
    page.Markup(">").Markup(link.name).Markup("</a>");
  }
  page.Markup("</nav>\n<main>\n").Add(body).Markup("</main>\n</body>\n</html>\n");
  HttpReply reply;
  reply.content_type = "text/html; charset=utf-8";
  reply.body = page.text();
  return reply;
}

HttpReply PlainText(std::string text) {
  HttpReply reply;
  reply.body = std::move(text);
  return reply;
}

HttpReply NotFound(absl::string_view what) {
  HttpReply reply;
  reply.status = 404;
  reply.body = absl::StrCat("There is no ", ToUtf8(what), " here; see /debug/.\n");
  return reply;
}

std::string FormatBytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return unit == 0 ? absl::StrCat(bytes, " B") : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

}  // namespace weft::debug::internal
