#include "netpoll/tls_config.h"

#include <openssl/x509.h>
#include <stdlib.h>

#include <utility>

#include "netpoll/file.h"
#include "netpoll/tls_context.h"

namespace weft {
namespace {

// OpenSSL by itself would look an authority up in a directory when a certificate names it, and
// block the thread for that. So all are read beforehand, from the file that distributions have.
absl::StatusOr<std::string> SystemAuthorities() {
  if (const char* const file = getenv(X509_get_default_cert_file_env())) return ReadFile(file);
  absl::StatusOr<std::string> text = ReadFile(X509_get_default_cert_file());
  for (const char* const file :
       {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"}) {
    if (!absl::IsNotFound(text.status())) break;
    text = ReadFile(file);
  }
  return text;
}

}  // namespace

absl::StatusOr<TlsCertificate> LoadTlsCertificate(const std::string& chain_file,
                                                  const std::string& key_file) {
  absl::StatusOr<std::string> chain = ReadFile(chain_file);
  if (!chain.ok()) return chain.status();
  absl::StatusOr<std::string> key = ReadFile(key_file);
  if (!key.ok()) return key.status();
  return TlsCertificate{*std::move(chain), *std::move(key)};
}

absl::StatusOr<TlsConfig> TlsConfig::Client(const TlsClientOptions& options) {
  absl::StatusOr<std::string> authorities = options.authorities_pem;
  if (authorities->empty() && !options.insecure_skip_verify) authorities = SystemAuthorities();
  if (!authorities.ok()) return authorities.status();
  absl::StatusOr<std::shared_ptr<internal::TlsContext>> context =
      internal::TlsContext::Client(options, *authorities);
  if (!context.ok()) return context.status();
  return TlsConfig(*std::move(context));
}

absl::StatusOr<TlsConfig> TlsConfig::Server(const TlsServerOptions& options) {
  absl::StatusOr<std::shared_ptr<internal::TlsContext>> context =
      internal::TlsContext::Server(options);
  if (!context.ok()) return context.status();
  return TlsConfig(*std::move(context));
}

}  // namespace weft
