#include "netpoll/tls_engine.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace weft::internal {
namespace {

// Buffers up to this size are kept by a connection that is in use.
constexpr size_t kKeptBytes = 4096;

std::string SubjectOf(X509* certificate) {
  if (certificate == nullptr) return "";
  char* const text = X509_NAME_oneline(X509_get_subject_name(certificate), nullptr, 0);
  std::string subject = text == nullptr ? "" : text;
  OPENSSL_free(text);
  return subject;
}

bool IsNumericAddress(const std::string& name) {
  in6_addr address;
  return inet_pton(AF_INET, name.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

}  // namespace

absl::Span<char> TlsBytes::Room(size_t n) {
  if (begin_ == end_) begin_ = end_ = 0;
  if (capacity_ - end_ < n) {
    const absl::string_view old = data();
    if (old.size() + n <= capacity_) {
      memmove(bytes_.get(), old.data(), old.size());
    } else {
      capacity_ = std::max(old.size() + n, 2 * old.size());
      auto larger = std::make_unique<char[]>(capacity_);
      if (!old.empty()) memcpy(larger.get(), old.data(), old.size());
      bytes_ = std::move(larger);
    }
    end_ -= begin_;
    begin_ = 0;
  }
  return {bytes_.get() + end_, capacity_ - end_};
}

void TlsBytes::Append(absl::string_view bytes) {
  if (bytes.empty()) return;
  memcpy(Room(bytes.size()).data(), bytes.data(), bytes.size());
  Filled(bytes.size());
}

void TlsBytes::Release(size_t keep) {
  if (!empty() || capacity_ <= keep) return;
  bytes_.reset();
  capacity_ = begin_ = end_ = 0;
}

const BIO_METHOD* TlsEngine::Methods() {
  static const BIO_METHOD* const methods = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weft");
    BIO_meth_set_read(made, OnRead);
    BIO_meth_set_write(made, OnWrite);
    BIO_meth_set_ctrl(made, OnControl);
    return made;
  }();
  return methods;
}

int TlsEngine::OnRead(BIO* bio, char* buffer, int size) {
  auto* const engine = static_cast<TlsEngine*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const absl::string_view input = engine->input_.data();
  const size_t n = std::min(input.size(), static_cast<size_t>(std::max(size, 0)));
  if (n == 0) {
    // At the end of the stream too: what that means depends on the operation, and is not OpenSSL's
    // to judge, for which it would be the end of the other direction as well.
    BIO_set_retry_read(bio);
    return -1;
  }
  memcpy(buffer, input.data(), n);
  engine->input_.Consume(n);
  return static_cast<int>(n);
}

int TlsEngine::OnWrite(BIO* bio, const char* data, int size) {
  auto* const engine = static_cast<TlsEngine*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (size <= 0) return 0;
  engine->output_.Append({data, static_cast<size_t>(size)});
  return size;
}

long TlsEngine::OnControl(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

TlsEngine* TlsEngine::Of(const SSL* ssl) { return static_cast<TlsEngine*>(SSL_get_app_data(ssl)); }

absl::Status TlsEngine::Start(std::shared_ptr<TlsContext> context, absl::string_view name) {
  context_ = std::move(context);
  name_ = std::string(name);
  if (!name_.empty() && name_.back() == '.') name_.pop_back();
  ERR_clear_error();
  ssl_.reset(SSL_new(context_->ctx()));
  BIO* const bio = ssl_ == nullptr ? nullptr : BIO_new(Methods());
  if (bio == nullptr) return absl::ResourceExhaustedError(TakeOpenSslErrors());
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
  if (context_->is_server()) {
    SSL_set_accept_state(ssl_.get());
    return absl::OkStatus();
  }
  SSL_set_connect_state(ssl_.get());
  const bool numeric = IsNumericAddress(name_);
  if (name_.empty() && context_->verifies()) {
    return absl::InvalidArgumentError(
        "no server name is given that the certificate could be checked for");
  }
  if (!name_.empty() && !numeric && SSL_set_tlsext_host_name(ssl_.get(), name_.c_str()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("bad server name \"", name_, "\""));
  }
  if (context_->verifies()) {
    X509_VERIFY_PARAM* const checks = SSL_get0_param(ssl_.get());
    // A name in the subject, where certificates had it once, means nothing (RFC 9525, 2).
    X509_VERIFY_PARAM_set_hostflags(
        checks, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    const int set = numeric ? X509_VERIFY_PARAM_set1_ip_asc(checks, name_.c_str())
                            : X509_VERIFY_PARAM_set1_host(checks, name_.data(), name_.size());
    if (set != 1)
      return absl::InvalidArgumentError(absl::StrCat("bad server name \"", name_, "\""));
  }
  if (SslSessionPtr session = context_->sessions().Take(name_)) {
    SSL_set_session(ssl_.get(), session.get());
  }
  return absl::OkStatus();
}

TlsEngine::Result TlsEngine::Handshake() {
  if (!error_.ok()) return {Step::kFailed};
  ERR_clear_error();
  const int returned = SSL_do_handshake(ssl_.get());
  return returned == 1 ? Result{Step::kDone} : Fail(returned);
}

TlsEngine::Result TlsEngine::Read(absl::Span<char> buffer) {
  if (!error_.ok()) return {Step::kFailed};
  ERR_clear_error();
  size_t n = 0;
  const int returned = SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &n);
  return returned == 1 ? Result{Step::kDone, n} : Fail(returned);
}

TlsEngine::Step TlsEngine::Peek() {
  if (!error_.ok()) return Step::kFailed;
  if (input_.empty() && SSL_has_pending(ssl_.get()) == 0) return Step::kNeedsInput;
  ERR_clear_error();
  char byte;
  size_t n = 0;
  const int returned = SSL_peek_ex(ssl_.get(), &byte, 1, &n);
  return returned == 1 ? Step::kDone : Fail(returned).step;
}

TlsEngine::Result TlsEngine::Write(absl::string_view data) {
  if (!error_.ok()) return {Step::kFailed};
  if ((SSL_get_shutdown(ssl_.get()) & SSL_SENT_SHUTDOWN) != 0) return {Step::kShut};
  // At once what the records come to.
  if (data.size() > kKeptBytes) output_.Room(data.size() + data.size() / 32 + 512);
  Result result = {Step::kDone};
  while (result.step == Step::kDone && !data.empty()) {
    ERR_clear_error();
    size_t n = 0;
    const int returned = SSL_write_ex(ssl_.get(), data.data(), data.size(), &n);
    if (returned != 1) result.step = Fail(returned).step;
    result.n += n;
    data.remove_prefix(n);
  }
  return result;
}

void TlsEngine::CloseNotify() {
  if (!error_.ok() || (SSL_get_shutdown(ssl_.get()) & SSL_SENT_SHUTDOWN) != 0) return;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

void TlsEngine::ReleaseBuffers() {
  input_.Release(0);
  output_.Release(kKeptBytes);
}

TlsEngine::Result TlsEngine::Fail(int returned) {
  switch (SSL_get_error(ssl_.get(), returned)) {
    case SSL_ERROR_WANT_READ:
      return {Step::kNeedsInput};
    case SSL_ERROR_ZERO_RETURN:
      return {Step::kEnd};
    default:
      error_ = ErrorOf();
      return {Step::kFailed};
  }
}

// The first of the thread's list is the cause, the ones behind it are who else gave up.
absl::Status TlsEngine::ErrorOf() {
  const unsigned long error = ERR_peek_error();
  const std::string errors = TakeOpenSslErrors();
  if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
    const int reason = ERR_GET_REASON(error);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) return CertificateError();
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
      return absl::UnauthenticatedError(errors);
    }
    if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255) {
      absl::string_view alert = SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET);
      // It does not know those of TLS 1.3.
      if (alert == "unknown") alert = absl::StripPrefix(errors, "tlsv13 alert ");
      return absl::AbortedError(absl::StrCat("the peer refuses: ", alert));
    }
  }
  return absl::AbortedError(errors.empty() ? "failed for an unknown reason" : errors);
}

absl::Status TlsEngine::CertificateError() const {
  const long error = SSL_get_verify_result(ssl_.get());
  std::string text = absl::StrCat("certificate refused: ", X509_verify_cert_error_string(error));
  if (error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
    absl::StrAppend(&text, ", it is not for ", name_);
  }
  if (!refused_subject_.empty()) absl::StrAppend(&text, " (subject ", refused_subject_, ")");
  absl::Status status = absl::UnauthenticatedError(text);
  status.SetPayload(kCertificateErrorUrl, absl::Cord(absl::string_view(absl::StrCat(error))));
  return status;
}

int TlsEngine::OnCertificate(int ok, X509_STORE_CTX* store) {
  if (ok == 1) return 1;
  const auto* const ssl = static_cast<const SSL*>(
      X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  TlsEngine* const engine = Of(ssl);
  if (engine->refused_subject_.empty()) {
    engine->refused_subject_ = SubjectOf(X509_STORE_CTX_get_current_cert(store));
  }
  return 0;
}

void TlsEngine::KeepSession(SslSessionPtr session) {
  context_->sessions().Put(name_, std::move(session));
}

}  // namespace weft::internal
