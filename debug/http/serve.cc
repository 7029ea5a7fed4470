#include "debug/http/serve.h"

#include <list>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "debug/http/handler.h"
#include "debug/http/request.h"
#include "netpoll/net.h"
#include "sched/goroutine.h"
#include "sched/sync/semaphore.h"

namespace weft::debug {
namespace {

constexpr size_t kMaxHead = 8 << 10;
constexpr size_t kMaxBody = 64 << 10;
constexpr int kMaxConnections = 32;
// For a request to come, and for each piece of an answer to go.
constexpr absl::Duration kTimeout = absl::Seconds(10);
constexpr size_t kPieceBytes = 256 << 10;
// How long, and for how many bytes, a connection that is over listens to what still comes: closing
// it with bytes unread would reset it, and could take the answer with it.
constexpr absl::Duration kLingerTime = absl::Seconds(1);
constexpr size_t kLingerBytes = 1 << 20;

absl::string_view Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 302:
      return "Found";
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
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
  }
  return status < 500 ? "Bad Request" : "Internal Server Error";
}

HttpReply Refusal(int status, absl::string_view problem) {
  HttpReply reply;
  reply.status = status;
  reply.body = absl::StrCat("The request is refused: ", problem, ".\n");
  return reply;
}

void Send(const Conn& conn, const HttpReply& reply, bool head_only) {
  std::string head = absl::StrCat("HTTP/1.1 ", reply.status, " ", Reason(reply.status), "\r\n");
  absl::StrAppend(&head, "Content-Type: ", reply.content_type, "\r\n");
  for (const auto& [name, value] : reply.fields) {
    absl::StrAppend(&head, name, ": ", value, "\r\n");
  }
  absl::StrAppend(&head, "Content-Length: ", reply.body.size(), "\r\nConnection: close\r\n\r\n");
  const absl::string_view body = head_only ? absl::string_view() : reply.body;
  conn.SetWriteDeadline(absl::Now() + kTimeout).IgnoreError();
  if (!conn.Writev({head, body.substr(0, kPieceBytes)}).ok()) return;
  for (size_t sent = kPieceBytes; sent < body.size(); sent += kPieceBytes) {
    conn.SetWriteDeadline(absl::Now() + kTimeout).IgnoreError();
    if (!conn.Write(body.substr(sent, kPieceBytes)).ok()) return;
  }
}

// Reads until `input` has `size` bytes. False: the client is gone or too slow.
bool ReadUntil(const Conn& conn, size_t size, std::string& input) {
  std::vector<char> buffer(4096);
  while (input.size() < size) {
    const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer));
    if (!n.ok() || *n == 0) return false;
    input.append(buffer.data(), *n);
  }
  return true;
}

// What to answer to the one request of a connection. `head_only`: the body is not wanted.
HttpReply ReplyTo(const Conn& conn, bool local, bool* head_only) {
  std::string input;
  internal::RequestHead head;
  while (head.state == internal::RequestHead::State::kIncomplete) {
    if (input.size() > kMaxHead) return Refusal(431, "its head is too long");
    if (!ReadUntil(conn, input.size() + 1, input)) return Refusal(408, "it did not come in time");
    head = internal::ParseHead(input);
  }
  if (head.state == internal::RequestHead::State::kBad) return Refusal(head.status, head.problem);
  *head_only = head.method == "HEAD";
  if (local && !internal::IsLocalHost(head.host)) {
    return Refusal(403,
                   "the pages are for this machine alone, by the name localhost or an address");
  }
  if (head.content_length > kMaxBody) return Refusal(413, "its body is too long");
  if (head.expects_continue && head.content_length > 0) {
    conn.Write("HTTP/1.1 100 Continue\r\n\r\n").IgnoreError();
  }
  if (!ReadUntil(conn, head.size + head.content_length, input)) {
    return Refusal(408, "its body did not come in time");
  }
  return HandleHttp(head.method, head.target,
                    absl::string_view(input).substr(head.size, head.content_length));
}

void Linger(const Conn& conn) {
  if (!conn.CloseWrite().ok()) return;
  conn.SetReadDeadline(absl::Now() + kLingerTime).IgnoreError();
  std::vector<char> buffer(4096);
  for (size_t dropped = 0; dropped < kLingerBytes;) {
    const absl::StatusOr<size_t> n = conn.Read(absl::MakeSpan(buffer));
    if (!n.ok() || *n == 0) break;
    dropped += *n;
  }
}

}  // namespace

struct HttpServer::State {
  Listener listener;
  bool local = false;  // nobody else's machine can reach it
  Semaphore free{kMaxConnections};

  std::mutex mutex;  // never held across a call that may park
  bool closed = false;
  std::list<Conn> conns;

  void Answer(const Conn& conn) {
    std::list<Conn>::iterator at;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (closed) return;
      at = conns.insert(conns.end(), conn);
    }
    conn.SetReadDeadline(absl::Now() + kTimeout).IgnoreError();
    bool head_only = false;
    const HttpReply reply = ReplyTo(conn, local, &head_only);
    Send(conn, reply, head_only);
    Linger(conn);
    conn.Close().IgnoreError();
    const std::lock_guard<std::mutex> lock(mutex);
    conns.erase(at);
  }

  static void Accept(const std::shared_ptr<State>& state) {
    while (true) {
      state->free.Acquire();
      absl::StatusOr<Conn> conn = state->listener.Accept();
      if (conn.ok()) {
        Go({.name = "debug page"}, [state, conn = *std::move(conn)] {
          state->Answer(conn);
          state->free.Release();
        });
        continue;
      }
      state->free.Release();
      if (IsClosed(conn.status())) return;
      // Out of descriptors: the connection waits in the queue until one is free.
      Sleep(absl::Milliseconds(20));
    }
  }
};

SocketAddress HttpServer::address() const { return state_->listener.addr(); }

std::string HttpServer::url() const {
  const SocketAddress at = address();
  return absl::StrCat("http://",
                      at.IsUnspecified() ? absl::StrCat("localhost:", at.port()) : at.ToString(),
                      "/debug/");
}

void HttpServer::Close() const {
  std::vector<Conn> conns;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (state_->closed) return;
    state_->closed = true;
    conns.assign(state_->conns.begin(), state_->conns.end());
  }
  state_->listener.Close().IgnoreError();
  for (const Conn& conn : conns) conn.Close().IgnoreError();
}

absl::StatusOr<HttpServer> Serve(absl::string_view address) {
  const std::string full =
      absl::StartsWith(address, ":") ? absl::StrCat("127.0.0.1", address) : std::string(address);
  absl::StatusOr<Listener> listener = Listen("tcp", full);
  if (!listener.ok()) return listener.status();
  auto state = std::make_shared<HttpServer::State>();
  state->listener = *std::move(listener);
  state->local = state->listener.addr().IsLoopback();
  Go({.name = "debug pages"}, [state] { HttpServer::State::Accept(state); });
  return HttpServer(std::move(state));
}

}  // namespace weft::debug
