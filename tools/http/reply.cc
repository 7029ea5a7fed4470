#include "tools/http/reply.h"

#include "absl/strings/str_cat.h"
#include "tools/http/date.h"

namespace weft::http {

void Reply::Reset(const Request& request, bool keep) {
  keep_alive = keep;
  minor_version = request.minor_version;
  head_only = request.method == Method::kHead;
  status = 0;
  bytes.clear();
  file.Reset();
  parts.clear();
  body_size = 0;
}

absl::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
  }
  return "Unknown";
}

void BeginHead(int status, Reply& reply) {
  reply.status = status;
  absl::StrAppend(&reply.bytes, "HTTP/1.1 ", status, " ", ReasonPhrase(status),
                  "\r\nServer: weft\r\nDate: ");
  AppendHttpDate(NowSeconds(), reply.bytes);
  reply.bytes.append("\r\n");
}

void AddField(absl::string_view name, absl::string_view value, Reply& reply) {
  absl::StrAppend(&reply.bytes, name, ": ", value, "\r\n");
}

void AddField(absl::string_view name, uint64_t value, Reply& reply) {
  absl::StrAppend(&reply.bytes, name, ": ", value, "\r\n");
}

void EndHead(Reply& reply) {
  if (!reply.keep_alive) {
    reply.bytes.append("Connection: close\r\n\r\n");
  } else if (reply.minor_version == 0) {
    reply.bytes.append("Connection: keep-alive\r\n\r\n");
  } else {
    reply.bytes.append("\r\n");
  }
}

void FinishWithText(absl::string_view content_type, absl::string_view body, Reply& reply) {
  AddField("Content-Type", content_type, reply);
  AddField("Content-Length", body.size(), reply);
  // What we made is of the type that it says, whatever it may look like.
  AddField("X-Content-Type-Options", "nosniff", reply);
  EndHead(reply);
  if (reply.head_only) return;
  reply.bytes.append(body.data(), body.size());
  reply.body_size = body.size();
}

void MakeError(int status, absl::string_view detail, Reply& reply) {
  reply.bytes.clear();
  reply.file.Reset();
  reply.parts.clear();
  reply.body_size = 0;
  BeginHead(status, reply);
  if (status == 405) AddField("Allow", "GET, HEAD", reply);
  if (status == 503) AddField("Retry-After", "1", reply);
  FinishWithText("text/plain; charset=utf-8",
                 absl::StrCat(status, " ", ReasonPhrase(status), "\n\n", detail, ".\n"), reply);
}

}  // namespace weft::http
