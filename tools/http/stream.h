// A client's connection: TCP, or TLS over it. The functions are those of //netpoll:net's Conn.
#ifndef WEFT_TOOLS_HTTP_STREAM_H_
#define WEFT_TOOLS_HTTP_STREAM_H_

#include <sys/types.h>

#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "netpoll/net.h"
#include "netpoll/tls.h"

namespace weft::http {

class Stream {
 public:
  explicit Stream(Conn conn) : conn_(std::move(conn)) {}
  explicit Stream(TlsConn tls) : conn_(tls.transport()), tls_(std::move(tls)) {}

  bool is_tls() const { return static_cast<bool>(tls_); }
  // Nothing, for TCP.
  absl::Status Handshake() const { return is_tls() ? tls_.Handshake() : absl::OkStatus(); }

  absl::StatusOr<size_t> Read(absl::Span<char> buffer) const {
    return is_tls() ? tls_.Read(buffer) : conn_.Read(buffer);
  }
  absl::Status WaitReadable() const {
    return is_tls() ? tls_.WaitReadable() : conn_.WaitReadable();
  }
  absl::Status Write(absl::string_view data) const {
    return is_tls() ? tls_.Write(data) : conn_.Write(data);
  }
  absl::StatusOr<size_t> SendFile(int file_fd, off_t offset, size_t n,
                                  absl::string_view head) const {
    return is_tls() ? tls_.SendFile(file_fd, offset, n, head)
                    : conn_.SendFile(file_fd, offset, n, head);
  }
  // Says that nothing more will be sent.
  absl::Status CloseWrite() const { return is_tls() ? tls_.CloseWrite() : conn_.CloseWrite(); }
  absl::Status Close() const { return is_tls() ? tls_.Close() : conn_.Close(); }

  // Reads find the end, behind what has come; of TLS an unexpected one.
  absl::Status CloseRead() const { return conn_.CloseRead(); }
  absl::Status SetReadDeadline(absl::Time deadline) const {
    return conn_.SetReadDeadline(deadline);
  }
  absl::Status SetWriteDeadline(absl::Time deadline) const {
    return conn_.SetWriteDeadline(deadline);
  }
  SocketAddress remote_address() const { return conn_.remote_address(); }

 private:
  Conn conn_;
  TlsConn tls_;
};

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_STREAM_H_
