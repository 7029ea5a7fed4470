#include "tools/http/server.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "chan/select.h"
#include "netpoll/error.h"
#include "sched/goroutine.h"

namespace weft::http {
namespace {

using State = ParseResult::State;

// A piece of a file that is sent under one write deadline: a client that takes less than this in
// write_timeout is too slow.
constexpr uint64_t kPieceBytes = 256 << 10;

// Nothing here recurses, or calls code with large frames. Small slots lie side by side, where their
// page tables are shared.
constexpr size_t kStackBytes = 256 << 10;

// How long, and for how many bytes, a connection that is over listens to what still comes.
constexpr absl::Duration kLingerTime = absl::Seconds(5);
constexpr uint64_t kLingerBytes = 16 << 20;

// A head, empty lines that may come before it, and some room to read what follows it.
size_t BufferBytes(const ServerOptions& options) { return 2 * options.max_header_bytes + 2; }

// A deadline that is moved only where it is more than an eighth from where it should be: setting
// one takes longer than reading the clock, and nobody depends on the difference.
class LazyDeadline {
 public:
  // Whether it has to be set to `at`, `timeout` from now.
  bool Moves(absl::Time at, absl::Duration timeout) {
    if (at_ <= at && at - at_ <= timeout / 8) return false;
    at_ = at;
    return true;
  }

 private:
  absl::Time at_ = absl::InfinitePast();
};

}  // namespace

// One connection, and its goroutine's state: what lies here need not lie on its stack.
struct Server::Connection {
  explicit Connection(Stream c) : conn(std::move(c)) {}

  const Stream conn;
  std::string client;  // for the log
  LazyDeadline read_deadline;
  LazyDeadline write_deadline;
  // Waits for a request, or is about to; Stop() may end it.
  std::atomic<bool> idle{false};
  // In the server's list, under its mutex.
  Connection* next = nullptr;
  Connection* previous = nullptr;

  void SetReadDeadline(absl::Duration timeout) {
    const absl::Time at = absl::Now() + timeout;
    if (read_deadline.Moves(at, timeout)) conn.SetReadDeadline(at).IgnoreError();
  }
  void SetWriteDeadline(absl::Duration timeout) {
    const absl::Time at = absl::Now() + timeout;
    if (write_deadline.Moves(at, timeout)) conn.SetWriteDeadline(at).IgnoreError();
  }
};

Server::Server(FileHandler handler, AccessLog* log, const ServerOptions& options)
    : handler_(std::move(handler)),
      log_(log),
      options_(options),
      workspaces_(BufferBytes(options)) {}

void Server::Serve(std::vector<Port> ports) {
  std::vector<Listener> listeners;
  for (const Port& port : ports) listeners.push_back(port.listener);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    listeners_ = listeners;
  }
  // Stop() may have come before there was a listener to close.
  if (stopping_.load(std::memory_order_seq_cst)) {
    for (const Listener& listener : listeners) listener.Close().IgnoreError();
  }
  for (size_t i = 1; i < ports.size(); ++i) {
    Go({.name = "http port"}, [this, port = ports[i]] { AcceptAt(port); });
  }
  AcceptAt(ports[0]);
  stopped_.Recv();
}

void Server::AcceptAt(const Port& port) {
  absl::Time last_complaint = absl::InfinitePast();
  while (true) {
    absl::StatusOr<Conn> conn = port.listener.Accept();
    if (conn.ok()) {
      Start(port.tls ? Stream(TlsServer(*std::move(conn), port.tls)) : Stream(*std::move(conn)));
      continue;
    }
    if (IsClosed(conn.status())) break;
    // Out of descriptors or memory. The connection waits in the queue until one is free.
    if (absl::Now() - last_complaint > absl::Seconds(10)) {
      last_complaint = absl::Now();
      std::fprintf(stderr, "httpd: %s\n", std::string(conn.status().message()).c_str());
    }
    Sleep(absl::Milliseconds(20));
  }
}

