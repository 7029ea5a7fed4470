// Who holds which lock, in the order in which they are taken:
//
//   handshake_  who does the handshake; all others wait for it
//   writes_     who sends; held while the connection below is written to
//   reads_      who receives; held while the connection below is read from
//   mutex_      who is in the engine, that is in OpenSSL; never held across a wait
//
// Reading, too, makes something to be sent: alerts, answers to a change of keys. A reader sends it
// if nobody else is sending, and else leaves it to whoever is: it never waits for writes_.
#include "netpoll/tls.h"

#include <openssl/x509.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "netpoll/io_result.h"
#include "netpoll/op_error.h"
#include "netpoll/syscall.h"
#include "netpoll/tls_context.h"
#include "netpoll/tls_engine.h"
#include "sched/goroutine.h"
#include "sched/sync/mutex.h"

namespace weft {
namespace internal {
namespace {

using Step = TlsEngine::Step;

// How much is encrypted before it is sent: some records for each system call.
constexpr size_t kBatchBytes = 64 << 10;
constexpr size_t kRecordBytes = 16 << 10;
// What a connection that is in use keeps of a buffer for sending.
constexpr size_t kKeptBytes = 4096;
constexpr absl::Duration kCloseTime = absl::Seconds(5);

absl::Status NoConnection(absl::string_view op) {
  return OpError({op, "tls"}, IoResult::kClosing, "");
}

constexpr absl::string_view kHandshake = "handshake";

// An error of the connection below that the handshake had, as the handshake's.
absl::Status InHandshake(const absl::Status& cause) {
  if (absl::StartsWith(cause.message(), kHandshake)) return cause;
  absl::Status status(cause.code(), absl::StrCat("tls handshake: ", cause.message()));
  cause.ForEachPayload([&status](absl::string_view url, const absl::Cord& payload) {
    status.SetPayload(url, payload);
  });
  return status;
}

}  // namespace

class TlsSocket {
 public:
  TlsSocket(Conn conn, std::shared_ptr<TlsContext> context, absl::string_view name)
      : conn_(std::move(conn)) {
    if (absl::Status s = engine_.Start(std::move(context), name); !s.ok()) handshake_error_ = s;
  }
  // With a config that cannot be used.
  TlsSocket(Conn conn, absl::Status error)
      : conn_(std::move(conn)), handshake_error_(std::move(error)) {}

  ~TlsSocket() { Close().IgnoreError(); }

  const Conn& conn() const { return conn_; }

  absl::Status Handshake() {
    // Acquire: pairs with the release of whoever has done it.
    if (handshaken_.load(std::memory_order_acquire)) [[likely]]
      return absl::OkStatus();
    MutexLock turn(handshake_);
    if (handshaken_.load(std::memory_order_relaxed)) return absl::OkStatus();
    if (!handshake_error_.ok()) return handshake_error_;
    const absl::Status status = DoHandshake();
    if (status.ok()) {
      handshaken_.store(true, std::memory_order_release);
      return status;
    }
    absl::Status error = InHandshake(status);
    if (!IsTimeout(error)) handshake_error_ = error;
    return error;
  }

  absl::StatusOr<size_t> Read(absl::Span<char> buffer) {
    if (absl::Status s = Handshake(); !s.ok()) return s;
    if (buffer.empty()) return size_t{0};
    MutexLock turn(reads_);
    return ReadInTurn(buffer);
  }

  absl::Status ReadFull(absl::Span<char> buffer) {
    if (absl::Status s = Handshake(); !s.ok()) return s;
    MutexLock turn(reads_);
    for (size_t done = 0; done < buffer.size();) {
      const absl::StatusOr<size_t> n = ReadInTurn(buffer.subspan(done));
      if (!n.ok()) return n.status();
      if (*n == 0) {
        return OpError(At("read"), absl::StatusCode::kOutOfRange,
                       done == 0 ? "EOF" : "unexpected EOF");
      }
      done += *n;
    }
    return absl::OkStatus();
  }

