// The TLS protocol of one connection, without input and output: bytes for the peer and from it are
// handed over in memory, so that no call of OpenSSL ever waits.
//
//   ciphertext in   InputRoom(), Filled()        ->  Read()   plaintext
//   ciphertext out  TakeOutput()                 <-  Write()
//
// It is used by one caller at a time, under a lock, but for one thing: while the lock is not held,
// one reader may write into what InputRoom() gave it.
#ifndef WEFT_NETPOLL_TLS_ENGINE_H_
#define WEFT_NETPOLL_TLS_ENGINE_H_

#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "netpoll/tls_context.h"

namespace weft::internal {

// The payload of the errors that are about certificates: OpenSSL's number, as text.
inline constexpr absl::string_view kCertificateErrorUrl = "weft/certificate";

// Bytes, taken in the order in which they were added. Only Room() moves them.
class TlsBytes {
 public:
  absl::string_view data() const { return {bytes_.get() + begin_, end_ - begin_}; }
  bool empty() const { return begin_ == end_; }

  // Space for `n` bytes or more behind the last one, valid until the next Room() or Release().
  absl::Span<char> Room(size_t n);
  void Filled(size_t n) { end_ += n; }
  void Append(absl::string_view bytes);
  void Consume(size_t n) { begin_ += n; }
  // Gives the memory back, where it is more than `keep` bytes. It is empty.
  void Release(size_t keep);

 private:
  std::unique_ptr<char[]> bytes_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
};

class TlsEngine {
 public:
  enum class Step : uint8_t {
    kDone,
    kNeedsInput,  // nothing has been done; again when there is more from the peer
    kEnd,         // of Read(): the peer has said that it has sent all (close_notify)
    kShut,        // of Write(): CloseNotify() has been called
    kFailed,      // for good; error() says why
  };
  struct Result {
    Step step;
    size_t n = 0;
  };

  // One record, with what the protocol adds.
  static constexpr size_t kInputBytes = (16 << 10) + 512;

  TlsEngine() = default;
  TlsEngine(const TlsEngine&) = delete;
  TlsEngine& operator=(const TlsEngine&) = delete;

  // First of all, and once: `name` is what a server's certificate must be for, and where it is a
  // name and no address what the server is told.
  absl::Status Start(std::shared_ptr<TlsContext> context, absl::string_view name);

  Result Handshake();
  // 1 to buffer.size() bytes.
  Result Read(absl::Span<char> buffer);
  // Whether Read() would do anything but need input. kDone, kEnd and kFailed mean yes.
  Step Peek();
  // All of it becomes output, but for errors.
  Result Write(absl::string_view data);
  // Tells the peer that nothing more will be sent; the same as often as it is called. Only after
  // the handshake.
  void CloseNotify();

  const absl::Status& error() const { return error_; }

  // Where ciphertext from the peer goes, and that `n` bytes of it are there now.
  absl::Span<char> InputRoom() { return input_.Room(kInputBytes); }
  void Filled(size_t n) { input_.Filled(n); }

  // Whether there is something for the peer; it is swapped with `bytes`, which is empty.
  bool has_output() const { return !output_.empty(); }
  void TakeOutput(TlsBytes& bytes) { std::swap(output_, bytes); }

  // Gives buffers back that hold nothing. Not while somebody has InputRoom().
  void ReleaseBuffers();

  SSL* ssl() const { return ssl_.get(); }

  // For callbacks from within OpenSSL.
  static TlsEngine* Of(const SSL* ssl);
  static int OnCertificate(int ok, X509_STORE_CTX* store);
  void KeepSession(SslSessionPtr session);

 private:
  static const BIO_METHOD* Methods();
  static int OnRead(BIO* bio, char* buffer, int size);
  static int OnWrite(BIO* bio, const char* data, int size);
  static long OnControl(BIO* bio, int command, long number, void* pointer);

  // What a call of OpenSSL that returned no success came to.
  Result Fail(int returned);
  absl::Status ErrorOf();
  absl::Status CertificateError() const;

  std::shared_ptr<TlsContext> context_;
  TlsBytes input_;
  TlsBytes output_;
  absl::Status error_;
  std::string name_;
  // Of the first certificate that was not good.
  std::string refused_subject_;
  SslPtr ssl_;
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_TLS_ENGINE_H_