void Server::Stop(absl::Duration drain) {
  std::vector<Listener> listeners;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // Pairs with AwaitRequest(): a connection either sees this, or is seen to be idle below.
    stopping_.store(true, std::memory_order_seq_cst);
    listeners = listeners_;
  }
  for (const Listener& listener : listeners) listener.Close().IgnoreError();

  const absl::Time deadline = absl::Now() + drain;
  std::vector<Stream> conns;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (Connection* c = first_; c != nullptr; c = c->next) {
      if (c->idle.load(std::memory_order_seq_cst)) conns.push_back(c->conn);
    }
  }
  // Reads find the end of the stream, but after what has come already: a request that crossed our
  // decision on its way is still answered.
  for (const Stream& conn : conns) conn.CloseRead().IgnoreError();
  const auto wait_until_empty = [this](absl::Time end) {
    while (connections() > 0 && absl::Now() < end)
      Select(empty_.OnRecv(), After(end - absl::Now()));
  };
  wait_until_empty(deadline);

  conns.clear();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (Connection* c = first_; c != nullptr; c = c->next) conns.push_back(c->conn);
  }
  for (const Stream& conn : conns) conn.Close().IgnoreError();
  wait_until_empty(absl::Now() + absl::Seconds(1));
  stopped_.Send(0);
}

void Server::Start(Stream conn) {
  Connection* c = new Connection(std::move(conn));
  if (log_ != nullptr) c->client = c->conn.remote_address().host();
  Link(*c);
  Go({.name = "http connection", .stack_bytes = kStackBytes}, [this, c] {
    Run(*c);
    c->conn.Close().IgnoreError();
    Unlink(*c);
    delete c;
    if (count_.fetch_sub(1, std::memory_order_acq_rel) == 1 &&
        stopping_.load(std::memory_order_seq_cst)) {
      empty_.TrySend(0);
    }
  });
}

void Server::Link(Connection& c) {
  count_.fetch_add(1, std::memory_order_relaxed);
  std::lock_guard<std::mutex> lock(mutex_);
  c.next = first_;
  if (first_ != nullptr) first_->previous = &c;
  first_ = &c;
}

void Server::Unlink(Connection& c) {
  std::lock_guard<std::mutex> lock(mutex_);
  (c.previous != nullptr ? c.previous->next : first_) = c.next;
  if (c.next != nullptr) c.next->previous = c.previous;
}

void Server::Run(Connection& c) {
  if (c.conn.is_tls() && !Greet(c)) return;
  while (AwaitRequest(c) && AnswerRequests(c)) {
  }
}

// The handshake. Whoever has not come to a request is idle. False: the connection is over.
bool Server::Greet(Connection& c) {
  c.SetReadDeadline(options_.header_timeout);
  c.SetWriteDeadline(options_.write_timeout);
  c.idle.store(true, std::memory_order_seq_cst);
  // Pairs with Stop().
  if (stopping_.load(std::memory_order_seq_cst)) return false;
  return c.conn.Handshake().ok();
}

// Parks until something can be read. False: the connection is over.
bool Server::AwaitRequest(Connection& c) {
  c.SetReadDeadline(options_.idle_timeout);
  c.idle.store(true, std::memory_order_seq_cst);
  // Pairs with Stop().
  if (stopping_.load(std::memory_order_seq_cst)) return false;
  const bool readable = c.conn.WaitReadable().ok();
  c.idle.store(false, std::memory_order_seq_cst);
  return readable;
}

// Answers what has come, and what came with it. True: the connection can wait for more.
bool Server::AnswerRequests(Connection& c) {
  std::unique_ptr<Workspace> workspace = workspaces_.Take();
  bool open = true;
  do {
    open = AnswerOne(c, *workspace);
  } while (open && !workspace->unread().empty());
  workspaces_.Give(std::move(workspace));
  return open;
}

// Reads until there is a whole head. kIncomplete: the connection ended before.
ParseResult Server::ReadHead(Connection& c, Workspace& w) {
  bool timed = false;
  while (true) {
    if (!w.unread().empty()) {
      ParseResult result = ParseRequest(w.unread(), options_.max_header_bytes, w.request);
      if (result.state == State::kComplete && w.request.body == BodyKind::kLength) {
        // Again, from the buffer's beginning, so that there is room behind the head.
        w.Room();
        result = ParseRequest(w.unread(), options_.max_header_bytes, w.request);
      }
      if (result.state != State::kIncomplete) return result;
      if (!timed) c.SetReadDeadline(options_.header_timeout);
      timed = true;
    }
    const absl::StatusOr<size_t> n = c.conn.Read(w.Room());
    if (!n.ok() && IsTimeout(n.status()) && !w.unread().empty()) {
      return {State::kBad, 0, 408, "it did not come in time"};
    }
    if (!n.ok() || *n == 0) return {};
    w.Filled(*n);
  }
}