  absl::Status WaitReadable() {
    if (absl::Status s = Handshake(); !s.ok()) return s;
    MutexLock turn(reads_);
    if (closed()) return ClosedError("read");
    Step step;
    {
      MutexLock lock(mutex_);
      step = engine_.Peek();
      if (step == Step::kNeedsInput) engine_.ReleaseBuffers();
    }
    SendWhatIsLeft().IgnoreError();
    if (step != Step::kNeedsInput || at_end_) return absl::OkStatus();
    return conn_.WaitReadable();
  }

  absl::Status Write(absl::string_view data, size_t* written) {
    absl::Status status = Handshake();
    if (!status.ok()) return status;
    {
      MutexLock turn(writes_);
      status = WriteInTurn(data, written);
    }
    return Finish(std::move(status));
  }

  absl::Status Writev(absl::Span<const absl::string_view> pieces, size_t* written) {
    absl::Status status = Handshake();
    if (!status.ok()) return status;
    {
      MutexLock turn(writes_);
      std::string record;
      for (size_t i = 0; i < pieces.size() && status.ok(); ++i) {
        absl::string_view piece = pieces[i];
        if (piece.size() < kRecordBytes && (i + 1 < pieces.size() || !record.empty())) {
          const size_t room = std::min(piece.size(), kRecordBytes - record.size());
          record.append(piece.data(), room);
          piece.remove_prefix(room);
          if (record.size() < kRecordBytes && i + 1 < pieces.size()) continue;
        }
        status = WriteInTurn(record, written);
        record.clear();
        if (status.ok()) status = WriteInTurn(piece, written);
      }
    }
    return Finish(std::move(status));
  }

  absl::StatusOr<size_t> SendFile(int file_fd, off_t offset, size_t n, absl::string_view head) {
    if (absl::Status s = Handshake(); !s.ok()) return s;
    size_t sent = 0;
    absl::Status status;
    {
      MutexLock turn(writes_);
      std::string buffer(head);
      size_t unused = 0;
      do {
        const size_t begin = buffer.size();
        const size_t ask = std::min(n - sent, kBatchBytes);
        buffer.resize(begin + ask);
        const int64_t got =
            PRead(file_fd, buffer.data() + begin, ask, offset + static_cast<off_t>(sent));
        if (got < 0) {
          status = OpError(At("write"), static_cast<int>(-got), "pread");
          break;
        }
        buffer.resize(begin + static_cast<size_t>(got));
        status = WriteInTurn(buffer, &unused);
        if (!status.ok()) break;
        buffer.clear();
        sent += static_cast<size_t>(got);
        if (got == 0) break;
      } while (sent < n);
    }
    status = Finish(std::move(status));
    if (!status.ok()) return status;
    return sent;
  }

  absl::Status CloseWrite() {
    if (!handshaken_.load(std::memory_order_acquire)) {
      return OpError(At("close"), absl::StatusCode::kFailedPrecondition,
                     "the handshake is not done");
    }
    absl::Status status;
    {
      MutexLock turn(writes_);
      if (closed()) return ClosedError("close");
      {
        MutexLock lock(mutex_);
        engine_.CloseNotify();
      }
      status = Send();
    }
    return Finish(std::move(status));
  }

  absl::Status Close() {
    // Acquire: pairs with the release in Handshake().
    if (!closed_.exchange(true, std::memory_order_relaxed) &&
        handshaken_.load(std::memory_order_acquire) && writes_.TryLock()) {
      if (sending_.empty()) {
        {
          MutexLock lock(mutex_);
          engine_.CloseNotify();
        }
        // Fails if it is closed, and then so does the rest.
        conn_.SetWriteDeadline(absl::Now() + kCloseTime).IgnoreError();
        Send().IgnoreError();
      }
      writes_.Unlock();
    }
    return conn_.Close();
  }

