#include "netpoll/tls_context.h"

#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "netpoll/tls_engine.h"

namespace weft::internal {
namespace {

using BioPtr = std::unique_ptr<BIO, TlsDeleter<BIO, BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, TlsDeleter<EVP_PKEY, EVP_PKEY_free>>;

absl::Status Invalid(absl::string_view what) {
  const std::string errors = TakeOpenSslErrors();
  return absl::InvalidArgumentError(
      absl::StrCat("tls: ", what, errors.empty() ? "" : ": ", errors));
}

int WireVersion(TlsVersion version) {
  return version == TlsVersion::kTls12 ? TLS1_2_VERSION : TLS1_3_VERSION;
}

// Nobody is there to be asked for a password.
int NoPassword(char*, int, int, void*) { return -1; }

absl::StatusOr<std::vector<X509Ptr>> ParseCertificates(absl::string_view pem,
                                                       absl::string_view what) {
  if (pem.size() > INT_MAX) return absl::InvalidArgumentError(absl::StrCat("tls: ", what));
  ERR_clear_error();
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  std::vector<X509Ptr> certificates;
  while (X509* const one = PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)) {
    certificates.emplace_back(one);
  }
  const unsigned long error = ERR_peek_last_error();
  const bool at_end =
      ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  if (certificates.empty() || !at_end) return Invalid(absl::StrCat("no certificates in ", what));
  ERR_clear_error();
  return certificates;
}

absl::Status UseCertificate(SSL_CTX* ctx, const TlsCertificate& certificate) {
  absl::StatusOr<std::vector<X509Ptr>> chain =
      ParseCertificates(certificate.chain_pem, "the certificate's chain");
  if (!chain.ok()) return chain.status();
  if (SSL_CTX_use_certificate(ctx, chain->front().get()) != 1) {
    return Invalid("the certificate cannot be used");
  }
  for (size_t i = 1; i < chain->size(); ++i) {
    if (SSL_CTX_add1_chain_cert(ctx, (*chain)[i].get()) != 1) {
      return Invalid("the certificate's chain cannot be used");
    }
  }
  if (certificate.key_pem.size() > INT_MAX) return absl::InvalidArgumentError("tls: the key");
  const BioPtr bio(
      BIO_new_mem_buf(certificate.key_pem.data(), static_cast<int>(certificate.key_pem.size())));
  const KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) return Invalid("no unencrypted private key in the key's text");
  if (SSL_CTX_use_PrivateKey(ctx, key.get()) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
    return Invalid("the private key does not belong to the certificate");
  }
  return absl::OkStatus();
}

absl::Status Trust(SSL_CTX* ctx, absl::string_view pem, bool is_server) {
  absl::StatusOr<std::vector<X509Ptr>> authorities =
      ParseCertificates(pem, "the authorities' text");
  if (!authorities.ok()) return authorities.status();
  for (const X509Ptr& authority : *authorities) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), authority.get()) != 1 ||
        (is_server && SSL_CTX_add_client_CA(ctx, authority.get()) != 1)) {
      return Invalid("an authority's certificate cannot be used");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ProtocolsOnWire(const std::vector<std::string>& names) {
  std::string wire;
  for (const std::string& name : names) {
    if (name.empty() || name.size() > 255) {
      return absl::InvalidArgumentError("tls: an ALPN name has 1 to 255 bytes");
    }
    wire.push_back(static_cast<char>(name.size()));
    wire += name;
  }
  return wire;
}

absl::StatusOr<SslCtxPtr> NewContext(const SSL_METHOD* method, TlsVersion min, TlsVersion max) {
  ERR_clear_error();
  SslCtxPtr ctx(SSL_CTX_new(method));
  if (ctx == nullptr) return Invalid("OpenSSL has no context for us");
  if (min > max) return absl::InvalidArgumentError("tls: min_version is above max_version");
  if (SSL_CTX_set_min_proto_version(ctx.get(), WireVersion(min)) != 1 ||
      SSL_CTX_set_max_proto_version(ctx.get(), WireVersion(max)) != 1) {
    return Invalid("the system's OpenSSL does not allow these versions");
  }
  // A peer that renegotiates could have writes wait for reads, and costs us a handshake for each of
  // its own few bytes. TLS 1.3 has none.
  SSL_CTX_set_options(ctx.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // An idle connection gives its buffers back. The chain that is shown is the one that was given,
  // with nothing added of what this side trusts.
  SSL_CTX_set_mode(ctx.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
  return ctx;
}

// Called by OpenSSL, with a reference to the session, which is kept by returning 1.
int KeepSession(SSL* ssl, SSL_SESSION* session) {
  TlsEngine::Of(ssl)->KeepSession(SslSessionPtr(session));
  return 1;
}

}  // namespace

std::string TakeOpenSslErrors() {
  std::string text;
  while (const unsigned long error = ERR_get_error()) {
    char buffer[256];
    const char* reason = ERR_reason_error_string(error);
    if (reason == nullptr) {
      ERR_error_string_n(error, buffer, sizeof(buffer));
      reason = buffer;
    }
    absl::StrAppend(&text, text.empty() ? "" : ", ", reason);
  }
  return text;
}

void TlsSessionCache::Put(const std::string& name, SslSessionPtr session) {
  if (size_ == 0) return;
  std::list<Entry> dropped;  // freed without the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto old = std::find_if(entries_.begin(), entries_.end(),
                                [&name](const Entry& entry) { return entry.name == name; });
  if (old != entries_.end()) {
    dropped.splice(dropped.end(), entries_, old);
  } else if (entries_.size() == size_) {
    dropped.splice(dropped.end(), entries_, std::prev(entries_.end()));
  }
  entries_.push_front({name, std::move(session)});
}

SslSessionPtr TlsSessionCache::Take(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&name](const Entry& entry) { return entry.name == name; });
  if (found == entries_.end()) return nullptr;
  SslSessionPtr session = std::move(found->session);
  entries_.erase(found);
  return session;
}

