// What TLS connections have in common: certificates, what is checked, which protocols.
//
//   absl::StatusOr<weft::TlsCertificate> certificate =
//       weft::LoadTlsCertificate("server.pem", "server.key");
//   absl::StatusOr<weft::TlsConfig> config =
//       weft::TlsConfig::Server({.certificates = {*certificate}, .alpn = {"http/1.1"}});
//
// A TlsConfig is made once and shared by any number of connections (tls.h), from goroutines and
// threads, in any mix. It is a handle: copies mean the same one, and it lives as long as a
// connection that uses it.
#ifndef WEFT_NETPOLL_TLS_CONFIG_H_
#define WEFT_NETPOLL_TLS_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace weft {

namespace internal {
class TlsContext;
struct TlsAccess;
}  // namespace internal

enum class TlsVersion : uint8_t { kTls12, kTls13 };

// A certificate with its private key, both as PEM text. Behind the certificate may come those of
// the authorities between it and the root, in this order. The key is not encrypted.
struct TlsCertificate {
  std::string chain_pem;
  std::string key_pem;
};

// Reads both from files. Errors: the system's. May park.
absl::StatusOr<TlsCertificate> LoadTlsCertificate(const std::string& chain_file,
                                                  const std::string& key_file);

struct TlsClientOptions {
  // The name or numeric address that the server's certificate must be for; a name is also sent to
  // the server (SNI). Empty: what TlsDial() connects to.
  std::string server_name = {};
  // The certificates of authorities that are trusted, as PEM. Empty: the system's, which are the
  // file that SSL_CERT_FILE in the environment names, or OpenSSL's default.
  std::string authorities_pem = {};
  // Take any certificate, of anybody, for any name. Whoever sits between the two ends can then read
  // and change everything: for tests.
  bool insecure_skip_verify = false;
  // What to show to servers that ask for a certificate.
  std::vector<TlsCertificate> certificates = {};
  // Application protocols to offer (ALPN), the preferred one first. Empty: none.
  std::vector<std::string> alpn = {};
  TlsVersion min_version = TlsVersion::kTls12;
  TlsVersion max_version = TlsVersion::kTls13;
  // For how many server names a session is kept, so that the next handshake with that server is
  // shorter. 0: each handshake is a full one.
  size_t session_cache_size = 64;
};

// What a server asks of its clients.
enum class TlsClientAuth : uint8_t {
  kNone,
  kIfGiven,   // ask; what is shown must be good
  kRequired,  // ask; no handshake without a good one
};

struct TlsServerOptions {
  // At least one. A client that names the server it wants gets the first one that is for this name;
  // the first of all if none is.
  std::vector<TlsCertificate> certificates = {};
  TlsClientAuth client_auth = TlsClientAuth::kNone;
  // The authorities whose client certificates are good, as PEM. Must not be empty if any are asked
  // for.
  std::string client_authorities_pem = {};
  // Application protocols, the preferred one first. A client that offers protocols, but none of
  // these, is refused. Empty: none is chosen.
  std::vector<std::string> alpn = {};
  TlsVersion min_version = TlsVersion::kTls12;
  TlsVersion max_version = TlsVersion::kTls13;
};

class TlsConfig {
 public:
  // None: handshakes with it fail.
  TlsConfig() = default;

  // Errors: InvalidArgument, saying what is wrong with which part of the options (text that is no
  // PEM, a key that does not belong to its certificate, ...). Client() may park, for the file with
  // the system's authorities, and then returns the system's errors too.
  static absl::StatusOr<TlsConfig> Client(const TlsClientOptions& options = {});
  static absl::StatusOr<TlsConfig> Server(const TlsServerOptions& options);

  explicit operator bool() const { return context_ != nullptr; }

 private:
  friend struct internal::TlsAccess;
  explicit TlsConfig(std::shared_ptr<internal::TlsContext> context)
      : context_(std::move(context)) {}

  std::shared_ptr<internal::TlsContext> context_;
};

}  // namespace weft

#endif  // WEFT_NETPOLL_TLS_CONFIG_H_