  TlsState State() {
    TlsState state;
    if (!handshaken_.load(std::memory_order_acquire)) return state;
    MutexLock lock(mutex_);
    SSL* const ssl = engine_.ssl();
    state.version = SSL_get_version(ssl);
    state.cipher = SSL_get_cipher_name(ssl);
    const unsigned char* alpn = nullptr;
    unsigned int alpn_size = 0;
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_size);
    if (alpn_size > 0) state.alpn.assign(reinterpret_cast<const char*>(alpn), alpn_size);
    const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name != nullptr) state.server_name = name;
    state.resumed = SSL_session_reused(ssl) == 1;
    const auto add = [&state](X509* certificate) {
      unsigned char* der = nullptr;
      const int size = i2d_X509(certificate, &der);
      if (size <= 0) return;
      state.peer_certificates.emplace_back(reinterpret_cast<char*>(der), size);
      OPENSSL_free(der);
    };
    X509* const own = SSL_get0_peer_certificate(ssl);
    if (own != nullptr) add(own);
    // A client has its server's own certificate in this list too, a server its client's not.
    const STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(ssl);
    for (int i = SSL_is_server(ssl) ? 0 : 1; i < sk_X509_num(chain); ++i) {
      add(sk_X509_value(chain, i));
    }
    return state;
  }

 private:
  OpContext At(absl::string_view op) const {
    return {op, "tls", conn_.local_address(), conn_.remote_address()};
  }
  absl::Status Failed(absl::string_view op, const absl::Status& error) const {
    absl::Status status = OpError(At(op), error.code(), error.message());
    error.ForEachPayload([&status](absl::string_view url, const absl::Cord& payload) {
      status.SetPayload(url, payload);
    });
    return status;
  }
  absl::Status ClosedError(absl::string_view op) const {
    return OpError(At(op), IoResult::kClosing, "");
  }
  absl::Status Truncated(absl::string_view op) const {
    return OpError(At(op), absl::StatusCode::kDataLoss, "unexpected EOF");
  }
  bool closed() const { return closed_.load(std::memory_order_relaxed); }

  absl::Status DoHandshake() {
    MutexLock turn(reads_);
    for (;;) {
      TlsEngine::Result result;
      absl::Status error;
      {
        MutexLock lock(mutex_);
        result = engine_.Handshake();
        error = engine_.error();
      }
      // Of a handshake that failed this is the reason, for the peer.
      const absl::Status sent = SendWhatIsLeft();
      if (result.step == Step::kFailed) return Failed(kHandshake, error);
      if (!sent.ok()) return sent;
      if (result.step == Step::kDone) return absl::OkStatus();
      if (absl::Status s = Receive(kHandshake); !s.ok()) return s;
    }
  }

