// TLS connections (1.2 and 1.3, by OpenSSL), which read and write as net.h's Conn does.
//
//   absl::StatusOr<weft::TlsConfig> config = weft::TlsConfig::Client();
//   absl::StatusOr<weft::TlsConn> conn = weft::TlsDial("tcp", "example.org:443", *config,
//                                                      {.timeout = absl::Seconds(10)});
//   if (!conn.ok()) return conn.status();  // "... certificate refused: certificate has expired"
//   conn->Write("GET / HTTP/1.0\r\nHost: example.org\r\n\r\n");
//
//   for (auto c = listener.Accept(); c.ok(); c = listener.Accept()) {
//     weft::Go([conn = weft::TlsServer(*c, server_config)] { Serve(conn); });
//   }
//
// A TlsConn is a handle as Conn is: copies mean the same connection, and the last one closes it.
// From goroutines and threads, in any mix: one Read and one Write go on side by side, several of a
// kind take turns, Close() and deadlines may come at any time. OpenSSL works in memory alone; what
// waits is the Conn below, so that no thread is blocked, and no lock held for the peer.
//
// Errors are those of that Conn, and these:
// - Unauthenticated: the peer's certificate is not good, or there is none where one is required.
//   The text says what about it, and CertificateErrorOf() as a number.
// - Aborted: the peer broke the protocol, or refuses something that we do; nothing can be done with
//   the connection any more.
// - DataLoss "unexpected EOF": the stream ended, and the peer had not said that this is the end (by
//   a close_notify). Somebody between the two may have cut it.
//
// The heap is OpenSSL's to use: a connection takes about 25 KiB of it while it is idle. Nothing
// here may be called from signal handlers, timer callbacks or pollers.
#ifndef WEFT_NETPOLL_TLS_H_
#define WEFT_NETPOLL_TLS_H_

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "chan/context.h"
#include "netpoll/net.h"
#include "netpoll/tls_config.h"

namespace weft {

namespace internal {
class TlsSocket;
}

// What the two ends have agreed on.
struct TlsState {
  std::string version;      // "TLSv1.3"
  std::string cipher;       // "TLS_AES_256_GCM_SHA384"
  std::string alpn;         // the protocol that was chosen; empty: none
  std::string server_name;  // what the client has asked for; empty: nothing
  // A session was continued: the peer has shown no certificate anew.
  bool resumed = false;
  // The peer's certificates, its own first, in DER. They have been checked, unless the config says
  // not to.
  std::vector<std::string> peer_certificates;
};

class TlsConn {
 public:
  // A connection to nothing: every operation fails with an IsClosed() error.
  TlsConn() = default;

  // Does the handshake, if that has not been done: the first Read(), Write(), ... does it too. The
  // deadlines hold for it. After an IsTimeout() error it may be continued by another call; every
  // other error is its result for good. May park.
  absl::Status Handshake() const;
  // The same, until `context` is done: then the connection is closed, and the error is IsTimeout()
  // if the context's deadline has passed, else CANCELLED "operation was canceled".
  absl::Status Handshake(const Context& context) const;

  // As Conn::Read(). 0 is the end that the peer has announced. What was decrypted already is there
  // also after the deadline.
  absl::StatusOr<size_t> Read(absl::Span<char> buffer) const;
  // As Conn::WaitReadable(), and gives the connection's buffers back meanwhile.
  absl::Status WaitReadable() const;
  // As Conn::ReadFull().
  absl::Status ReadFull(absl::Span<char> buffer) const;

  // As Conn::Write(). `*written` is how much was taken: encrypted, but where there is an error not
  // all of it sent. After an IsTimeout() error go on behind that, with a later deadline: what was
  // left goes before.
  absl::Status Write(absl::string_view data, size_t* written = nullptr) const;
  // Small pieces share a record, and are copied for that.
  absl::Status Writev(absl::Span<const absl::string_view> pieces, size_t* written = nullptr) const;

  // As Conn::SendFile(), but the bytes do come through the process, to be encrypted. Reading the
  // file may block the thread, in a BlockingSection.
  absl::StatusOr<size_t> SendFile(int file_fd, off_t offset, size_t n,
                                  absl::string_view head = {}) const;

  // As Conn has them; they are that of the Conn below.
  absl::Status SetDeadline(absl::Time deadline) const;
  absl::Status SetReadDeadline(absl::Time deadline) const;
  absl::Status SetWriteDeadline(absl::Time deadline) const;

  // Tells the peer that this is the end of what we send (close_notify). Writes fail from now on;
  // reads go on. FailedPrecondition before the handshake. May park.
  absl::Status CloseWrite() const;

  // Tells the peer the same, and closes. But where a Write() is under way, or one has failed and
  // left something, the stream is cut off, and the peer can tell. It waits up to five seconds for
  // the room that this takes in the socket's buffer. Calls that wait return IsClosed() errors. The
  // second Close() fails with IsClosed().
  absl::Status Close() const;

  // After the handshake; before, all of it is empty.
  TlsState State() const;

  absl::string_view network() const;
  SocketAddress local_address() const;
  SocketAddress remote_address() const;

  // The connection below, for its options. Neither read from it nor write to it.
  const Conn& transport() const;

  explicit operator bool() const { return socket_ != nullptr; }

 private:
  friend TlsConn TlsClient(Conn conn, const TlsConfig& config, absl::string_view server_name);
  friend TlsConn TlsServer(Conn conn, const TlsConfig& config);
  explicit TlsConn(std::shared_ptr<internal::TlsSocket> socket) : socket_(std::move(socket)) {}

  std::shared_ptr<internal::TlsSocket> socket_;
};

// One end of TLS over `conn`, which is this connection's from now on. A client's `server_name` is
// for where the config has none: what the certificate must be for. Neither waits; a config of the
// other kind, or a name that is none, is an error of the handshake.
TlsConn TlsClient(Conn conn, const TlsConfig& config, absl::string_view server_name = {});
TlsConn TlsServer(Conn conn, const TlsConfig& config);

// Connects as Dial() does, and does the handshake. The time limits are for both together. The host
// of `address` is what the certificate must be for, unless the config has a name.
absl::StatusOr<TlsConn> TlsDial(absl::string_view network, absl::string_view address,
                                const TlsConfig& config, const DialOptions& options = {});
absl::StatusOr<TlsConn> TlsDial(const Context& context, absl::string_view network,
                                absl::string_view address, const TlsConfig& config,
                                const DialOptions& options = {});

// What is wrong with the peer's certificate: X509_V_ERR_CERT_HAS_EXPIRED,
// X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, ... of
// <openssl/x509_vfy.h>. 0: the error is not about that.
int CertificateErrorOf(const absl::Status& status);

}  // namespace weft

#endif  // WEFT_NETPOLL_TLS_H_
