// A server of the pages of this program (handler.h), on this machine alone unless it is told else.
//
//   absl::StatusOr<weft::debug::HttpServer> server = weft::debug::Serve("127.0.0.1:6061");
//   if (server.ok()) std::printf("see %s\n", server->url().c_str());
#ifndef WEFT_DEBUG_HTTP_SERVE_H_
#define WEFT_DEBUG_HTTP_SERVE_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "netpoll/address.h"

namespace weft::debug {

// A handle: copies mean the same server, which goes on when there are none.
class HttpServer {
 public:
  // Where it listens; the port is the real one where 0 was asked for.
  SocketAddress address() const;
  // Of the first page: "http://127.0.0.1:6061/debug/".
  std::string url() const;

  // Stops listening and closes all connections. Answers that are being made end by themselves, and
  // nobody gets them. From goroutines and threads; may park for a moment. The second call does
  // nothing.
  void Close() const;

 private:
  struct State;
  friend absl::StatusOr<HttpServer> Serve(absl::string_view address);
  explicit HttpServer(std::shared_ptr<State> state) : state_(std::move(state)) {}

  std::shared_ptr<State> state_;
};

// Listens on `address`, "host:port" as Listen() has it (net.h), but that no host is 127.0.0.1: who
// wants the pages seen from other machines says 0.0.0.0. While it listens on this machine alone,
// requests that name any other host are refused (DNS rebinding).
//
// A goroutine waits for connections from now on, so that a program in which all others wait for
// each other is not reported as a deadlock, and Runtime::Drain() needs a Close() before. 32
// connections are answered at a time; others wait.
//
// Errors as those of Listen(). From goroutines and threads; starts the runtime.
absl::StatusOr<HttpServer> Serve(absl::string_view address);

}  // namespace weft::debug

#endif  // WEFT_DEBUG_HTTP_SERVE_H_
