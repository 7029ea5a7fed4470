// An HTTP/1.1 server over Weft's net: a goroutine for each connection.
//
//   Server* server = new Server(FileHandler(std::move(root)), nullptr, {});
//   weft::Go([=] { WaitForASignal(); server->Stop(absl::Seconds(10)); });
//   server->Serve({{listener}});   // until Stop() has ended
//
// A port speaks HTTP, or HTTPS where it has a TlsConfig.
//
// A connection between requests is a parked goroutine and some hundred bytes: what it takes to
// answer (a Workspace) is borrowed when the first byte of a request is there and given back before
// the next wait.
//
// The life of a connection:
//
//   greeting  of a port with TLS: does the handshake, for which a request's header_timeout holds
//   idle      waits for the first byte of a request, for up to idle_timeout
//   reading   has part of a head; the rest must come within header_timeout of its first byte, else
//             it is answered with 408
//   answering the body, if there is one, is read and dropped first; then the answer is sent, each
//             piece of which must get on within write_timeout
//   lingering has said all, but bytes may still be on their way from the client: they are read and
//             dropped for a while, as closing at once would reset the connection and could take the
//             answer with it
//   closed
//
// Requests that came together (pipelining) are answered one after the other without a wait.
#ifndef WEFT_TOOLS_HTTP_SERVER_H_
#define WEFT_TOOLS_HTTP_SERVER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "chan/chan.h"
#include "netpoll/net.h"
#include "netpoll/tls.h"
#include "tools/http/access_log.h"
#include "tools/http/file_handler.h"
#include "tools/http/reply.h"
#include "tools/http/request.h"
#include "tools/http/stream.h"
#include "tools/http/workspace.h"

namespace weft::http {

struct ServerOptions {
  size_t max_header_bytes = 8192;  // of a request's head; more is answered with 431 or 414
  // These hold to within an eighth: a deadline that is nearly right is not moved.
  absl::Duration idle_timeout = absl::Seconds(75);
  absl::Duration header_timeout = absl::Seconds(60);
  absl::Duration write_timeout = absl::Seconds(60);
};

// Where connections come in.
struct Port {
  Listener listener;
  TlsConfig tls = {};  // none: HTTP
};

class Server {
 public:
  // Bodies of requests, which mean nothing here, are read up to this size; a longer one ends the
  // connection after the answer.
  static constexpr uint64_t kMaxDroppedBody = 64 << 10;

  // `log` may be null, and outlives the server.
  Server(FileHandler handler, AccessLog* log, const ServerOptions& options);

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Accepts connections and serves them; returns when Stop() is done, once. There is at least one
  // port. While descriptors are short it says so on stderr and goes on when there are some. Parks.
  void Serve(std::vector<Port> ports);

  // Stops accepting, closes idle connections, lets answers that are being sent, and requests of
  // which a part has come, end within `drain`, then closes what is left. Serve() returns after
  // that; the server must outlive it until the process ends, as goroutines that leave may still
  // hold it. From any goroutine or thread, once. Parks.
  void Stop(absl::Duration drain);

  // Connections open now.
  int64_t connections() const { return count_.load(std::memory_order_relaxed); }

 private:
  struct Connection;

  void AcceptAt(const Port& port);
  void Start(Stream conn);
  void Run(Connection& c);
  bool Greet(Connection& c);
  bool AwaitRequest(Connection& c);
  // Apart from Run(), so that its frame is gone while the connection waits.
  [[gnu::noinline]] bool AnswerRequests(Connection& c);
  bool AnswerOne(Connection& c, Workspace& w);
  ParseResult ReadHead(Connection& c, Workspace& w);
  bool DropBody(Connection& c, Workspace& w, size_t head_bytes);
  bool Refuse(Connection& c, Workspace& w, int status, absl::string_view problem);
  bool Send(Connection& c, Reply& reply);
  bool SendPart(Connection& c, const Reply::Part& part, Reply& reply);
  void Linger(Connection& c);
  void Log(const Connection& c, const Workspace& w);
  void Link(Connection& c);
  void Unlink(Connection& c);

  const FileHandler handler_;
  AccessLog* const log_;
  const ServerOptions options_;
  WorkspacePool workspaces_;

  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> count_{0};
  Chan<int> empty_{1};    // gets an element when the last connection ends while stopping
  Chan<int> stopped_{1};  // gets one when Stop() is done

  std::mutex mutex_;  // never held across a call that may park
  std::vector<Listener> listeners_;
  Connection* first_ = nullptr;
};

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_SERVER_H_
