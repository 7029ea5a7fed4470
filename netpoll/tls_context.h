// What is behind a TlsConfig: OpenSSL's contexts, and the sessions that a client may resume.
#ifndef WEFT_NETPOLL_TLS_CONTEXT_H_
#define WEFT_NETPOLL_TLS_CONTEXT_H_

#include <openssl/ssl.h>

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "netpoll/tls_config.h"

namespace weft::internal {

template <typename T, void (*free)(T*)>
struct TlsDeleter {
  void operator()(T* object) const { free(object); }
};
using SslPtr = std::unique_ptr<SSL, TlsDeleter<SSL, SSL_free>>;
using SslCtxPtr = std::unique_ptr<SSL_CTX, TlsDeleter<SSL_CTX, SSL_CTX_free>>;
using SslSessionPtr = std::unique_ptr<SSL_SESSION, TlsDeleter<SSL_SESSION, SSL_SESSION_free>>;
using X509Ptr = std::unique_ptr<X509, TlsDeleter<X509, X509_free>>;

// OpenSSL keeps the errors of its calls in a list of the thread's. Between such a call and the look
// at the list nothing here may park, as the goroutine could go on on another thread.
//
// Takes the list and says in one line what is in it; empty if nothing is.
std::string TakeOpenSslErrors();

// The sessions of the servers that were spoken to last. All functions take a lock of the thread's
// for a moment: they are called from within OpenSSL, where nobody may park.
class TlsSessionCache {
 public:
  explicit TlsSessionCache(size_t size) : size_(size) {}

  // Keeps it as that of `name`, in place of another one.
  void Put(const std::string& name, SslSessionPtr session);
  // A session is used once, so that nobody who looks on can tell that two connections are of one
  // client (RFC 8446, C.4). Null: there is none.
  SslSessionPtr Take(const std::string& name);

 private:
  struct Entry {
    std::string name;
    SslSessionPtr session;
  };

  const size_t size_;
  std::mutex mutex_;
  std::list<Entry> entries_;  // the last one first
};

class TlsContext {
 public:
  static absl::StatusOr<std::shared_ptr<TlsContext>> Client(const TlsClientOptions& options,
                                                            const std::string& authorities_pem);
  static absl::StatusOr<std::shared_ptr<TlsContext>> Server(const TlsServerOptions& options);

  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  bool is_server() const { return is_server_; }
  bool verifies() const { return verifies_; }
  const std::string& server_name() const { return server_name_; }
  // For a new connection.
  SSL_CTX* ctx() const { return contexts_.front().get(); }
  TlsSessionCache& sessions() { return sessions_; }

 private:
  explicit TlsContext(bool is_server, size_t sessions)
      : is_server_(is_server), sessions_(sessions) {}

  static int ChooseCertificate(SSL* ssl, int* alert, void* context);
  static int ChooseProtocol(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size,
                            const unsigned char* offered, unsigned int offered_size, void* context);

  const bool is_server_;
  bool verifies_ = true;
  std::string server_name_;
  std::string alpn_;  // as it is on the wire: each name behind a byte with its size
  // One for each certificate of a server.
  std::vector<SslCtxPtr> contexts_;
  TlsSessionCache sessions_;
};

struct TlsAccess {
  static const std::shared_ptr<TlsContext>& Of(const TlsConfig& config) { return config.context_; }
  static TlsConfig MakeConfig(std::shared_ptr<TlsContext> context) {
    return TlsConfig(std::move(context));
  }
};

}  // namespace weft::internal

#endif  // WEFT_NETPOLL_TLS_CONTEXT_H_