absl::StatusOr<std::shared_ptr<TlsContext>> TlsContext::Client(const TlsClientOptions& options,
                                                               const std::string& authorities_pem) {
  std::shared_ptr<TlsContext> context(new TlsContext(false, options.session_cache_size));
  context->server_name_ = options.server_name;
  context->verifies_ = !options.insecure_skip_verify;
  absl::StatusOr<SslCtxPtr> ctx =
      NewContext(TLS_client_method(), options.min_version, options.max_version);
  if (!ctx.ok()) return ctx.status();
  if (context->verifies_) {
    if (absl::Status s = Trust(ctx->get(), authorities_pem, false); !s.ok()) return s;
    SSL_CTX_set_verify(ctx->get(), SSL_VERIFY_PEER, &TlsEngine::OnCertificate);
  }
  for (const TlsCertificate& certificate : options.certificates) {
    if (absl::Status s = UseCertificate(ctx->get(), certificate); !s.ok()) return s;
  }
  absl::StatusOr<std::string> alpn = ProtocolsOnWire(options.alpn);
  if (!alpn.ok()) return alpn.status();
  // (It returns 0 if all is well.)
  if (!alpn->empty() &&
      SSL_CTX_set_alpn_protos(ctx->get(), reinterpret_cast<const unsigned char*>(alpn->data()),
                              static_cast<unsigned int>(alpn->size())) != 0) {
    return Invalid("the ALPN names cannot be used");
  }
  if (options.session_cache_size > 0) {
    SSL_CTX_set_session_cache_mode(ctx->get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx->get(), KeepSession);
  }
  context->contexts_.push_back(*std::move(ctx));
  return context;
}

absl::StatusOr<std::shared_ptr<TlsContext>> TlsContext::Server(const TlsServerOptions& options) {
  if (options.certificates.empty()) {
    return absl::InvalidArgumentError("tls: a server needs a certificate");
  }
  const bool asks = options.client_auth != TlsClientAuth::kNone;
  if (asks && options.client_authorities_pem.empty()) {
    return absl::InvalidArgumentError("tls: client certificates are asked for, of no authority");
  }
  std::shared_ptr<TlsContext> context(new TlsContext(true, 0));
  context->verifies_ = asks;
  absl::StatusOr<std::string> alpn = ProtocolsOnWire(options.alpn);
  if (!alpn.ok()) return alpn.status();
  context->alpn_ = *std::move(alpn);
  for (const TlsCertificate& certificate : options.certificates) {
    absl::StatusOr<SslCtxPtr> ctx =
        NewContext(TLS_server_method(), options.min_version, options.max_version);
    if (!ctx.ok()) return ctx.status();
    if (absl::Status s = UseCertificate(ctx->get(), certificate); !s.ok()) return s;
    SSL_CTX_set_options(ctx->get(), SSL_OP_CIPHER_SERVER_PREFERENCE);
    // Sessions are resumed by tickets, which the clients keep.
    SSL_CTX_set_session_cache_mode(ctx->get(), SSL_SESS_CACHE_OFF);
    constexpr unsigned char kSessionContext[] = "weft";
    SSL_CTX_set_session_id_context(ctx->get(), kSessionContext, sizeof(kSessionContext));
    if (asks) {
      if (absl::Status s = Trust(ctx->get(), options.client_authorities_pem, true); !s.ok()) {
        return s;
      }
      int mode = SSL_VERIFY_PEER;
      if (options.client_auth == TlsClientAuth::kRequired) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
      SSL_CTX_set_verify(ctx->get(), mode, &TlsEngine::OnCertificate);
    }
    if (!context->alpn_.empty()) {
      SSL_CTX_set_alpn_select_cb(ctx->get(), &ChooseProtocol, context.get());
    }
    context->contexts_.push_back(*std::move(ctx));
  }
  // With one certificate too: a session keeps the name only where somebody has agreed to it.
  SSL_CTX_set_tlsext_servername_callback(context->ctx(), &ChooseCertificate);
  SSL_CTX_set_tlsext_servername_arg(context->ctx(), context.get());
  return context;
}

int TlsContext::ChooseCertificate(SSL* ssl, int*, void* context) {
  const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
  for (const SslCtxPtr& ctx : static_cast<TlsContext*>(context)->contexts_) {
    if (X509_check_host(SSL_CTX_get0_certificate(ctx.get()), name, 0, 0, nullptr) == 1) {
      SSL_set_SSL_CTX(ssl, ctx.get());
      break;
    }
  }
  return SSL_TLSEXT_ERR_OK;
}

int TlsContext::ChooseProtocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                               const unsigned char* offered, unsigned int offered_size,
                               void* context) {
  const std::string& ours = static_cast<TlsContext*>(context)->alpn_;
  // Its result is writable for old callers' sake.
  unsigned char* out = nullptr;
  const int found =
      SSL_select_next_proto(&out, chosen_size, reinterpret_cast<const unsigned char*>(ours.data()),
                            static_cast<unsigned int>(ours.size()), offered, offered_size);
  if (found != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *chosen = out;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace weft::internal