  absl::StatusOr<size_t> ReadInTurn(absl::Span<char> buffer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(reads_) {
    for (;;) {
      if (closed()) return ClosedError("read");
      TlsEngine::Result result;
      bool output = false;
      absl::Status error;
      {
        MutexLock lock(mutex_);
        result = engine_.Read(buffer);
        output = engine_.has_output();
        if (result.step == Step::kFailed) error = engine_.error();
      }
      // An error of sending is for those who write.
      if (output) SendWhatIsLeft().IgnoreError();
      switch (result.step) {
        case Step::kDone:
          return result.n;
        case Step::kEnd:
          return size_t{0};
        case Step::kNeedsInput:
          if (absl::Status s = Receive("read"); !s.ok()) return s;
          break;
        default:
          return Failed("read", error);
      }
    }
  }

  // Has the engine have more of what the peer sends.
  absl::Status Receive(absl::string_view op) ABSL_EXCLUSIVE_LOCKS_REQUIRED(reads_) {
    if (at_end_) return Truncated(op);
    absl::Span<char> room;
    {
      MutexLock lock(mutex_);
      room = engine_.InputRoom();
    }
    const absl::StatusOr<size_t> n = conn_.Read(room);
    if (!n.ok()) return n.status();
    if (*n == 0) {
      at_end_ = true;
      return Truncated(op);
    }
    MutexLock lock(mutex_);
    engine_.Filled(*n);
    received_ += *n;
    return absl::OkStatus();
  }

  absl::Status WriteInTurn(absl::string_view data, size_t* written)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(writes_) {
    // What a write that had no time left over.
    absl::Status status = Send();
    while (status.ok() && !data.empty()) {
      if (closed()) return ClosedError("write");
      TlsEngine::Result result;
      uint64_t received = 0;
      absl::Status error;
      {
        MutexLock lock(mutex_);
        result = engine_.Write(data.substr(0, kBatchBytes));
        received = received_;
        if (result.step == Step::kFailed) error = engine_.error();
      }
      *written += result.n;
      data.remove_prefix(result.n);
      status = Send();
      if (!status.ok()) break;
      if (result.step == Step::kFailed) return Failed("write", error);
      if (result.step == Step::kShut) {
        return OpError(At("write"), absl::StatusCode::kFailedPrecondition,
                       "the sending side is closed");
      }
      if (result.step == Step::kNeedsInput) status = ReceiveForWrite(received);
    }
    return status;
  }

  // A message of the protocol has come in part, and nothing can be written before the rest of it.
  // Waits until more than `received` has been read, by whoever reads or by itself.
  absl::Status ReceiveForWrite(uint64_t received) ABSL_EXCLUSIVE_LOCKS_REQUIRED(writes_) {
    MutexLock turn(reads_);
    {
      MutexLock lock(mutex_);
      if (received_ != received) return absl::OkStatus();
    }
    return Receive("write");
  }

  // Sends what the engine has for the peer, and what was left of that before.
  absl::Status Send() ABSL_EXCLUSIVE_LOCKS_REQUIRED(writes_) {
    for (;;) {
      if (sending_.empty()) {
        MutexLock lock(mutex_);
        has_unsent_ = engine_.has_output();
        if (!has_unsent_) break;
        engine_.TakeOutput(sending_);
      }
      size_t n = 0;
      const absl::Status status = conn_.Write(sending_.data(), &n);
      sending_.Consume(n);
      if (!status.ok()) return status;
    }
    sending_.Release(kKeptBytes);
    return absl::OkStatus();
  }

  // For what was made while somebody else had the lock: either they see it in their Send(), or
  // whoever made it finds the lock free, or they find it here, after they have given the lock back.
  // And for what was left when the time was up.
  absl::Status SendWhatIsLeft() {
    for (;;) {
      {
        MutexLock lock(mutex_);
        if (!engine_.has_output() && !has_unsent_) return absl::OkStatus();
      }
      if (!writes_.TryLock()) return absl::OkStatus();
      const absl::Status status = Send();
      writes_.Unlock();
      if (!status.ok()) return status;
    }
  }
  absl::Status Finish(absl::Status status) {
    if (status.ok()) SendWhatIsLeft().IgnoreError();
    return status;
  }

  static int64_t PRead(int fd, char* buffer, size_t size, off_t offset) {
    BlockingSection section;
    int64_t n;
    do {
      n = RawSyscall(SYS_pread64, fd, buffer, size, offset);
    } while (n == -EINTR);
    return n;
  }

  const Conn conn_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> handshaken_{false};

  Mutex handshake_;
  absl::Status handshake_error_ ABSL_GUARDED_BY(handshake_);

  Mutex writes_;
  TlsBytes sending_ ABSL_GUARDED_BY(writes_);

  Mutex reads_;
  // The connection below has ended.
  bool at_end_ ABSL_GUARDED_BY(reads_) = false;

  Mutex mutex_;
  TlsEngine engine_ ABSL_GUARDED_BY(mutex_);
  // Of what the engine has made, some has been taken from it to be sent, and not all is.
  bool has_unsent_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t received_ ABSL_GUARDED_BY(mutex_) = 0;  // bytes
};

}  // namespace internal

using internal::NoConnection;
using internal::TlsSocket;

absl::Status TlsConn::Handshake() const {
  if (socket_ == nullptr) return NoConnection("handshake");
  return socket_->Handshake();
}