// Reads the body that follows a head of `head_bytes`, to no purpose but to find the next request.
// Views into the head stay valid. False: it did not come.
bool Server::DropBody(Connection& c, Workspace& w, size_t head_bytes) {
  const size_t here = w.unread().size() - head_bytes;
  if (here >= w.request.content_length) {
    w.ConsumeBehind(head_bytes, static_cast<size_t>(w.request.content_length));
    return true;
  }
  uint64_t missing = w.request.content_length - here;
  w.ConsumeBehind(head_bytes, here);
  c.SetReadDeadline(options_.header_timeout);
  if (w.request.expects_continue && !c.conn.Write("HTTP/1.1 100 Continue\r\n\r\n").ok())
    return false;
  while (missing > 0) {
    const absl::Span<char> room = w.RoomBehindUnread();
    const absl::StatusOr<size_t> n =
        c.conn.Read(room.first(static_cast<size_t>(std::min<uint64_t>(room.size(), missing))));
    if (!n.ok() || *n == 0) return false;
    missing -= *n;
  }
  return true;
}

// Answers one request. True: another may follow.
bool Server::AnswerOne(Connection& c, Workspace& w) {
  const ParseResult head = ReadHead(c, w);
  if (head.state == State::kIncomplete) return false;
  if (head.state == State::kBad) return Refuse(c, w, head.status, head.problem);
  const Request& request = w.request;
  if (request.unknown_expectation) return Refuse(c, w, 417, "its expectation is not known");

  // A client that would rather know first gets the answer instead, unless it is going to be good.
  const bool readable = request.method == Method::kGet || request.method == Method::kHead;
  const bool drop = request.body == BodyKind::kLength &&
                    request.content_length <= kMaxDroppedBody &&
                    (readable || !request.expects_continue);
  const bool whole = request.body == BodyKind::kNone || drop;
  w.reply.Reset(request, whole && request.keep_alive && !stopping_.load(std::memory_order_relaxed));
  handler_.Handle(request, w.reply);
  if (drop && !DropBody(c, w, head.consumed)) return false;
  const bool sent = Send(c, w.reply);
  if (log_ != nullptr) Log(c, w);
  w.Consume(head.consumed);
  if (sent && w.reply.keep_alive) return true;
  if (sent && (!whole || !w.unread().empty())) Linger(c);
  return false;
}

// Answers a request that was not understood, after which nothing on the connection can be.
bool Server::Refuse(Connection& c, Workspace& w, int status, absl::string_view problem) {
  w.reply.Reset(w.request, false);
  MakeError(status, absl::StrCat("The request is refused: ", problem), w.reply);
  const bool sent = Send(c, w.reply);
  if (log_ != nullptr) Log(c, w);
  if (sent) Linger(c);
  return false;
}

// False: the client is gone, too slow, or was promised more than there is.
bool Server::Send(Connection& c, Reply& reply) {
  if (reply.parts.empty()) {
    c.SetWriteDeadline(options_.write_timeout);
    if (c.conn.Write(reply.bytes).ok()) return true;
    reply.body_size = 0;
    return false;
  }
  reply.body_size = 0;
  for (Reply::Part& part : reply.parts) {
    // The head goes with what follows it.
    reply.bytes.append(part.text);
    if (!SendPart(c, part, reply)) return false;
    reply.bytes.clear();
    reply.body_size += part.text.size() + part.length;
  }
  return true;
}

bool Server::SendPart(Connection& c, const Reply::Part& part, Reply& reply) {
  absl::string_view head = reply.bytes;
  uint64_t sent = 0;
  do {
    const size_t piece = static_cast<size_t>(std::min(part.length - sent, kPieceBytes));
    c.SetWriteDeadline(options_.write_timeout);
    const absl::StatusOr<size_t> n =
        c.conn.SendFile(reply.file.get(), static_cast<off_t>(part.offset + sent), piece, head);
    if (!n.ok() || *n != piece) return false;
    sent += piece;
    head = {};
  } while (sent < part.length);
  return true;
}

void Server::Linger(Connection& c) {
  if (!c.conn.CloseWrite().ok()) return;
  c.conn.SetReadDeadline(absl::Now() + kLingerTime).IgnoreError();
  std::unique_ptr<Workspace> scratch = workspaces_.Take();
  const absl::Span<char> room = scratch->Room();
  for (uint64_t dropped = 0; dropped < kLingerBytes;) {
    const absl::StatusOr<size_t> n = c.conn.Read(room);
    if (!n.ok() || *n == 0) break;
    dropped += *n;
  }
  workspaces_.Give(std::move(scratch));
}

void Server::Log(const Connection& c, const Workspace& w) {
  AccessLog::Line line;
  line.client = c.client;
  line.method = w.request.method_name;
  line.target = w.request.target;
  line.version = w.request.version_line;
  line.status = w.reply.status;
  line.body_size = w.reply.body_size;
  log_->Add(line);
}

}  // namespace weft::http