absl::Status TlsConn::Handshake(const Context& context) const {
  if (socket_ == nullptr) return NoConnection("handshake");
  const StopFunc stop = AfterFunc(context, [conn = transport()] { conn.Close().IgnoreError(); });
  const absl::Status status = socket_->Handshake();
  if (stop()) return status;
  if (absl::IsDeadlineExceeded(context.Err())) return internal::TimeoutError("tls handshake: ");
  return absl::CancelledError("tls handshake: operation was canceled");
}

absl::StatusOr<size_t> TlsConn::Read(absl::Span<char> buffer) const {
  if (socket_ == nullptr) return NoConnection("read");
  return socket_->Read(buffer);
}

absl::Status TlsConn::WaitReadable() const {
  if (socket_ == nullptr) return NoConnection("read");
  return socket_->WaitReadable();
}

absl::Status TlsConn::ReadFull(absl::Span<char> buffer) const {
  if (socket_ == nullptr) return NoConnection("read");
  return socket_->ReadFull(buffer);
}

absl::Status TlsConn::Write(absl::string_view data, size_t* written) const {
  size_t unused = 0;
  if (written == nullptr) written = &unused;
  *written = 0;
  if (socket_ == nullptr) return NoConnection("write");
  return socket_->Write(data, written);
}

absl::Status TlsConn::Writev(absl::Span<const absl::string_view> pieces, size_t* written) const {
  size_t unused = 0;
  if (written == nullptr) written = &unused;
  *written = 0;
  if (socket_ == nullptr) return NoConnection("write");
  return socket_->Writev(pieces, written);
}

absl::StatusOr<size_t> TlsConn::SendFile(int file_fd, off_t offset, size_t n,
                                         absl::string_view head) const {
  if (socket_ == nullptr) return NoConnection("write");
  return socket_->SendFile(file_fd, offset, n, head);
}

absl::Status TlsConn::SetDeadline(absl::Time deadline) const {
  return transport().SetDeadline(deadline);
}

absl::Status TlsConn::SetReadDeadline(absl::Time deadline) const {
  return transport().SetReadDeadline(deadline);
}

absl::Status TlsConn::SetWriteDeadline(absl::Time deadline) const {
  return transport().SetWriteDeadline(deadline);
}

absl::Status TlsConn::CloseWrite() const {
  if (socket_ == nullptr) return NoConnection("close");
  return socket_->CloseWrite();
}

absl::Status TlsConn::Close() const {
  if (socket_ == nullptr) return NoConnection("close");
  return socket_->Close();
}

TlsState TlsConn::State() const { return socket_ == nullptr ? TlsState() : socket_->State(); }

absl::string_view TlsConn::network() const { return transport().network(); }

SocketAddress TlsConn::local_address() const { return transport().local_address(); }

SocketAddress TlsConn::remote_address() const { return transport().remote_address(); }

const Conn& TlsConn::transport() const {
  static const Conn* const none = new Conn;
  return socket_ == nullptr ? *none : socket_->conn();
}

TlsConn TlsClient(Conn conn, const TlsConfig& config, absl::string_view server_name) {
  const auto& context = internal::TlsAccess::Of(config);
  if (context == nullptr || context->is_server()) {
    return TlsConn(std::make_shared<TlsSocket>(
        std::move(conn), absl::InvalidArgumentError("tls handshake: no config for a client")));
  }
  const absl::string_view name =
      context->server_name().empty() ? server_name : absl::string_view(context->server_name());
  return TlsConn(std::make_shared<TlsSocket>(std::move(conn), context, name));
}

TlsConn TlsServer(Conn conn, const TlsConfig& config) {
  const auto& context = internal::TlsAccess::Of(config);
  if (context == nullptr || !context->is_server()) {
    return TlsConn(std::make_shared<TlsSocket>(
        std::move(conn), absl::InvalidArgumentError("tls handshake: no config for a server")));
  }
  return TlsConn(std::make_shared<TlsSocket>(std::move(conn), context, ""));
}

int CertificateErrorOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(internal::kCertificateErrorUrl);
  int error = 0;
  if (payload.has_value() && !absl::SimpleAtoi(std::string(*payload), &error)) return 0;
  return error;
}

}  // namespace weft
